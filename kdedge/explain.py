"""Which tokens made a classifier decide."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.students.architecture import run_from, token_layer
from kdedge.teachers.bert import BertTeacher
from kdedge.text.encoder import TextEncoder

Attributions = npt.NDArray[np.float32]


def gradient_x_input(
    model: keras.Model, inputs: dict[str, Any], classes: Sequence[int]
) -> Attributions:
    """Each token's embedding times the gradient there (Shrikumar et al. 2016, arXiv 1605.01713).

    Args:
        model: a student with an embedding layer named `tokens`, or a `BertTeacher`.
        inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
        classes: for each text the class that tokens speak for; what they raise or lower is its
            logit less the mean of the others'.

    Returns:
        float32 [batch, length], 0 for padding.

    Raises:
        KdedgeError: a model without token embeddings.
    """
    embeddings, logits = _opened(model, inputs)
    return _summed(embeddings, _gradient(embeddings, logits, classes), inputs)


def integrated_gradients(
    model: keras.Model, inputs: dict[str, Any], classes: Sequence[int], steps: int = 32
) -> Attributions:
    """Gradients on the way from embeddings of 0 to the text's, times the way.

    Sundararajan, Taly, Yan 2017, arXiv 1703.01365. They sum, but for the error of `steps`, to what
    the text has over embeddings of 0. A transformer's norms are steep near 0: its sum takes
    hundreds of steps, the order of its tokens fewer.

    Args:
        model: see `gradient_x_input`.
        inputs: see `gradient_x_input`.
        classes: see `gradient_x_input`.
        steps: on the way.

    Returns:
        float32 [batch, length], 0 for padding.

    Raises:
        KdedgeError: a model without token embeddings, or less than 1 step.
    """
    if steps < 1:
        raise KdedgeError(f"steps: {steps}; at least 1.")
    embeddings, logits = _opened(model, inputs)
    # A transformer's step takes several times as long outside of a graph.
    gradient = tf.function(lambda x: _gradient(x, logits, classes))
    total = tf.zeros_like(embeddings)
    for i in range(steps):
        total += gradient(embeddings * ((i + 0.5) / steps))
    return _summed(embeddings, total / steps, inputs)


def explain(
    model: keras.Model, encoder: TextEncoder, texts: Sequence[str], steps: int = 32
) -> list[list[tuple[str, float]]]:
    """For each text its word pieces with what they add to the class that the model decides for.

    Integrated gradients; [CLS] and [SEP] are left out.
    """
    inputs = encoder.encode(texts).inputs
    said = model(inputs, training=False)
    logits = np.asarray(said["logits"] if isinstance(said, dict) else said)
    values = integrated_gradients(model, inputs, logits.argmax(1).tolist(), steps)
    name = encoder.tokenizer.id_to_token
    return [
        [(name(int(i)), float(v)) for i, v in zip(ids[1 : n - 1], row[1 : n - 1], strict=True)]
        for ids, row, n in zip(inputs["ids"], values, inputs["mask"].sum(1), strict=True)
    ]


def _opened(model: keras.Model, inputs: dict[str, Any]) -> tuple[Any, Callable[[Any], Any]]:
    """Embeddings of the inputs, float32 [batch, length, width], and logits of such."""
    if isinstance(model, BertTeacher):
        rest = {name: inputs[name] for name in ("mask", "segment_ids")}
        embeddings = tf.gather(tf.convert_to_tensor(model.word_embeddings), inputs["ids"])
        return embeddings, lambda x: model({**rest, "embeddings": x}, training=False)["logits"]
    embeddings = tf.convert_to_tensor(token_layer(model)(inputs["ids"]))
    return embeddings, lambda x: run_from(model, "tokens", x, inputs, training=False)


def _gradient(embeddings: Any, logits: Callable[[Any], Any], classes: Sequence[int]) -> Any:
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        said = logits(embeddings)
        count = said.shape[1]
        chosen = tf.one_hot(classes, count)
        speaks_for = tf.reduce_sum(said * (chosen - (1 - chosen) / (count - 1)))
    return tape.gradient(speaks_for, embeddings)


def _summed(embeddings: Any, gradient: Any, inputs: dict[str, Any]) -> Attributions:
    values = np.asarray(tf.reduce_sum(embeddings * gradient, -1))
    return np.where(np.asarray(inputs["mask"]) > 0, values, np.float32(0))
