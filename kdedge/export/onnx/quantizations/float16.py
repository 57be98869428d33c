"""The quantization float16: half-precision weights and arithmetic."""

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from kdedge.export.onnx.quantize import OnnxQuantization
from kdedge.text.encoder import Encoded


def float16(source: Path, target: Path, spared: list[str], calibration: Encoded) -> None:
    """Half-precision weights and arithmetic; float32 logits."""
    halves = convert_float_to_float16(
        onnx.load(source), keep_io_types=True, node_block_list=spared, disable_shape_infer=True
    )
    onnx.save(halves, target)


QUANTIZATION = OnnxQuantization(float16, "model_fp16.onnx")
