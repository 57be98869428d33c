"""Soft labels on disk: the store, its index, import and averaging. Imports no TensorFlow."""
