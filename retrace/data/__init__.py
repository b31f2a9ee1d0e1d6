"""The canonical data set: manifest, splits, near-duplicates, loading and transforms."""
