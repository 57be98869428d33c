"""The study of distillation: what is trained (grid), how, how results are compared, and tables."""
