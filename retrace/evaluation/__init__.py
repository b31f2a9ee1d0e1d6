"""Scores with their uncertainty: confusion matrices, COCO evaluation, bootstrap intervals and speed."""
