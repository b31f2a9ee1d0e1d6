"""Engines that train a phase: Lightning Fabric's is in `retrace.training`, the others are here."""
