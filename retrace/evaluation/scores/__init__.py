"""Scores that a training validates with; intervals and pictures are not needed for them."""
