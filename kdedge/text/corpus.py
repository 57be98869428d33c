"""Texts and labels from CSV, TSV, JSONL, Parquet and plain text, each also gzipped."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kdedge.errors import KdedgeError
from kdedge.tasks import Classification, Task
from kdedge.text.readers import Row, need_columns, read_rows, read_texts
from kdedge.text.splits import Split, divide, part_of, smaller


@dataclass(frozen=True)
class Corpus:
    """Labelled texts in three splits, and texts without labels."""

    task: Task
    train: Split
    valid: Split
    test: Split
    unlabelled: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """SHA-256 over everything in it: equal corpora give equal values."""
        splits = [[s.texts, s.labels.tolist()] for s in (self.train, self.valid, self.test)]
        content = json.dumps([self.task.output_names, splits, self.unlabelled])
        return hashlib.sha256(content.encode()).hexdigest()

    def subset(self, train_size: int | None, eval_size: int | None, seed: int) -> "Corpus":
        """A smaller corpus with the same share of each label; None keeps all of a split.

        Raises:
            KdedgeError: a size is too small; each label must stay in train.
        """
        sizes = (("train_size", train_size, self.task.width), ("eval_size", eval_size, 1))
        for name, size, least in sizes:
            if size is not None and size < least:
                raise KdedgeError(f"{name}: {size}. At least {least} is needed for this corpus.")
        return Corpus(
            self.task,
            smaller(self.train, self.task, train_size, seed),
            smaller(self.valid, self.task, eval_size, seed),
            smaller(self.test, self.task, eval_size, seed),
            self.unlabelled,
        )


def load_corpus(
    path: Path | str,
    *,
    text: str = "text",
    label: str = "label",
    task: type[Task] = Classification,
    split: str | None = None,
    id: str | None = None,
    unlabelled: Path | None = None,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Corpus:
    """Read a corpus; columns by name.

    Args:
        path: `.csv`, `.tsv`, `.jsonl` or `.parquet`, each also with `.gz`.
        text: column of the texts.
        label: column of the labels. A row without one is an unlabelled text.
        task: reads the labels; for `Classification` names or whole numbers, which sorted give the
            order of the classes.
        split: column that says `train`, `valid` (or `validation`, `dev`, `eval`) or `test`. If no
            row is `valid`, `valid_fraction` of the training rows become those.
            None divides the rows, with the same share of each label in every split.
        id: column of ids, each of which may occur once.
        unlabelled: a file of more texts, as for `read_texts`.
        valid_fraction: of each label's rows, where the file does not say.
        test_fraction: of each label's rows, where the file does not say.
        seed: equal seeds divide the rows equally.

    Raises:
        KdedgeError: anything that is not as it says here, with the line or row.
    """
    # Written so that NaN fails too.
    if not (valid_fraction > 0 and test_fraction > 0 and valid_fraction + test_fraction < 1):
        raise KdedgeError(
            f"valid_fraction, test_fraction: {valid_fraction}, {test_fraction}. "
            "Both must be above 0 and their sum below 1."
        )
    path = Path(path)
    rows = read_rows(path)
    need_columns(path, rows, [text, label, *filter(None, (split, id))])
    if id:
        _need_unique(rows, id)
    texts = [row.text(text) for row in rows]
    given = [task.parse(row.fields.get(label), f"{row.where}: {label}") for row in rows]
    labelled = [i for i, parsed in enumerate(given) if parsed is not None]
    what, labels = task.from_labels([given[i] for i in labelled], f"{path}: column {label!r}")

    strata, shares = what.strata(labels), {"valid": valid_fraction, "test": test_fraction}
    of = _parts(path, [rows[i] for i in labelled], what, strata, split, shares, seed)

    def part(name: str) -> Split:
        chosen = np.flatnonzero(of == name)
        return Split(tuple(texts[labelled[i]] for i in chosen), labels[chosen])

    more = [one for one, parsed in zip(texts, given, strict=True) if parsed is None]
    more += read_texts(unlabelled, text) if unlabelled else []
    return Corpus(what, part("train"), part("valid"), part("test"), tuple(more))


def _parts(
    path: Path,
    rows: Sequence[Row],
    task: Task,
    strata: npt.NDArray[np.int64],
    column: str | None,
    shares: dict[str, float],
    seed: int,
) -> npt.NDArray[np.str_]:
    """For each labelled row `train`, `valid` or `test`."""
    rng = np.random.default_rng(seed)
    parts = np.full(len(rows), "train", "U5")
    if column:
        parts[:] = [part_of(row, column) for row in rows]
        shares = {} if "valid" in parts else {"valid": shares["valid"]}
    if shares:
        divide(path, task, parts, strata, shares, rng)
    for part in ("train", "valid", "test"):
        if part not in parts:
            raise KdedgeError(
                f"{path}: column {column!r} puts no labelled row in {part}. "
                "Add some, or give no split column and have kdedge split the rows."
            )
    unknown = ~np.isin(strata, strata[parts == "train"])
    if unknown.any():
        first = int(unknown.argmax())
        raise KdedgeError(
            f"{rows[first].where}: {task.stratum_name(strata[first])} is in {parts[first]} and "
            "not in train. Add training rows with it or leave it out."
        )
    return parts


def _need_unique(rows: Sequence[Row], column: str) -> None:
    first: dict[str, str] = {}
    for row in rows:
        value = str(row.fields.get(column))
        if value in first:
            raise KdedgeError(
                f"{row.where}: {column} {value!r} again, first at {first[value]}. "
                "Each may occur once."
            )
        first[value] = row.where
