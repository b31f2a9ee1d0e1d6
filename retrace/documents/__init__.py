"""The files that stages and commands write: one module and one frozen model per file."""
