"""Fine-tuning of a teacher."""
