"""Token embeddings that begin with what the teacher knows."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from kdedge.errors import KdedgeError
from kdedge.students.architecture import Parts


def set_token_embeddings(student: keras.Model, vectors: npt.NDArray[np.floating[Any]]) -> None:
    """Set the student's token embeddings to the teacher's token vectors, reduced by PCA.

    The principal axes with the most variance are kept, and scaled so that an embedding has the
    standard deviation that Keras's own initialisation would give it several times over: with less
    the student forgets them, with more it learns nothing else. Where the teacher is narrower than
    the student, the other columns stay as they are.

    Args:
        student: has token embeddings.
        vectors: float [vocabulary, hidden], for instance `SoftLabels.token_vectors()`.

    Raises:
        KdedgeError: no token embeddings, or another vocabulary.
    """
    table = Parts(student).token_embedding.embeddings
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
