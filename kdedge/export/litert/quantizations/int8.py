"""The quantization int8, dynamic range: activations are quantized at run time."""

from kdedge.export.litert.quantize import LiteRTQuantization, int8

QUANTIZATION = LiteRTQuantization(int8)
