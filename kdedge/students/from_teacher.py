"""Students that begin with what the teacher knows."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from kdedge.errors import KdedgeError
from kdedge.students.mini import mini


def set_token_embeddings(student: keras.Model, vectors: npt.NDArray[np.floating[Any]]) -> None:
    """Set the student's token embeddings to the teacher's token vectors, reduced by PCA.

    The principal axes with the most variance are kept, and scaled so that an embedding has the
    standard deviation that Keras's own initialisation would give it several times over: with less
    the student forgets them, with more it learns nothing else. Where the teacher is narrower than
    the student, the other columns stay as they are.

    Args:
        student: has an embedding layer named `tokens`.
        vectors: float [vocabulary, hidden], for instance `SoftLabels.token_vectors()`.

    Raises:
        KdedgeError: another vocabulary.
    """
    table = student.get_layer("tokens").embeddings
    vocabulary, width = table.shape
    if vectors.shape[0] != vocabulary:
        raise KdedgeError(
            f"vectors: of {vectors.shape[0]} vocabulary entries; the student has {vocabulary}."
        )
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred)
    reduced = centred @ axes[:, np.argsort(-values)[:width]]
    columns = table.numpy()
    columns[:, : reduced.shape[1]] = reduced / reduced.std() * EMBEDDING_SCALE
    table.assign(columns)


EMBEDDING_SCALE = 0.3


def cut_from_teacher(
    transformer: Any,
    layers: int,
    classes: int,
    max_length: int,
    kept: Sequence[int] | None = None,
) -> keras.Model:
    """A `mini` made of the teacher's embeddings and first layers, at its width.

    Args:
        transformer: transformers' `TFBertForSequenceClassification`.
        layers: how many of its layers.
        classes: number of logits; the head is new.
        max_length: tokens the student takes; at most the teacher's.
        kept: the teacher's ids of the student's tokens; None for all of them.

    Raises:
        KdedgeError: not a BERT, or it has fewer layers.
    """
    config = transformer.config
    if config.model_type != "bert" or not 1 <= layers <= config.num_hidden_layers:
        raise KdedgeError(
            f"teacher: {config.model_type} of {getattr(config, 'num_hidden_layers', '?')} layers; "
            f"a student can be cut from a BERT of at least {layers}."
        )
    table = transformer.bert.embeddings.weight.numpy()
    if kept is not None:
        table = table[list(kept)]
    student = mini(
        len(table),
        classes,
        max_length,
        width=config.hidden_size,
        layers=layers,
        heads=config.num_attention_heads,
        feed_forward=config.intermediate_size,
        name="mini-cut",
    )
    bert, heads = transformer.bert, config.num_attention_heads
    words = bert.embeddings
    # Segment 0 is the only one in a single text: its vector goes into the positions'.
    positions = words.position_embeddings[:max_length] + words.token_type_embeddings[0]
    student.get_layer("tokens").set_weights([table])
    student.get_layer("positions").set_weights([positions.numpy()])
    student.get_layer("embedding_norm").set_weights(words.LayerNorm.get_weights())
    for i in range(layers):
        block = bert.encoder.layer[i]
        own = block.attention.self_attention
        weights = []
        for part in (own.query, own.key, own.value):
            kernel, bias = part.get_weights()
            weights += [kernel.reshape(kernel.shape[0], heads, -1), bias.reshape(heads, -1)]
        kernel, bias = block.attention.dense_output.dense.get_weights()
        weights += [kernel.reshape(heads, -1, kernel.shape[1]), bias]
        student.get_layer(f"attention_{i}").set_weights(weights)
        student.get_layer(f"attention_norm_{i}").set_weights(
            block.attention.dense_output.LayerNorm.get_weights()
        )
        student.get_layer(f"dense_in_{i}").set_weights(block.intermediate.dense.get_weights())
        student.get_layer(f"dense_out_{i}").set_weights(block.bert_output.dense.get_weights())
        student.get_layer(f"dense_norm_{i}").set_weights(block.bert_output.LayerNorm.get_weights())
    return student
