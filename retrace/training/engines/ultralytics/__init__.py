"""Phases with `engine: ultralytics`."""
