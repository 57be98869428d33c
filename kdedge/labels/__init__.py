"""Soft labels on disk. Imports no TensorFlow."""
