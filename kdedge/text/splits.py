"""Train, valid and test: told by a column, or divided with the same share of each label."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kdedge.errors import KdedgeError
from kdedge.text.readers import Row

SPLITS = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "dev": "valid",
    "eval": "valid",
    "test": "test",
}


@dataclass(frozen=True)
class Split:
    """A part of a corpus: texts, and labels int32 [texts]."""

    texts: tuple[str, ...]
    labels: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.texts)


def part_of(row: Row, column: str) -> str:
    """`train`, `valid` or `test`, as the row's column says.

    Raises:
        KdedgeError: it says something else.
    """
    value = str(row.fields.get(column))
    if value not in SPLITS:
        raise KdedgeError(f"{row.where}: {column} {value!r:.40}. Allowed: {', '.join(SPLITS)}.")
    return SPLITS[value]


def divide(
    path: Path,
    names: Sequence[str],
    parts: npt.NDArray[np.str_],
    labels: npt.NDArray[np.int32],
    shares: dict[str, float],
    rng: np.random.Generator,
) -> None:
    """Move shares of each label's training rows to other parts, at least one row to each.

    Raises:
        KdedgeError: a label has too few rows.
    """
    for label in np.unique(labels[parts == "train"]):
        rows = rng.permutation(np.flatnonzero((parts == "train") & (labels == label)))
        counts = [max(1, round(share * len(rows))) for share in shares.values()]
        if sum(counts) >= len(rows):
            raise KdedgeError(
                f"{path}: label {names[label]!r} has {len(rows)} rows, which leaves none for train "
                f"after {' and '.join(shares)}. Add rows (each label needs at least "
                f"{len(shares) + 1}), lower the fractions or leave the label out."
            )
        start = 0
        for part, count in zip(shares, counts, strict=True):
            parts[rows[start : start + count]] = part
            start += count


def smaller(split: Split, size: int | None, seed: int) -> Split:
    """A part of a split with the same share of each label; None keeps all of it."""
    if size is None or size >= len(split):
        return split
    rng = np.random.default_rng(seed)
    # Each label's rows in random order, from 0 to 1; the first of all labels laid side by side.
    rank = np.empty(len(split))
    for label in np.unique(split.labels):
        rows = np.flatnonzero(split.labels == label)
        rank[rows] = rng.permutation(len(rows)) / len(rows)
    chosen = np.sort(np.argsort(rank, kind="stable")[:size])
    return Split(tuple(split.texts[i] for i in chosen), split.labels[chosen])
