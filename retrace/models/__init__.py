"""Networks: building them, masked-autoencoder pre-training, weights in and out. Only `published.fetch` downloads."""
