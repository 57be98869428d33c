"""The student mini-cut: some layers of the teacher, pruned to their most important parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.layers.transformer import gelu_tanh
from kdedge.objectives import objective_of
from kdedge.students.architecture import (
    POSITIONS,
    SEGMENTS,
    SENTENCE,
    TOKENS,
    Preset,
    Request,
    attention_name,
    output_name,
)
from kdedge.students.transformer import mini
from kdedge.tasks import Labels, Task
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.encoder import Encoder
from kdedge.teachers.heads import LinearHead, vector_of
from kdedge.text.pairs import Text
from kdedge.text.splits import smaller

IMPORTANCE_BATCH = 8
# Training texts that importance is estimated on.
IMPORTANCE_TEXTS = 1024
# Texts that the mean length of the teacher's vectors is estimated on.
LENGTH_TEXTS = 64


@dataclass(frozen=True)
class Importance:
    """Importance of each attention head and each feed-forward neuron of a BERT.

    Attributes:
        heads: float64 [layers, heads].
        neurons: float64 [layers, neurons].
    """

    heads: npt.NDArray[np.float64]
    neurons: npt.NDArray[np.float64]


def taylor_importance(
    teacher: BertTeacher, texts: Sequence[Text], labels: Labels, task: Task
) -> Importance:
    """Estimate how much the loss changes if a head or a neuron is removed, to first order.

    |sum of weight * gradient| over the output weights of the head or neuron, summed over batches
    (Michel et al. 2019, arXiv 1905.10650; Molchanov et al. 2019, arXiv 1906.10771).

    Args:
        teacher: a fine-tuned BERT.
        texts: texts to estimate on, for instance a part of the train split.
        labels: their labels.
        task: task of the labels.

    Raises:
        KdedgeError: not a BERT.
    """
    bert = _bert(teacher)
    layers, shape = bert.blocks, bert.shape
    kernels = [layer.attention_output.kernel.value for layer in layers]
    kernels += [layer.output_dense.kernel.value for layer in layers]
    counts = [(shape.heads, -1)] * len(layers) + [(shape.inner, 1)] * len(layers)
    sums = [np.zeros(count) for count, _ in counts]

    objective = objective_of(task)
    loss_of = objective.label_loss().call

    # A graph takes less than half the time.
    @tf.function(reduce_retracing=True)
    def gradients(inputs: dict[str, tf.Tensor], labels: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            logits = teacher(inputs, training=False)["logits"]
            loss = tf.reduce_mean(loss_of(objective.labels(labels)[0], logits))
        return tape.gradient(loss, kernels)

    for start in range(0, len(texts), IMPORTANCE_BATCH):
        rows = slice(start, start + IMPORTANCE_BATCH)
        of_batch = gradients(teacher.encoder.encode(texts[rows]).inputs, labels[rows])
        for total, count, kernel, gradient in zip(sums, counts, kernels, of_batch, strict=True):
            of_rows = (kernel * gradient).numpy().sum(1, dtype=np.float64)
            total += np.abs(of_rows.reshape(count).sum(1))
    return Importance(np.stack(sums[: len(layers)]), np.stack(sums[len(layers) :]))


def cut_from_teacher(
    teacher: BertTeacher,
    importance: Importance,
    task: Task,
    max_length: int,
    *,
    layers: int,
    heads: int,
    neurons: int,
    teacher_ids: Sequence[int] | None = None,
    pairs: bool = False,
    length: float = 1.0,
) -> keras.Model:
    """Build a `mini` from the teacher's embeddings, head, and parts of some of its layers.

    Layers are taken at even distances, the first and the last included. Each keeps its most
    important heads and neurons.

    Args:
        teacher: a fine-tuned BERT.
        importance: importance of its heads and neurons.
        task: the teacher's task.
        max_length: longest input in tokens; at most the teacher's.
        layers: number of layers; all if the teacher has fewer.
        heads: attention heads of each layer; all if the teacher has fewer.
        neurons: feed-forward neurons of each layer; all if the teacher has fewer.
        teacher_ids: the teacher's id of each of the student's tokens; None if the vocabularies
            are equal.
        pairs: whether an input is two texts.
        length: mean length of the teacher's sentence vectors, see `vector_length`. A `LinearHead`
            divides by it; the student's head has it in its weights.

    Raises:
        KdedgeError: not a BERT, or another number of logits.
    """
    bert = _bert(teacher)
    head, shape = teacher.head, bert.shape
    if task.width != teacher.task.width:
        raise KdedgeError(
            f"task: {task.width} logits are needed; the teacher, whose head the student takes, has "
            f"{teacher.task.width}."
        )
    head_width = shape.width // shape.heads
    table = bert.words.numpy()
    if teacher_ids is not None:
        table = table[list(teacher_ids)]
    heads, neurons = min(heads, shape.heads), min(neurons, shape.inner)
    last = shape.layers - 1
    chosen = np.linspace(0, last, min(layers, last + 1)).round().astype(int).tolist()
    student = mini(
        Request(task, len(table), max_length, pairs=pairs),
        width=shape.width,
        layers=len(chosen),
        heads=heads,
        head_width=head_width,
        feed_forward=neurons,
        sentence=head.pooling if isinstance(head, LinearHead) else "pooler",
        # Without dropout it is as good on the valid split, and a step is faster.
        dropout=0.0,
        activation=gelu_tanh if "gelu" in shape.activation else shape.activation,
        epsilon=shape.epsilon,
        name="mini-cut",
    )
    # A single text has only segment 0, so its vector is added to the positions.
    segments = bert.segment_vectors.numpy()
    positions = bert.position_vectors[:max_length] + segments[0]
    if pairs:
        # A BERT with one segment embedding has it for both texts.
        both = segments[[0, min(1, len(segments) - 1)]]
        student.get_layer(SEGMENTS).set_weights([both - segments[0]])
    student.get_layer(TOKENS).set_weights([table])
    student.get_layer(POSITIONS).set_weights([positions.numpy()])
    student.get_layer("embedding_norm").set_weights(bert.embedding_norm.get_weights())
    if isinstance(head, LinearHead):
        student.layers[-1].set_weights([head.kernel.numpy() / length, head.bias.numpy()])
    else:
        student.get_layer(SENTENCE).set_weights(head.dense.get_weights())
        student.layers[-1].set_weights(head.out.get_weights())
    for i, number in enumerate(chosen):
        block = bert.blocks[number]
        some = _largest(importance.heads[number], heads)
        weights = []
        for part in (block.query, block.key, block.value):
            kernel, bias = part.get_weights()
            kernel = kernel.reshape(len(kernel), -1, head_width)
            weights += [kernel[:, some], bias.reshape(-1, head_width)[some]]
        kernel, bias = block.attention_output.get_weights()
        weights += [kernel.reshape(-1, head_width, kernel.shape[1])[some], bias]
        student.get_layer(attention_name(i)).set_weights(weights)
        student.get_layer(f"attention_norm_{i}").set_weights(block.attention_norm.get_weights())
        some = _largest(importance.neurons[number], neurons)
        kernel, bias = block.inner.get_weights()
        student.get_layer(f"dense_in_{i}").set_weights([kernel[:, some], bias[some]])
        kernel, bias = block.output_dense.get_weights()
        student.get_layer(f"dense_out_{i}").set_weights([kernel[some], bias])
        student.get_layer(output_name(i)).set_weights(block.output_norm.get_weights())
    return student


def vector_length(teacher: BertTeacher, texts: Sequence[Text]) -> float:
    """Mean length of the vectors that a teacher's `LinearHead` gets; 1 for other heads."""
    if not isinstance(teacher.head, LinearHead):
        return 1.0
    inputs = teacher.encoder.encode(texts).inputs
    states, _ = teacher.transformer(inputs["ids"], inputs["mask"], inputs["segment_ids"])
    vectors = vector_of(teacher.head.pooling, states[-1], inputs["mask"])
    return float(np.linalg.norm(vectors, axis=1).mean())


def _bert(teacher: BertTeacher) -> Encoder:
    MINI_CUT.check_teacher(teacher.settings["model_type"])
    return teacher.transformer


def _largest(values: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    return np.sort(np.argsort(-values, kind="stable")[:count])


def mini_cut(request: Request) -> keras.Model:
    """Build mini-cut: three layers of the teacher, each with its most important heads and neurons.

    Raises:
        KdedgeError: no teacher or no corpus, or the teacher is not a BERT.
    """
    teacher, corpus = request.teacher, request.corpus
    if teacher is None or corpus is None:
        raise KdedgeError(
            "student: mini-cut takes layers from the teacher, the most important ones on the "
            "training texts. Name the teacher: --teacher DIR."
        )
    train = smaller(corpus.train, corpus.task, IMPORTANCE_TEXTS, request.seed)
    return cut_from_teacher(
        teacher,
        taylor_importance(teacher, train.texts, train.labels, request.task),
        request.task,
        request.max_length,
        layers=3,
        heads=4,
        neurons=512,
        teacher_ids=request.teacher_ids,
        pairs=request.pairs,
        length=vector_length(teacher, train.texts[:LENGTH_TEXTS]),
    )


MINI_CUT = Preset(
    name="mini-cut",
    build=mini_cut,
    vocabulary=15_000,
    # Low, because its layers are pretrained.
    learning_rate=3e-4,
    needs_teacher=True,
    needs_bert=True,
    has_blocks=True,
)
