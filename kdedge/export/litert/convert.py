"""Converts Keras models to TFLite (LiteRT) in float32."""

import tempfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.export.litert.flatbuffer import parsed, serialized
from kdedge.objectives import objective_of
from kdedge.tasks import Task

INPUTS = ("ids", "mask", "segment_ids")
SIGNATURE = "serving_default"


def to_litert(model: keras.Model, task: Task, length: int, variables: Any = None) -> bytes:
    """Convert to a float32 `.tflite` file: int32 [1, length] inputs -> the task's outputs.

    The file has one subgraph with the inputs ids, mask, segment_ids in this order, a float32
    [1, width] output, and a signature `serving_default` with these names and the task's `output`
    (`probabilities` for classification).

    Args:
        model: takes a dictionary of ids, mask and segment_ids; returns logits, or a dictionary
            with `logits`.
        task: turns logits into outputs.
        length: tokens.
        variables: object that holds the model's variables, if Keras does not track them.

    Raises:
        KdedgeError: the converter refuses the model, or needs ops that LiteRT lacks.
    """
    signature = [tf.TensorSpec([1, length], tf.int32, name=name) for name in INPUTS]

    def outputs(ids: Any, mask: Any, segment_ids: Any) -> dict[str, Any]:
        result = model({"ids": ids, "mask": mask, "segment_ids": segment_ids}, training=False)
        logits = result["logits"] if isinstance(result, dict) else result
        return {task.output: objective_of(task).outputs(logits)}

    archive = keras.export.ExportArchive()
    archive.track(variables or model)
    archive.add_endpoint(SIGNATURE, outputs, input_signature=signature)
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        try:
            content = converter.convert()
        except Exception as error:  # the converter's own kind is not public
            raise KdedgeError(
                f"{model.name}: LiteRT's converter refuses this model: {error}"
            ) from None
    return _inputs_in_order(content)


def _inputs_in_order(content: bytes) -> bytes:
    """Put the inputs into the order of `INPUTS`, for clients that ignore their names.

    Some versions of the converter sort them by name, others by use.
    """
    model = parsed(content)
    (graph,) = model.subgraphs
    (signature,) = model.signatureDefs
    tensor = {entry.name.decode(): entry.tensorIndex for entry in signature.inputs}
    graph.inputs = np.array([tensor[name] for name in INPUTS], np.int32)
    return serialized(model)
