"""Keras to TFLite (LiteRT)."""
