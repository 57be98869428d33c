"""Conversion of Keras models to TFLite (LiteRT), and quantization."""
