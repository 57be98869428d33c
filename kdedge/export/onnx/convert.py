"""Converts Keras models to ONNX in float32."""

import contextlib
import hashlib
import io
import logging
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kdedge.errors import KdedgeError

OPSET = 17
# Bytes of a large constant. Smaller ones can be shapes, whose values tf2onnx needs.
LARGE = 1024
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def to_onnx(model: keras.Model) -> bytes:
    """Convert to a float32 `.onnx` file: int64 [batch, length] -> logits float32 [batch, classes].

    The inputs are input_ids, attention_mask and token_type_ids, of any batch size and length, as
    Hugging Face's clients expect. Constants are folded. Equal models give equal bytes.

    Args:
        model: takes a dictionary of ids, mask and segment_ids; returns logits, or a dictionary
            with `logits`.

    Raises:
        KdedgeError: tf2onnx can't convert one of the model's ops.
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

    frozen = convert_variables_to_constants_v2(
        logits.get_concrete_function(), lower_control_flow=False, aggressive_inlining=True
    )
    graph, weights = _without_constants(frozen.graph.as_graph_def())
    (output,) = frozen.outputs
    names = {f"{name}:0": name for name in INPUTS} | {output.name: "logits"}
    errors = io.StringIO()
    handler = logging.StreamHandler(errors)
    handler.setLevel(logging.ERROR)
    logger = logging.getLogger("tf2onnx")
    logger.addHandler(handler)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            proto, _ = tf2onnx.convert.from_graph_def(
                graph,
                input_names=[f"{name}:0" for name in (*INPUTS, *weights)],
                output_names=[output.name],
                opset=OPSET,
                custom_op_handlers={"Erfc": (_erfc, [])},
                tensors_to_rename=names,
            )
    except Exception as error:  # tf2onnx raises errors of many kinds
        raise KdedgeError(f"{model.name}: tf2onnx refuses this model: {error}") from None
    finally:
        logger.removeHandler(handler)
    # If it does not know an op, it writes a broken file and reports that only in its log.
    if errors.getvalue():
        raise KdedgeError(f"{model.name}: tf2onnx can't convert this model: {errors.getvalue()}")
    inputs = [value for value in proto.graph.input if value.name in INPUTS]
    replace_all(proto.graph.input, inputs)
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(weight, f"{name}:0") for name, weight in weights.items()
    )
    for value in (*proto.graph.input, *proto.graph.output):
        axes = value.type.tensor_type.shape.dim
        axes[0].dim_param = "batch_size"
        if value.name != "logits":
            axes[1].dim_param = "sequence_length"
    return bytes(_canonical(_optimize(proto)).SerializeToString())


def _without_constants(graph: Any) -> tuple[Any, dict[str, npt.NDArray[Any]]]:
    """A TensorFlow graph whose large constants are inputs, and the constants by name.

    Each of tf2onnx's passes copies all constants, and keeps the copies: 50 times a model's size.
    """
    weights = {}
    for node in (node for node in graph.node if node.op == "Const"):
        tensor = node.attr["value"].tensor
        if len(tensor.tensor_content) >= LARGE:
            weights[node.name] = tf.make_ndarray(tensor)
            node.op = "Placeholder"
            node.attr["shape"].shape.CopyFrom(tensor.tensor_shape)
            del node.attr["value"]
    return graph, weights


def _optimize(proto: Any) -> Any:
    """Fold constants and share common parts, with standard ops only."""
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
    """The same graph with names and an order of nodes that depend on the graph only.

    tf2onnx's names depend on earlier conversions in the process. Duplicate nodes and weights are
    merged.
    """
    graph = proto.graph
    public = {value.name for value in (*graph.input, *graph.output)}
    # For each value a hash of everything that it is computed from.
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
            # Of two equal nodes, keep the one that gives an output of the graph.
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
    replace_all(graph.initializer, ordered)
    replace_all(graph.node, list(nodes.values()))
    del graph.value_info[:]
    graph.name, graph.doc_string, proto.producer_version = "kdedge", "", ""
    used = {node.domain for node in graph.node}
    replace_all(proto.opset_import, [o for o in proto.opset_import if o.domain in used])
    del proto.metadata_props[:]
    return proto


def replace_all(field: Any, values: list[Any]) -> None:
    """Replace the contents of a repeated protobuf field by copies of `values`."""
    copies = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(copies)


def _erfc(graph: Any, node: Any, name: str, arguments: Any) -> None:
    """Erfc(x) = 1 - Erf(x): TensorFlow's exact GELU needs it, and tf2onnx can't convert it."""
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
