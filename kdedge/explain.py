"""Attributions: how much each token contributes to a prediction."""

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
    """Attribution by embedding times gradient (Shrikumar et al. 2016, arXiv 1605.01713).

    Args:
        model: a student with token embeddings, or a `BertTeacher`.
        inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
        answers: for each text the output to explain. The explained value is its logit; for classes,
            minus the mean of the other logits.
        task: task of the logits; None for classification.

    Returns:
        float32 [batch, length], 0 for padding.

    Raises:
        KdedgeError: a model without token embeddings.
    """
    embeddings, logits = _split_at_embeddings(model, inputs)
    return _summed(embeddings, _gradient(embeddings, logits, answers, task), inputs)


def integrated_gradients(
    model: keras.Model,
    inputs: dict[str, Any],
    answers: Sequence[int],
    steps: int = 32,
    task: Task | None = None,
) -> Attributions:
    """Attribution by integrated gradients (Sundararajan, Taly, Yan 2017, arXiv 1703.01365).

    The baseline is embeddings of 0. Attributions sum to the difference from the baseline, up to the
    error of `steps`: a transformer needs hundreds of steps for the sum, fewer for the ranking of
    the tokens.

    Args:
        model: see `gradient_x_input`.
        inputs: see `gradient_x_input`.
        answers: see `gradient_x_input`.
        steps: steps between the baseline and the text.
        task: see `gradient_x_input`.

    Returns:
        float32 [batch, length], 0 for padding.

    Raises:
        KdedgeError: a model without token embeddings, or less than 1 step.
    """
    if steps < 1:
        raise KdedgeError(f"steps: {steps}. At least 1 is needed.")
    embeddings, logits = _split_at_embeddings(model, inputs)
    # Outside a graph, a step of a transformer takes several times as long.
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
    """The word pieces of each text with their attributions to the prediction.

    Uses integrated gradients; the first and the last token, [CLS] and [SEP], are left out.

    Args:
        model: inputs as `TextEncoder.encode` gives them -> logits, or a dict with `logits`.
        encoder: text encoder of the model.
        texts: texts or pairs.
        steps: steps of the integral.
        task: task of the logits; None for classification.

    Raises:
        KdedgeError: a model without token embeddings, less than 1 step, or no task for a score.
    """
    inputs = encoder.encode(texts).inputs
    outputs = model(inputs, training=False)
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs
    if task is None and logits.shape[-1] == 1:
        raise KdedgeError("task: None, and this model has one output. Name the task of its score.")
    answers = np.asarray(objective_of(task).chosen_output(logits)).tolist()
    values = integrated_gradients(model, inputs, answers, steps, task)
    name = encoder.tokenizer.id_to_token
    return [
        [(name(int(i)), float(v)) for i, v in zip(ids[1 : n - 1], row[1 : n - 1], strict=True)]
        for ids, row, n in zip(inputs["ids"], values, inputs["mask"].sum(1), strict=True)
    ]


def _split_at_embeddings(
    model: keras.Model, inputs: dict[str, Any]
) -> tuple[Any, Callable[[Any], Any]]:
    """Embeddings of the inputs, float32 [batch, length, width], and a function to logits."""
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
