"""Initialises a student's token embeddings with the teacher's token vectors."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from kdedge.errors import KdedgeError
from kdedge.students.architecture import Parts


def set_token_embeddings(student: keras.Model, vectors: npt.NDArray[np.floating[Any]]) -> None:
    """Set the student's token embeddings to the teacher's token vectors, reduced by PCA.

    The principal components with the most variance are kept. They are scaled to several times the
    standard deviation of Keras's initialisation: with less, training overwrites them; with more,
    the other weights learn nothing. If the teacher is narrower than the student, the remaining
    columns are not changed.

    Args:
        student: a model with a token embedding.
        vectors: float [vocabulary, hidden], for instance `SoftLabels.token_vectors()`.

    Raises:
        KdedgeError: no token embeddings, or another vocabulary.
    """
    table = Parts(student).token_embedding.embeddings
    vocabulary, width = table.shape
    if vectors.shape[0] != vocabulary:
        raise KdedgeError(
            f"vectors: {vectors.shape[0]} rows; the student has {vocabulary} tokens. Both must be "
            "equal."
        )
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred)
    reduced = centred @ axes[:, np.argsort(-values)[:width]]
    columns = table.numpy()
    columns[:, : reduced.shape[1]] = reduced / reduced.std() * EMBEDDING_SCALE
    table.assign(columns)


EMBEDDING_SCALE = 0.3
