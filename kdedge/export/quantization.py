"""How artifacts are made smaller: a named function each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime.quantization as ort_quantization
import tensorflow as tf

LITERT: dict[str, Callable[[Any], None]] = {}
ONNX: dict[str, Callable[[Path, Path], None]] = {}


def litert_float32(converter: Any) -> None:
    """Weights and arithmetic in float32."""


def litert_int8(converter: Any) -> None:
    """Dynamic range: int8 weights, the embedding's too; activations are quantized on the fly."""
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def onnx_float32(source: Path, target: Path) -> None:
    """Weights and arithmetic in float32."""
    source.rename(target)


def onnx_int8(source: Path, target: Path) -> None:
    """Dynamic range: int8 embeddings and dense layers; convolutions stay in float32.

    ONNX Runtime's ConvInteger is several times slower on CPUs than the float convolution.
    """
    prepared = source.with_suffix(".prepared.onnx")
    ort_quantization.quant_pre_process(source, prepared, skip_symbolic_shape=True)
    ort_quantization.quantize_dynamic(
        prepared,
        target,
        op_types_to_quantize=["MatMul", "Gather"],
        weight_type=ort_quantization.QuantType.QInt8,
    )


LITERT.update(float32=litert_float32, int8=litert_int8)
ONNX.update(float32=onnx_float32, int8=onnx_int8)
