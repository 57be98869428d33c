"""Finds the nearest neighbours of word pieces by their token vectors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kdedge.errors import KdedgeError

ROWS_AT_ONCE = 1024


def may_be_swapped(piece: str) -> bool:
    """Whether a word piece consists of letters, unlike [CLS], [unused7] or a comma."""
    return piece.removeprefix("##").isalpha()


def nearest_pieces(
    vectors: npt.NDArray[np.floating[Any]], vocabulary: Sequence[str], count: int
) -> npt.NDArray[np.int32]:
    """For each word piece, the pieces with the highest cosine similarity.

    Pieces that start a word have neighbours that start a word; continuations (`##s`) have
    continuations.

    Args:
        vectors: float [vocabulary, width], for instance `SoftLabels.token_vectors()`.
        vocabulary: word pieces in the order of their ids.
        count: number of neighbours of each piece.

    Returns:
        int32 [vocabulary, count], nearest first. Missing neighbours, and those of pieces without
        letters, are the piece's own id.

    Raises:
        KdedgeError: another number of vectors than pieces, or a count below 1.
    """
    if len(vectors) != len(vocabulary):
        raise KdedgeError(
            f"vectors: {len(vectors)} rows for {len(vocabulary)} word pieces. One each is needed."
        )
    if count < 1:
        raise KdedgeError(f"count: {count}. At least 1 neighbour is needed.")
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    unit = vectors.astype(np.float32) / np.maximum(lengths, 1e-12)
    found = np.tile(np.arange(len(vocabulary), dtype=np.int32)[:, None], count)
    letters = np.array([may_be_swapped(piece) for piece in vocabulary], bool)
    continues = np.array([piece.startswith("##") for piece in vocabulary], bool)
    for kind in (letters & ~continues, letters & continues):
        ids = np.flatnonzero(kind).astype(np.int32)
        near = min(count, len(ids) - 1)
        if near < 1:
            continue
        for start in range(0, len(ids), ROWS_AT_ONCE):
            rows = ids[start : start + ROWS_AT_ONCE]
            cosines = unit[rows] @ unit[ids].T
            cosines[np.arange(len(rows)), start + np.arange(len(rows))] = -np.inf
            best = np.argpartition(-cosines, near - 1, axis=1)[:, :near]
            order = np.argsort(-np.take_along_axis(cosines, best, 1), axis=1, kind="stable")
            found[rows, :near] = ids[np.take_along_axis(best, order, 1)]
    return found


def nearest_words(
    vectors: npt.NDArray[np.floating[Any]], vocabulary: Sequence[str], count: int
) -> dict[str, list[str]]:
    """For each word that is a single piece, its nearest words, as in `nearest_pieces`.

    Raises:
        KdedgeError: another number of vectors than pieces, or a count below 1.
    """
    words = [i for i, p in enumerate(vocabulary) if may_be_swapped(p) and not p.startswith("##")]
    found = nearest_pieces(vectors, vocabulary, count)
    return {
        vocabulary[i]: near for i in words if (near := [vocabulary[j] for j in found[i] if j != i])
    }
