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
# The most labels that a message names.
NAMED = 10


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
        KdedgeError: labels have too few rows.
    """
    dealt: dict[int, tuple[npt.NDArray[np.int64], list[int]]] = {}
    for stratum in np.unique(strata[parts == "train"]).tolist():
        rows = rng.permutation(np.flatnonzero((parts == "train") & (strata == stratum)))
        dealt[stratum] = rows, [max(1, round(share * len(rows))) for share in shares.values()]
    small = {
        which: len(rows) for which, (rows, counts) in dealt.items() if sum(counts) >= len(rows)
    }
    if small:
        named = [f"{task.stratum_name(which)} has {rows}" for which, rows in small.items()]
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        raise KdedgeError(
            f"{path}: too few rows with different texts: {', '.join(named[:NAMED])}{more}. Each "
            f"label needs at least {len(shares) + 1}, for train, {' and '.join(shares)}. Add rows, "
            "lower the fractions or leave these labels out."
            + " Or is it the wrong column of labels?"
            * (len(small) == len(dealt))
        )
    for rows, counts in dealt.values():
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
