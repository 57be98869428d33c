"""The quantization int8-full: int8 weights and activations."""

from litert_quantizer.qtyping import QuantGranularity as Granularity
from litert_quantizer.qtyping import TFLOperationName as Op
from litert_quantizer.quantizer import Quantizer

from kdedge.export.litert.quantize import (
    LiteRTQuantization,
    masked_scores_in_float,
)


def int8_full(quantizer: Quantizer, scope: str, granularity: Granularity) -> None:
    """Int8 weights and activations, with ranges from calibration data (arXiv 1712.05877)."""
    quantizer.add_static_config(scope, Op.ALL_SUPPORTED, 8, 8, granularity)
    masked_scores_in_float(quantizer)


# A full-integer graph can use the int8 rows that GATHER returns.
QUANTIZATION = LiteRTQuantization(int8_full, needs_calibration=True, with_lookups=False)
