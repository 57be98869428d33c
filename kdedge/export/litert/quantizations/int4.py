"""The quantization int4: dynamic range with int4 weights."""

from litert_quantizer.qtyping import QuantGranularity as Granularity
from litert_quantizer.qtyping import TFLOperationName as Op
from litert_quantizer.quantizer import Quantizer

from kdedge.export.litert.quantize import LiteRTQuantization


def int4(quantizer: Quantizer, scope: str, granularity: Granularity) -> None:
    """Dynamic range with int4 weights; int8 for the ops that LiteRT has no int4 kernel for."""
    quantizer.add_dynamic_config(scope, Op.ALL_SUPPORTED, 8, granularity)
    for op in (Op.EMBEDDING_LOOKUP, Op.FULLY_CONNECTED, Op.CONV_2D):
        quantizer.add_dynamic_config(scope, op, 4, Granularity.CHANNELWISE)


QUANTIZATION = LiteRTQuantization(int4, spared_as="int8")
