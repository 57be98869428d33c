"""Quantization of a float32 `.onnx` file."""

import logging
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime.quantization as ort_quantization
from onnxruntime.transformers.float16 import convert_float_to_float16

from kdedge.export.onnx.convert import INPUTS, replace_all
from kdedge.text.encoder import Encoded

MULTIPLYING = ["MatMul", "Gemm", "Conv"]
WITH_WEIGHTS = [*MULTIPLYING, "Gather"]
FLOAT = onnx.TensorProto.FLOAT


class OnnxQuantization:
    """One way to quantize one float32 `.onnx` file; some layers can be spared.

    Args:
        content: of the file, as `to_onnx` makes it.
        quantization: a name in `RECIPES`.
        calibration: int32 [texts, length] inputs of real texts, for the ranges of activations.

    Attributes:
        layers: names of the nodes with weights.
        spared_as: what a layer that is spared computes in.
    """

    spared_as = "float32"

    def __init__(self, content: bytes, quantization: str, calibration: Encoded) -> None:
        self.content, self.calibration = content, calibration
        self.recipe = RECIPES[quantization]
        graph = onnx.load_from_string(content).graph
        weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 1}
        self.layers = tuple(
            node.name
            for node in graph.node
            if node.op_type in WITH_WEIGHTS and weights & {*node.input}
        )

    def __call__(self, spared: Collection[str] = ()) -> bytes:
        """The quantized file, but for the layers `spared`."""
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
            source.write_bytes(self.content)
            # The warning is about a preparation that `to_onnx` has done.
            logging.disable(logging.WARNING)
            try:
                self.recipe(source, target, list(spared), self.calibration)
            finally:
                logging.disable(logging.NOTSET)
            return target.read_bytes()


def float16(source: Path, target: Path, spared: list[str], calibration: Encoded) -> None:
    """Weights and arithmetic in half precision; logits in float32."""
    halves = convert_float_to_float16(
        onnx.load(source), keep_io_types=True, node_block_list=spared, disable_shape_infer=True
    )
    onnx.save(halves, target)


def int8(source: Path, target: Path, spared: list[str], calibration: Encoded) -> None:
    """Dynamic range: int8 embeddings and dense layers; convolutions stay in float32.

    ONNX Runtime's ConvInteger is several times slower on CPUs than the float convolution.
    """
    ort_quantization.quantize_dynamic(
        _with_int8_embeddings(source, spared),
        target,
        op_types_to_quantize=["MatMul"],
        weight_type=ort_quantization.QuantType.QInt8,
        nodes_to_exclude=spared,
    )


def int8_static(source: Path, target: Path, spared: list[str], calibration: Encoded) -> None:
    """Int8 weights and activations, whose ranges come from calibration, as pairs of
    QuantizeLinear and DequantizeLinear (QDQ)."""  # noqa: D205, D209
    ort_quantization.quantize_static(
        _with_int8_embeddings(source, spared),
        target,
        _Calibration(calibration),
        quant_format=ort_quantization.QuantFormat.QDQ,
        op_types_to_quantize=MULTIPLYING,
        per_channel=True,
        activation_type=ort_quantization.QuantType.QInt8,
        weight_type=ort_quantization.QuantType.QInt8,
        nodes_to_exclude=spared,
    )


def _with_int8_embeddings(source: Path, spared: list[str]) -> Any:
    """The graph with tables of int8 and a scale a row.

    ONNX Runtime's own quantization has one scale for a whole table, which costs students accuracy.
    """
    proto = onnx.load(source)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes = []
    for node in proto.graph.node:
        nodes.append(node)
        table = tensors.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or len(table.dims) != 2 or node.name in spared:
            continue
        vectors = onnx.numpy_helper.to_array(table)
        scales = np.abs(vectors).max(1, keepdims=True) / 127
        scales[scales == 0] = 1
        rows = np.round(vectors / scales).astype(np.int8)
        name, ids, output = table.name, node.input[1], node.output[0]
        table.CopyFrom(onnx.numpy_helper.from_array(rows, name))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(scales, f"{name}_scales"))
        node.output[0] = f"{output}_int8"
        nodes += [
            onnx.helper.make_node("Cast", [f"{output}_int8"], [f"{output}_float"], to=FLOAT),
            onnx.helper.make_node("Gather", [f"{name}_scales", ids], [f"{output}_scales"]),
            onnx.helper.make_node("Mul", [f"{output}_float", f"{output}_scales"], [output]),
        ]
    replace_all(proto.graph.node, nodes)
    return proto


Recipe = Callable[[Path, Path, list[str], Encoded], None]
RECIPES: dict[str, Recipe] = {"float16": float16, "int8": int8, "int8-static": int8_static}


class _Calibration(ort_quantization.CalibrationDataReader):
    def __init__(self, encoded: Encoded) -> None:
        arrays = (encoded.ids, encoded.mask, encoded.segment_ids)
        self.rows = iter(
            {
                name: array[i : i + 1].astype(np.int64)
                for name, array in zip(INPUTS, arrays, strict=True)
            }
            for i in range(len(encoded.ids))
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next text's inputs."""
        return next(self.rows, None)
