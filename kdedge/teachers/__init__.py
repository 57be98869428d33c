"""Teachers: loading, fine-tuning, and the store of what they say."""
