"""Reads a corpus: texts and labels from CSV, TSV, JSON, Parquet and plain text files."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from kdedge.errors import KdedgeError, listed, need_at_least
from kdedge.extensions import one_of
from kdedge.tasks import TASKS, Labels, Task
from kdedge.text.decoding import Tell, tell_once
from kdedge.text.pairs import Pair, Text
from kdedge.text.readers import (
    Format,
    LabelForm,
    Row,
    iter_rows,
    need_columns,
    read_texts,
    text_columns,
)
from kdedge.text.rules import (
    Contradictions,
    Empty,
    Finding,
    blank_ends,
    copies,
    joined_labels,
    missing_words,
    near_doubles,
    remove_leaks,
    same_text,
    without_empty,
    without_held_out,
)
from kdedge.text.rules import contradictions as find_contradictions
from kdedge.text.splits import Split, divide, part_of, smaller


@dataclass(frozen=True)
class Corpus:
    """Labelled texts in three splits, and texts without labels.

        >>> from pathlib import Path
        >>> rows = [f"good film {i},good\\nbad film {i},bad" for i in range(20)]
        >>> _ = Path("reviews.csv").write_text("text,label\\n" + "\\n".join(rows))
        >>> corpus = load_corpus("reviews.csv")
        >>> corpus.task.label_names, len(corpus.train)
        (('bad', 'good'), 28)

    Attributes:
        task: what the labels are, with the names of classes or the scale of scores.
        train: the split to learn from.
        valid: the split to choose epochs and thresholds with.
        test: the split to measure with.
        unlabelled: texts without labels; a teacher labels them.
        findings: problems of the files, and what was done about them.
    """

    task: Task
    train: Split
    valid: Split
    test: Split
    unlabelled: tuple[Text, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def has_pairs(self) -> bool:
        """Whether the labels are of pairs of texts."""
        return isinstance(self.train.texts[0], Pair)

    def fingerprint(self) -> str:
        """SHA-256 of the whole corpus: equal corpora have equal values."""
        splits = [[s.texts, s.labels.tolist()] for s in (self.train, self.valid, self.test)]
        content = json.dumps([self.task.model_dump(mode="json"), splits, self.unlabelled])
        return hashlib.sha256(content.encode()).hexdigest()

    def subset(self, train_size: int | None, eval_size: int | None, seed: int) -> "Corpus":
        """A smaller corpus with the same share of each label; None keeps a whole split.

        Raises:
            KdedgeError: a size is too small; each label must stay in train.
        """
        sizes = (("train_size", train_size, self.task.width), ("eval_size", eval_size, 1))
        for name, size, least in sizes:
            if size is not None and size < least:
                raise KdedgeError(f"{name}: {size}. At least {least} is needed for this corpus.")
        train = smaller(self.train, self.task, train_size, seed)
        # Several labels have common strata.
        before = self.task.counts(self.train.labels)
        kept = self.task.counts(train.labels)
        if lost := [name for name, count in kept.items() if before[name] and not count]:
            raise KdedgeError(
                f"train_size: {train_size} leaves no training text with {lost[0]}. Set a larger "
                "one or leave it out."
            )
        return replace(
            self,
            train=train,
            valid=smaller(self.valid, self.task, eval_size, seed),
            test=smaller(self.test, self.task, eval_size, seed),
        )


def load_corpus(
    path: Path | str,
    *,
    text: str = "text",
    text_pair: str | None = None,
    label: str = "label",
    task: str = "classification",
    label_delimiter: str | None = None,
    label_columns: Sequence[str] = (),
    score_range: tuple[float, float] | None = None,
    split: str | None = None,
    id: str | None = None,
    unlabelled: Path | str | None = None,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.2,
    encoding: str | None = None,
    delimiter: str | None = None,
    quoting: bool | None = None,
    empty_texts: Empty = "error",
    contradictions: Contradictions = "keep",
    seed: int = 0,
    tell: Tell = tell_once,
) -> Corpus:
    """Read a corpus.

        >>> rows = [f"film number {i},{label}" for i in range(10) for label in ("bad", "good")]
        >>> _ = Path("reviews.csv").write_text("\\n".join(["text,label", *rows]))
        >>> corpus = load_corpus("reviews.csv")
        >>> corpus.task.label_names, len(corpus.train), len(corpus.valid), len(corpus.test)
        (('bad', 'good'), 14, 2, 4)

    Texts of the test split are left out of all other splits and of the unlabelled texts; texts of
    the valid split are left out of train and of the unlabelled texts. docs/data.md has all rules.

    Args:
        path: `.csv`, `.tsv`, `.jsonl`, `.json`, `.parquet` or fastText's `.txt`, each also with
            `.gz`.
        text: column of the texts.
        text_pair: column of the second texts, if the labels are of pairs of texts.
        label: column of the labels. Rows without a label are unlabelled texts.
        task: `classification`, whose labels are names or whole numbers, sorted for the order of the
            classes; `multi-label`, lists of such labels; or `regression`, numbers.
        label_delimiter: for multi-label: separator of the labels in a text column.
        label_columns: for multi-label: columns of 0 and 1, one for each label, instead of `label`.
        score_range: for regression: lowest and highest score.
        split: column with `train` (or `training`), `valid` (`validation`, `val`, `dev`, `eval`) or
            `test`, in any case. If no row is `valid`, `valid_fraction` of the training rows are
            used. None splits at random and stratified by label, with equal texts in the same split.
        id: column of ids, which must be unique.
        unlabelled: file of unlabelled texts, as for `read_texts`.
        valid_fraction: share of each label's rows for the valid split, if the file has none.
        test_fraction: share of each label's rows for the test split, if the file has no splits.
        encoding: encoding of the file, for instance utf-8 or cp1252; None detects it.
        delimiter: delimiter of .csv and .tsv files; None detects it.
        quoting: whether fields of .csv and .tsv files can be quoted; None detects it.
        empty_texts: `error`, or `skip` to leave them out.
        contradictions: `keep`, or `drop` to leave out texts with different labels.
        seed: equal seeds give equal splits.
        tell: called with a line for each finding and for each unusual detected format.

    Raises:
        KdedgeError: the file does not match these arguments; the message has the line or row.
    """
    # This form refuses NaN too.
    if not (valid_fraction > 0 and test_fraction > 0 and valid_fraction + test_fraction < 1):
        raise KdedgeError(
            f"valid_fraction, test_fraction: {valid_fraction}, {test_fraction}. "
            "Both must be above 0 and their sum below 1."
        )
    need_at_least(0, seed=seed)
    one_of("empty_texts", empty_texts, dict.fromkeys(get_args(Empty)))
    one_of("contradictions", contradictions, dict.fromkeys(get_args(Contradictions)))
    kind = one_of("task", task, TASKS)
    if task != "multi-label" and (label_delimiter or label_columns):
        setting = "label_delimiter" if label_delimiter else "label_columns"
        raise KdedgeError(f'{setting}: only for several labels: task = "multi-label", --task.')
    path, form = Path(path), Format(encoding, delimiter, quoting)
    label_form = LabelForm(label, label_delimiter, tuple(label_columns))
    columns = (text, text_pair) if text_pair else (text,)
    rows = list(iter_rows(path, form, tell))
    others = {name: (column,) for name, column in {"split": split, "id": id}.items() if column}
    named = {**text_columns(text, text_pair), **label_form.by_setting, **others}
    if unused := need_columns(path, rows, named):
        tell(f"{path}: columns that are not used: {listed(sorted(unused))}.")
    if id:
        _need_unique(rows, id)
    findings: list[Finding] = []
    if not split and (names := [name for name in unused if name.strip().lower() == "split"]):
        findings.append(
            Finding(
                "unused split",
                1,
                f"column {names[0]!r} is not used, and the rows are divided at random; if it has "
                f"train, valid and test, name it: split = {names[0]!r} in [data], --split",
                "",
                "",
            )
        )
    if empty_texts == "skip":
        rows, new_findings = without_empty(rows, columns)
        findings += new_findings
    texts = [row.text_of(columns) for row in rows]
    parsed_labels = [kind.parse(*label_form.of(row)) for row in rows]

    labelled = [i for i, parsed in enumerate(parsed_labels) if parsed is not None]
    labelled_rows = _Labelled(rows, texts, parsed_labels).at(labelled)
    against, new_findings = find_contradictions(*labelled_rows, contradictions)
    findings += new_findings
    if contradictions == "drop":
        keys = map(same_text, labelled_rows.texts)
        labelled_rows = labelled_rows.at([i for i, key in enumerate(keys) if key not in against])
    corpus_task, labels = kind.from_labels(labelled_rows.labels, f"{path}: {label_form}")
    if never := [name for name in label_columns if name not in corpus_task.output_names]:
        raise KdedgeError(
            f"{path}: no row has a 1 in column {never[0]!r}. Add some, or leave it out of "
            "label_columns in [data], --label-columns."
        )
    if score_range is not None:
        corpus_task = corpus_task.within(score_range)
        _need_within(labelled_rows, score_range)
    for find in (near_doubles, missing_words, blank_ends, joined_labels):
        findings += find(corpus_task.output_names)

    shares = {"valid": valid_fraction, "test": test_fraction}
    parts, new_findings = _parts(path, labelled_rows, corpus_task, labels, split, shares, seed)
    corpus_task = corpus_task.fitted(labels[parts == "train"])
    findings += [*new_findings, *copies(parts, labelled_rows.rows, labelled_rows.texts)]

    def part(name: str) -> Split:
        rows_of_part = np.flatnonzero(parts == name)
        return Split(tuple(labelled_rows.texts[i] for i in rows_of_part), labels[rows_of_part])

    unlabelled_texts = [
        one for one, parsed in zip(texts, parsed_labels, strict=True) if parsed is None
    ]
    if unlabelled:
        unlabelled_texts += read_texts(Path(unlabelled), text, form, empty_texts, text_pair)
    valid, test = part("valid"), part("test")
    unlabelled_texts, new_findings = without_held_out(unlabelled_texts, [*valid.texts, *test.texts])
    findings += new_findings
    for finding in findings:
        tell(f"{path}: {finding.line()}")
    return Corpus(corpus_task, part("train"), valid, test, tuple(unlabelled_texts), tuple(findings))


class _Labelled(NamedTuple):
    rows: list[Row]
    texts: list[Text]
    labels: list[Any]

    def at(self, places: Sequence[int]) -> "_Labelled":
        rows, texts, labels = self
        return _Labelled(
            [rows[i] for i in places], [texts[i] for i in places], [labels[i] for i in places]
        )


def _parts(
    path: Path,
    labelled: _Labelled,
    task: Task,
    numbers: Labels,
    column: str | None,
    shares: dict[str, float],
    seed: int,
) -> tuple[npt.NDArray[np.str_], list[Finding]]:
    """The split of each labelled row: `train`, `valid`, `test`, or "" to leave it out."""
    rng = np.random.default_rng(seed)
    rows, texts, _ = labelled
    strata = task.strata(numbers)
    parts = np.full(len(rows), "train", "U5")
    findings: list[Finding] = []
    if column:
        parts[:] = [part_of(row, column) for row in rows]
        shares = {} if "valid" in parts else {"valid": shares["valid"]}
        findings = remove_leaks(parts, rows, texts)
    if shares and "train" in parts:
        # Equal texts get the split of the first one.
        dealt: dict[str, int] = {}
        in_train = np.flatnonzero(parts == "train").tolist()
        first = np.array([dealt.setdefault(same_text(texts[i]), i) for i in in_train])
        firsts = np.unique(first)
        of_firsts = parts[firsts]
        divide(path, task, of_firsts, strata[firsts], shares, rng)
        parts[in_train] = of_firsts[np.searchsorted(firsts, first)]
        # If all texts with a rare label went to other splits, one of them goes back to train.
        while (lost := _unknown(parts, task, numbers)[in_train]).any():
            parts[np.array(in_train)[first == first[lost.argmax()]]] = "train"
    for part in ("train", "valid", "test"):
        if part not in parts:
            if not column:
                raise KdedgeError(
                    f"{path}: no row is left for {part}, because train needs one of each label. "
                    "Add rows with these labels."
                )
            raise KdedgeError(
                f"{path}: column {column!r} puts no labelled row in {part}"
                + (f"; {findings[-1].line()}" if findings else ".")
                + " Add some, or leave out the split column, so that kdedge splits the rows."
            )
    unknown = _unknown(parts, task, numbers)
    if unknown.any():
        i = int(unknown.argmax())
        trained = task.counts(numbers[parts == "train"])
        names = (name for name, count in task.counts(numbers[[i]]).items() if count)
        raise KdedgeError(
            f"{rows[i].where}: {', '.join(name for name in names if not trained.get(name))} is in "
            f"{parts[i]} and not in train"
            + (f"; {findings[-1].line()}" if findings else ".")
            + " Add training rows with it or leave it out."
        )
    return parts, findings


def _unknown(parts: npt.NDArray[np.str_], task: Task, numbers: Labels) -> npt.NDArray[np.bool_]:
    """Whether a row of a split has a label that no row of train has."""
    return np.asarray((parts != "") & ~task.in_training(numbers, numbers[parts == "train"]))


def _need_within(labelled: _Labelled, score_range: tuple[float, float]) -> None:
    low, high = score_range
    for row, score in zip(labelled.rows, labelled.labels, strict=True):
        if not low <= score <= high:
            raise KdedgeError(
                f"{row.where}: the score is {score:g}. score_range allows {low:g} to {high:g}."
            )


def _need_unique(rows: Sequence[Row], column: str) -> None:
    first: dict[str, str] = {}
    for row in rows:
        value = str(row.fields.get(column))
        if value in first:
            raise KdedgeError(
                f"{row.where}: {column} {value!r} occurs again; the first one is at "
                f"{first[value]}. Ids must be unique."
            )
        first[value] = row.where
