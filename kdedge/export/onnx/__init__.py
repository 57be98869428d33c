"""Conversion of Keras models to ONNX, and quantization."""
