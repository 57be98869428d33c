"""Dynamic range: int8 weights; activations are quantized on the fly."""

from kdedge.export.litert.quantize import LiteRTQuantization, int8

QUANTIZATION = LiteRTQuantization(int8)
