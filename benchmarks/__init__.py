"""Speed and memory beside what a user would run instead: `python -m benchmarks.<name>` (docs/benchmarks.md)."""
