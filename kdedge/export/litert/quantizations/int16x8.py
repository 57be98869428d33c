"""The quantization int16x8: int8 weights and int16 activations."""

from litert_quantizer.qtyping import QuantGranularity as Granularity
from litert_quantizer.qtyping import TFLOperationName as Op
from litert_quantizer.quantizer import Quantizer

from kdedge.export.litert.quantize import (
    LiteRTQuantization,
    int8_table,
    masked_scores_in_float,
)


def int16x8(quantizer: Quantizer, scope: str, granularity: Granularity) -> None:
    """Int8 weights and int16 activations, with ranges from calibration data."""
    quantizer.add_static_config(scope, Op.ALL_SUPPORTED, 16, 8, granularity)
    int8_table(quantizer, scope)
    masked_scores_in_float(quantizer)


QUANTIZATION = LiteRTQuantization(int16x8, needs_calibration=True)
