"""Keras to ONNX."""

import contextlib
import io
import logging
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf2onnx

from kdedge.errors import KdedgeError
from kdedge.export.quantization import ONNX

OPSET = 17
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def to_onnx(model: keras.Model, path: Path, quantization: str) -> None:
    """Write an `.onnx` file: int64 [batch, length] -> `logits` float32 [batch, classes].

    Inputs are input_ids, attention_mask and token_type_ids, of any batch size and length, as
    Hugging Face's clients expect.

    Args:
        model: takes a dictionary of ids, mask and segment_ids; gives logits, or a dictionary
            with `logits`.
        path: to write.
        quantization: a name in `quantization.ONNX`.

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
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        source.write_bytes(proto.SerializeToString())
        ONNX[quantization](source, path)


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
