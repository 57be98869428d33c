"""What a benchmark found: the model of a report, its tables, figures, page and comparison."""
