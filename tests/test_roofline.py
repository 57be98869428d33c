"""What benchmarks/roofline.py counts, against numbers worked out by hand."""

import sys

import numpy as np
import onnx
from conftest import ROOT
from onnx import TensorProto, helper

sys.path.insert(0, str(ROOT / "benchmarks"))

from roofline import count_model  # noqa: E402


def test_multiplications_and_weights_of_each_kind_of_node() -> None:
    def array(name: str, *shape: int) -> onnx.TensorProto:
        return onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name)

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),  # [5, 4] x [4, 6]: 5*6*4
        helper.make_node("Transpose", ["y"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["y", "t"], ["z"]),  # [5, 6] x [6, 5]: 5*5*6, no weights
        helper.make_node("Gemm", ["z", "g"], ["u"], transB=1),  # [5, 5] x [3, 5]': 5*3*5
        helper.make_node("Unsqueeze", ["u", "axes"], ["v"]),
        helper.make_node("Conv", ["v", "c"], ["out"]),  # [1, 5, 3] * [2, 5, 2]: 2*2 of 5*2
    ]
    axes = onnx.numpy_helper.from_array(np.array([0]), "axes")
    weights = [array("w", 4, 6), array("g", 3, 5), array("c", 2, 5, 2), axes]
    graph = helper.make_graph(
        nodes,
        "hand",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    macs, count = count_model(model, {"x": np.zeros((5, 4), np.float32)})
    assert macs == 120 + 150 + 75 + 40
    assert count == 24 + 15 + 20
