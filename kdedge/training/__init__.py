"""What fine-tuning, distilling and compressing share."""
