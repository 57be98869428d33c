"""A large language model as the teacher, asked by prompts. Imports no TensorFlow."""
