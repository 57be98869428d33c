"""Quantizes float32 `.onnx` files."""

import logging
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from kdedge.export.onnx.convert import replace_all
from kdedge.text.encoder import Encoded

WITH_WEIGHTS = ["MatMul", "Gemm", "Conv", "Gather"]
FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True)
class OnnxQuantization:
    """A way to quantize `.onnx` files.

    Attributes:
        apply: reads a file and writes the quantized one, without the nodes in a list.
        file: name of the file; transformers.js and optimum expect certain names.
        needs_calibration: whether it needs calibration data.
    """

    apply: Callable[[Path, Path, list[str], Encoded], None]
    file: str
    needs_calibration: bool = False


class OnnxQuantizer:
    """Quantizes one float32 `.onnx` file in one way; layers can be left out.

    Args:
        content: the file, as `to_onnx` makes it.
        quantization: how to quantize it.
        calibration: calibration data, int32 [texts, length].

    Attributes:
        layers: names of the nodes with weights.
        spared_as: precision of the layers that are left out.
    """

    spared_as = "float32"

    def __init__(
        self, content: bytes, quantization: OnnxQuantization, calibration: Encoded
    ) -> None:
        self.content, self.calibration = content, calibration
        self.quantization = quantization
        graph = onnx.load_from_string(content).graph
        weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 1}
        self.layers = tuple(
            node.name
            for node in graph.node
            if node.op_type in WITH_WEIGHTS and weights & {*node.input}
        )

    def __call__(self, spared: Collection[str] = ()) -> bytes:
        """The quantized file, without quantizing the layers `spared`."""
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
            source.write_bytes(self.content)
            # It warns of a missing preparation that `to_onnx` has done.
            logging.disable(logging.WARNING)
            try:
                self.quantization.apply(source, target, list(spared), self.calibration)
            finally:
                logging.disable(logging.NOTSET)
            return target.read_bytes()


def with_int8_embeddings(source: Path, spared: list[str]) -> Any:
    """The graph with int8 embedding tables and one scale for each row.

    ONNX Runtime's own quantization has one scale for the whole table, which costs accuracy.
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
