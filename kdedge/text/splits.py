"""Divides rows into train, valid and test: by a column, or at random and stratified."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kdedge.errors import KdedgeError
from kdedge.tasks import Labels, Task
from kdedge.text.pairs import Text
from kdedge.text.readers import Row

SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "eval": "valid",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Split:
    """Texts and labels of one part of a corpus."""

    texts: tuple[Text, ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.texts)


def part_of(row: Row, column: str) -> str:
    """The split of a row by its column, `train`, `valid` or `test`; case does not count.

    Raises:
        KdedgeError: the column has another value.
    """
    value = row.fields.get(column)
    name = str(value).strip().lower()
    if name not in SPLITS:
        raise KdedgeError(f"{row.where}: {column} is {value!r:.40}. Allowed: {', '.join(SPLITS)}.")
    return SPLITS[name]


def divide(
    path: Path,
    task: Task,
    parts: npt.NDArray[np.str_],
    strata: npt.NDArray[np.int64],
    shares: dict[str, float],
    rng: np.random.Generator,
) -> None:
    """Move a share of each stratum's training rows to the other splits, at least one row to each.

    Raises:
        KdedgeError: a label has too few rows.
    """
    for stratum in np.unique(strata[parts == "train"]):
        rows = rng.permutation(np.flatnonzero((parts == "train") & (strata == stratum)))
        counts = [max(1, round(share * len(rows))) for share in shares.values()]
        if sum(counts) >= len(rows):
            raise KdedgeError(
                f"{path}: {task.stratum_name(stratum)} has {len(rows)} rows with different texts, "
                f"which leaves none for train after {' and '.join(shares)}. Add rows (each label "
                f"needs at least {len(shares) + 1}), lower the fractions or leave the label out."
            )
        start = 0
        for part, count in zip(shares, counts, strict=True):
            parts[rows[start : start + count]] = part
            start += count


def smaller(split: Split, task: Task, size: int | None, seed: int) -> Split:
    """A stratified sample of a split; None keeps all of it."""
    if size is None or size >= len(split):
        return split
    rng = np.random.default_rng(seed)
    strata = task.strata(split.labels)
    # Each stratum's rows get evenly spaced numbers from 0 to 1; the smallest of all are taken.
    rank = np.empty(len(split))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        rank[rows] = rng.permutation(len(rows)) / len(rows)
    chosen = np.sort(np.argsort(rank, kind="stable")[:size])
    return Split(tuple(split.texts[i] for i in chosen), split.labels[chosen])
