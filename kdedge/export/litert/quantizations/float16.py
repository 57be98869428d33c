"""The quantization float16: half-precision weights, float32 arithmetic."""

from litert_quantizer import qtyping
from litert_quantizer.algorithm_manager import AlgorithmName
from litert_quantizer.qtyping import QuantGranularity as Granularity
from litert_quantizer.qtyping import TFLOperationName as Op
from litert_quantizer.quantizer import Quantizer

from kdedge.export.litert.quantize import LiteRTQuantization


def float16(quantizer: Quantizer, scope: str, granularity: Granularity) -> None:
    """Half-precision weights, float32 arithmetic."""
    halves = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=16, dtype=qtyping.TensorDataType.FLOAT
        ),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    quantizer.update_quantization_recipe(
        scope, Op.ALL_SUPPORTED, halves, AlgorithmName.FLOAT_CASTING
    )


QUANTIZATION = LiteRTQuantization(float16)
