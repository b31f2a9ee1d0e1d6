"""Fast kernels of our own, each with its reason."""
