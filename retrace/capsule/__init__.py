"""`retrace pack`: one zip with all that a stranger needs to check a study, and the reader of it."""
