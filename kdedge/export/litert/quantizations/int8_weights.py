"""The quantization int8-weights (weight-only): int8 weights, float32 arithmetic."""

from litert_quantizer.qtyping import QuantGranularity as Granularity
from litert_quantizer.qtyping import TFLOperationName as Op
from litert_quantizer.quantizer import Quantizer

from kdedge.export.litert.quantize import LiteRTQuantization, int8_table


def int8_weights(quantizer: Quantizer, scope: str, granularity: Granularity) -> None:
    """Int8 weights, float32 arithmetic."""
    quantizer.add_weight_only_config(scope, Op.ALL_SUPPORTED, 8, granularity)
    int8_table(quantizer, scope)


QUANTIZATION = LiteRTQuantization(int8_weights)
