"""Intervals and effects. Knows numbers only."""
