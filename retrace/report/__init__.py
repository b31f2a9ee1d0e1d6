"""What a reader sees: numbers with their sources, tables, figures, verdicts, provenance and the two pages."""
