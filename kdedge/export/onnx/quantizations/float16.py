"""Weights and arithmetic in half precision."""

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from kdedge.export.onnx.quantize import OnnxQuantization
from kdedge.text.encoder import Encoded


def float16(source: Path, target: Path, spared: list[str], calibration: Encoded) -> None:
    """Weights and arithmetic in half precision; logits in float32."""
    halves = convert_float_to_float16(
        onnx.load(source), keep_io_types=True, node_block_list=spared, disable_shape_infer=True
    )
    onnx.save(halves, target)


QUANTIZATION = OnnxQuantization(float16, "model_fp16.onnx")
