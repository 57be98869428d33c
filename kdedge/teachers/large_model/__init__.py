"""Uses a large language model as the teacher, with prompts. Imports no TensorFlow."""
