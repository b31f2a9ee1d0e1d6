"""Training: the loop on Lightning Fabric, losses, optimization, resumable checkpoints and the live monitor."""
