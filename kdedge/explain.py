"""Which tokens made a model decide."""

from collections.abc import Callable, Sequence
from typing import Any

from kdedge.keras_environment import set_up_keras

set_up_keras()

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.objectives import objective_of
from kdedge.students.architecture import Parts
from kdedge.tasks import Task
from kdedge.teachers.bert import BertTeacher
from kdedge.text.encoder import TextEncoder
from kdedge.text.pairs import Text

Attributions = npt.NDArray[np.float32]


def gradient_x_input(
    model: keras.Model, inputs: dict[str, Any], answers: Sequence[int], task: Task | None = None
) -> Attributions:
    """Each token's embedding times the gradient there (Shrikumar et al. 2016, arXiv 1605.01713).

    Args:
        model: a student with token embeddings, or a `BertTeacher`.
        inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
        answers: for each text the output that tokens speak for; what they raise or lower is its
            logit, of classes less the mean of the others'.
        task: what the logits are of; None for classification.

    Returns:
        float32 [batch, length], 0 for padding.

    Raises:
        KdedgeError: a model without token embeddings.
    """
    embeddings, logits = _opened(model, inputs)
    return _summed(embeddings, _gradient(embeddings, logits, answers, task), inputs)


def integrated_gradients(
    model: keras.Model,
    inputs: dict[str, Any],
    answers: Sequence[int],
    steps: int = 32,
    task: Task | None = None,
) -> Attributions:
    """Gradients on the way from embeddings of 0 to the text's, times the way.

    Sundararajan, Taly, Yan 2017, arXiv 1703.01365. They sum, but for the error of `steps`, to what
    the text has over embeddings of 0. A transformer's norms are steep near 0: its sum takes
    hundreds of steps, the order of its tokens fewer.

    Args:
        model: see `gradient_x_input`.
        inputs: see `gradient_x_input`.
        answers: see `gradient_x_input`.
        steps: on the way.
        task: see `gradient_x_input`.

    Returns:
        float32 [batch, length], 0 for padding.

    Raises:
        KdedgeError: a model without token embeddings, or less than 1 step.
    """
    if steps < 1:
        raise KdedgeError(f"steps: {steps}; at least 1.")
    embeddings, logits = _opened(model, inputs)
    # A transformer's step takes several times as long outside of a graph.
    gradient = tf.function(lambda x: _gradient(x, logits, answers, task))
    total = tf.zeros_like(embeddings)
    for i in range(steps):
        total += gradient(embeddings * ((i + 0.5) / steps))
    return _summed(embeddings, total / steps, inputs)


def explain(
    model: keras.Model,
    encoder: TextEncoder,
    texts: Sequence[Text],
    steps: int = 32,
    task: Task | None = None,
) -> list[list[tuple[str, float]]]:
    """For each text its word pieces with what they add to what the model decides for.

    Integrated gradients; [CLS] and [SEP] are left out.
    """
    inputs = encoder.encode(texts).inputs
    said = model(inputs, training=False)
    logits = said["logits"] if isinstance(said, dict) else said
    answers = np.asarray(objective_of(task).decided(logits)).tolist()
    values = integrated_gradients(model, inputs, answers, steps, task)
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
    student = Parts(model)
    tokens = student.token_embedding
    embeddings = tf.convert_to_tensor(tokens(inputs["ids"]))
    return embeddings, lambda x: student.run_from(tokens, x, inputs, training=False)


def _gradient(
    embeddings: Any, logits: Callable[[Any], Any], answers: Sequence[int], task: Task | None
) -> Any:
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        evidence = tf.reduce_sum(objective_of(task).evidence(logits(embeddings), answers))
    return tape.gradient(evidence, embeddings)


def _summed(embeddings: Any, gradient: Any, inputs: dict[str, Any]) -> Attributions:
    values = np.asarray(tf.reduce_sum(embeddings * gradient, -1))
    return np.where(np.asarray(inputs["mask"]) > 0, values, np.float32(0))
