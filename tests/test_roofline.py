"""Counts of benchmarks/roofline.py, compared with counts by hand."""

from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper

from benchmarks.roofline import Work, compare_with_roofline, litert_work, onnx_work
from kdedge.export.onnx.convert import to_onnx

# Of the model below, for a text of 8 tokens.
CONV = 8 * 6 * (3 * 4)  # 8 places, 6 filters, 3 tokens of 4 values
SCORES = 8 * 8 * 6
MIXED = 8 * 6 * 8
DENSE = 48 * 64
HEAD = 64 * 2
MACS = CONV + SCORES + MIXED + DENSE + HEAD
# 8 rows of 4, then the weights.
VALUES = 8 * 4 + 6 * 3 * 4 + 48 * 64 + 64 * 2


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A model with an embedding, a convolution, two products of activations, two dense layers."""
    ids, mask, segment_ids = (
        keras.Input((8,), 1, "int32", name=name) for name in ("ids", "mask", "segment_ids")
    )
    rows = keras.layers.Embedding(1000, 4)(ids)
    found = keras.layers.Conv1D(6, 3, padding="same")(rows)
    mixed = keras.layers.Dot((2, 1))([keras.layers.Dot((2, 2))([found, found]), found])
    hidden = keras.layers.Dense(64)(keras.layers.Flatten()(mixed))
    logits = keras.layers.Dense(2)(hidden)
    return keras.Model({"ids": ids, "mask": mask, "segment_ids": segment_ids}, logits)


def test_litert_work(model: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    model.export(path, format="litert", verbose=False)
    assert litert_work(path.read_bytes(), 8) == Work({"float32": MACS}, 4 * VALUES)

    # The converter makes int8 of weights of 1,024 values and more.
    model.export(path, format="litert", verbose=False, optimizations=[tf.lite.Optimize.DEFAULT])
    smaller = 3 * (8 * 4 + 48 * 64)
    assert litert_work(path.read_bytes(), 8) == Work(
        {"float32": MACS - DENSE, "int8": DENSE}, 4 * VALUES - smaller
    )


def test_onnx_work(model: keras.Model) -> None:
    assert onnx_work(to_onnx(model), 8) == Work({"float32": MACS}, 4 * VALUES)


def test_onnx_work_in_integers() -> None:
    """An embedding in int8, then one product in integers, and one with float16 weights."""
    tables = {
        "table": np.ones((50, 4), np.int8),
        "scale": np.float32(1.0),
        "weights": np.ones((4, 3), np.int8),
        "last": np.ones((3, 2), np.float16),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("DequantizeLinear", ["rows", "scale"], ["real rows"]),
        helper.make_node("DequantizeLinear", ["weights", "scale"], ["real weights"]),
        helper.make_node("MatMul", ["real rows", "real weights"], ["hidden"]),
        helper.make_node("Cast", ["last"], ["real last"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["hidden", "real last"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in tables.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    content = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    for length in (5, 10):
        assert onnx_work(content, length) == Work(
            {"int8": length * 4 * 3, "float32": length * 3 * 2},
            length * 4 + 12 + 2 * 6,
        )


@pytest.mark.parametrize(
    ("p50_ms", "bandwidth", "bound", "times"),
    [
        (4.0, 1e9, "arithmetic", 4 / 3),  # 3 ms of arithmetic, 1 ms of memory
        (6.1, 1e9, "overhead", 6.1 / 3),  # 3 of 6.1 is less than a half
        (6.1, 2e8, "memory", 6.1 / 5),  # 5 ms of memory
    ],
)
def test_bounds(p50_ms: float, bandwidth: float, bound: str, times: float) -> None:
    work = Work({"float32": 1_000_000, "int8": 4_000_000}, 1_000_000)
    found = compare_with_roofline(work, p50_ms, {"float32": 1e9, "int8": 2e9}, bandwidth)
    assert found["bound"] == bound
    assert found["could_be_times_faster"] == pytest.approx(times)
    assert found["share_of_peak"] == pytest.approx(3 / p50_ms)
    assert found["gmacs_a_second"] == pytest.approx(5 / p50_ms)
