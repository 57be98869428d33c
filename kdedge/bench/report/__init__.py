"""The report of a benchmark: its model, tables, figures, page and comparison."""
