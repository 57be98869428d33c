"""Keras to ONNX, and the quantization of what came out."""

import contextlib
import hashlib
import io
import logging
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import onnxruntime.quantization as ort_quantization
import tensorflow as tf
import tf2onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from kdedge.errors import KdedgeError
from kdedge.text.encoder import Encoded

OPSET = 17
MULTIPLYING = ["MatMul", "Gemm", "Conv"]
WITH_WEIGHTS = [*MULTIPLYING, "Gather"]
FLOAT = onnx.TensorProto.FLOAT
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def to_onnx(model: keras.Model) -> bytes:
    """A float32 `.onnx` file: int64 [batch, length] -> `logits` float32 [batch, classes].

    Inputs are input_ids, attention_mask and token_type_ids, of any batch size and length, as
    Hugging Face's clients expect. Constants are folded; a model gives the same bytes each time.

    Args:
        model: takes a dictionary of ids, mask and segment_ids; gives logits, or a dictionary
            with `logits`.

    Raises:
        KdedgeError: tf2onnx knows no ONNX for one of the model's ops.
    """

    @tf.function(
        input_signature=[tf.TensorSpec([None, None], tf.int64, name=name) for name in INPUTS]
    )
    def logits(input_ids: Any, attention_mask: Any, token_type_ids: Any) -> dict[str, Any]:
        ids, mask, segment_ids = (
            tf.cast(x, tf.int32) for x in (input_ids, attention_mask, token_type_ids)
        )
        outputs = model({"ids": ids, "mask": mask, "segment_ids": segment_ids}, training=False)
        return {"logits": outputs["logits"] if isinstance(outputs, dict) else outputs}

    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setLevel(logging.ERROR)
    logger = logging.getLogger("tf2onnx")
    logger.addHandler(handler)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            proto, _ = tf2onnx.convert.from_function(
                logits,
                input_signature=logits.input_signature,
                opset=OPSET,
                custom_op_handlers={"Erfc": (_erfc, [])},
            )
    except Exception as error:  # tf2onnx raises whatever it meets
        raise KdedgeError(f"{model.name}: tf2onnx refuses this model: {error}") from None
    finally:
        logger.removeHandler(handler)
    # It writes a broken file, and only says so in its log, where it does not know an op.
    if said.getvalue():
        raise KdedgeError(f"{model.name}: tf2onnx can't convert this model: {said.getvalue()}")
    for value in (*proto.graph.input, *proto.graph.output):
        axes = value.type.tensor_type.shape.dim
        axes[0].dim_param = "batch_size"
        if value.name != "logits":
            axes[1].dim_param = "sequence_length"
    return bytes(_canonical(_optimized(proto)).SerializeToString())


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


# The recipes


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
    _replace(proto.graph.node, nodes)
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


# The graph


def _optimized(proto: Any) -> Any:
    """With constants folded and common parts shared, in standard ops only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        try:
            onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common base
            raise KdedgeError(f"ONNX Runtime refuses the converted model: {error}") from None
        return onnx.load(path)


def _canonical(proto: Any) -> Any:
    """The same graph with nodes in an order, and with names, that depend on nothing but itself.

    tf2onnx numbers its names by what the process has converted before. What is there twice is
    kept once.
    """
    graph = proto.graph
    public = {value.name for value in (*graph.input, *graph.output)}
    # What a value is computed from, as a hash.
    key = {"": ""} | {value.name: value.name for value in graph.input}
    tensors = {}
    for tensor in graph.initializer:
        name, tensor.name = tensor.name, ""
        key[name] = hashlib.sha256(tensor.SerializeToString()).hexdigest()
        tensors[key[name]] = tensor
    nodes: dict[str, Any] = {}
    waiting = list(graph.node)
    while waiting:
        ready = [node for node in waiting if all(name in key for name in node.input)]
        found = {}
        for node in ready:
            attributes = sorted(a.SerializeToString() for a in node.attribute)
            parts = (node.op_type, [key[name] for name in node.input], attributes)
            digest = hashlib.sha256(repr(parts).encode()).hexdigest()
            # Where two nodes say the same, an output of the graph keeps its own name.
            if digest not in found or public & {*node.output}:
                found[digest] = node
            key.update({name: f"{digest}:{i}" for i, name in enumerate(node.output) if name})
        nodes |= {digest: found[digest] for digest in sorted(found) if digest not in nodes}
        done = {id(node) for node in ready}
        waiting = [node for node in waiting if id(node) not in done]

    name_of = {"": ""} | {value.name: value.name for value in graph.input}
    ordered = [tensors[digest] for digest in sorted(tensors)]
    for i, digest in enumerate(sorted(tensors)):
        name_of[digest] = tensors[digest].name = f"weight_{i}"
    for i, (digest, node) in enumerate(nodes.items()):
        node.name = f"{node.op_type}_{i}"
        node.input[:] = [name_of[key[name]] for name in node.input]
        for j, name in enumerate(node.output):
            name_of[f"{digest}:{j}"] = name if name in public else f"{node.name}_output_{j}"
        node.output[:] = [name and name_of[f"{digest}:{j}"] for j, name in enumerate(node.output)]
    _replace(graph.initializer, ordered)
    _replace(graph.node, list(nodes.values()))
    del graph.value_info[:]
    graph.name, graph.doc_string, proto.producer_version = "kdedge", "", ""
    used = {node.domain for node in graph.node}
    _replace(proto.opset_import, [o for o in proto.opset_import if o.domain in used])
    del proto.metadata_props[:]
    return proto


def _replace(field: Any, values: list[Any]) -> None:
    copies = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(copies)


def _erfc(graph: Any, node: Any, name: str, arguments: Any) -> None:
    """Erfc(x) = 1 - Erf(x): TensorFlow's exact GELU needs it and tf2onnx has none."""
    (output,) = node.output
    shape, dtype = graph.get_shape(output), graph.get_dtype(output)
    graph.remove_node(node.name)
    erf = graph.make_node("Erf", node.input, shapes=[shape], dtypes=[dtype])
    one = graph.make_const(tf2onnx.utils.make_name("one"), np.array(1, np.float32))
    graph.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        name=node.name,
        outputs=[output],
        shapes=[shape],
        dtypes=[dtype],
    )
