"""Networks: building them, masked-autoencoder pre-training, weights in and out. Nothing here downloads unless `fetch` is called."""
