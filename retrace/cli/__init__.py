"""What stands behind `retrace ...`: each command a thin front for what the stages already do."""
