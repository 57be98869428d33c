"""The quantization int8, dynamic range: activations are quantized at run time."""

from pathlib import Path

import onnxruntime.quantization as ort_quantization

from kdedge.export.onnx.quantize import OnnxQuantization, with_int8_embeddings
from kdedge.text.encoder import Encoded


def int8(source: Path, target: Path, spared: list[str], calibration: Encoded) -> None:
    """Dynamic range: int8 embeddings and dense layers; convolutions stay in float32.

    On CPUs, ONNX Runtime's ConvInteger is several times slower than the float convolution.
    """
    ort_quantization.quantize_dynamic(
        with_int8_embeddings(source, spared),
        target,
        op_types_to_quantize=["MatMul"],
        weight_type=ort_quantization.QuantType.QInt8,
        nodes_to_exclude=spared,
    )


QUANTIZATION = OnnxQuantization(int8, "model_quantized.onnx")
