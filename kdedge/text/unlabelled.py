"""Reads a corpus with few or no labels, for a teacher whose answers become the labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kdedge.errors import KdedgeError, need_at_least
from kdedge.tasks import Logits, Task
from kdedge.text.corpus import Corpus
from kdedge.text.decoding import Tell, tell_once
from kdedge.text.pairs import Text
from kdedge.text.readers import (
    Format,
    LabelForm,
    iter_rows,
    need_columns,
    read_texts,
    text_columns,
)
from kdedge.text.rules import Empty, Finding, row_excerpt, same_text, without_held_out
from kdedge.text.splits import Split, part_of

PARTS = ("train", "valid", "test")
# Kind of the finding that no test text has a label.
UNKNOWN_TEST = "no labelled test texts"


def load_unlabelled(
    path: Path,
    task: Task,
    *,
    text: str = "text",
    text_pair: str | None = None,
    label: str = "label",
    label_delimiter: str | None = None,
    label_columns: Sequence[str] = (),
    split: str | None = None,
    unlabelled: Path | None = None,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.2,
    encoding: str | None = None,
    delimiter: str | None = None,
    quoting: bool | None = None,
    empty_texts: Empty = "error",
    seed: int = 0,
    tell: Tell = tell_once,
) -> Corpus:
    """Read a corpus for a teacher that needs no labels.

    Rows with a label are the test split; the others are divided into train and valid, and also test
    if no row has a label. A split column overrides this. Labels of train and valid rows are not
    used. Only the first of equal texts is kept. The arguments are those of `load_corpus`; the label
    column may be missing.

    Raises:
        KdedgeError: as `load_corpus`; the task lacks a label; some test rows have a label and some
            have none; or a split has no text.
    """
    need_at_least(0, seed=seed)
    form = Format(encoding, delimiter, quoting)
    label_form = LabelForm(label, label_delimiter, tuple(label_columns))
    columns = (text, text_pair) if text_pair else (text,)
    texts, labels, parts = list[Text](), list[object](), list[str]()
    seen, empty, again = set[str](), list[str](), list[str]()
    for number, row in enumerate(iter_rows(path, form, tell)):
        if number == 0:
            need_columns(path, [row], text_columns(text, text_pair))
        if empty_texts == "skip" and row.is_empty(*columns):
            empty.append(row.where)
            continue
        row_text = row.text_of(columns)
        if same_text(row_text) in seen:
            again.append(row_excerpt(row, row_text))
            continue
        seen.add(same_text(row_text))
        texts.append(row_text)
        labels.append(task.parse(*label_form.of(row)))
        parts.append(part_of(row, split) if split else "")
    if not split:
        parts = _divided(labels, valid_fraction, test_fraction, seed)
    rows_of = {name: [i for i, part in enumerate(parts) if part == name] for name in PARTS}
    for name, rows in rows_of.items():
        if not rows:
            raise KdedgeError(
                f"{path}: no text is in {name}. Add texts; if all rows have a label, name a column "
                "with the values train, valid and test: split in [data], --split."
            )
    test_labels = [labels[i] for i in rows_of["test"] if labels[i] is not None]
    if test_labels and len(test_labels) < len(rows_of["test"]):
        raise KdedgeError(
            f"{path}: {len(test_labels)} of {len(rows_of['test'])} test rows have a label. Label "
            "all of them, or leave the others out of the test split."
        )
    splits = {
        name: Split(tuple(texts[i] for i in rows), task.unlabelled(len(rows)))
        for name, rows in rows_of.items()
    }
    if test_labels:
        numbers = task.numbers(test_labels, f"{path}: {label_form}")
        splits["test"] = replace(splits["test"], labels=numbers)
    more = read_texts(unlabelled, text, form, empty_texts, text_pair) if unlabelled else []
    findings = [
        finding
        for what, rows, done in (
            ("empty texts", empty, "left out"),
            ("rows with the text of an earlier row", again, "left out, with their labels"),
        )
        for finding in Finding.of_each(what, rows, what, done)
    ]
    more, found = without_held_out(more, [*splits["valid"].texts, *splits["test"].texts])
    findings += found
    if not test_labels:
        findings.append(
            Finding(
                UNKNOWN_TEST,
                len(splits["test"]),
                "test texts without a label",
                "",
                "the teacher's answers are their labels: accuracy is agreement with the teacher",
            )
        )
    for finding in findings:
        tell(f"{path}: {finding.line()}")
    return Corpus(task, **splits, unlabelled=tuple(more), findings=tuple(findings))


def has_no_labels(split: Split, task: Task) -> bool:
    """Whether all labels of a split are missing."""
    return np.array_equal(split.labels, task.unlabelled(len(split)))


def with_answers(corpus: Corpus, texts: Sequence[Text], logits: Logits) -> Corpus:
    """Use a teacher's answers as labels of the valid and test texts that have none.

    Texts without an answer are left out. Training texts stay without labels: the soft labels are
    enough.

    Args:
        corpus: the result of `load_unlabelled`.
        texts: texts that the teacher answered.
        logits: float32 [texts, width], the answers.

    Raises:
        KdedgeError: no text of a split is left.
    """
    task = corpus.task
    numbers = dict(zip(texts, task.labels_in(task.outputs(logits)), strict=True))

    def answered(name: str, split: Split, has_labels: bool) -> Split:
        rows = [i for i, text in enumerate(split.texts) if text in numbers]
        if not rows:
            raise KdedgeError(f"the teacher answered no text of the {name} split.")
        chosen = tuple(split.texts[i] for i in rows)
        labels = split.labels[rows] if has_labels else np.stack([numbers[text] for text in chosen])
        return Split(chosen, labels)

    unknown = has_no_labels(corpus.test, task)
    return replace(
        corpus,
        train=answered("train", corpus.train, True),
        valid=answered("valid", corpus.valid, False),
        test=answered("test", corpus.test, not unknown),
        unlabelled=tuple(text for text in corpus.unlabelled if text in numbers),
    )


def _divided(labels: Sequence[object], valid: float, test: float, seed: int) -> list[str]:
    parts = np.array(["test" if label is not None else "train" for label in labels], "U5")
    rest = np.random.default_rng(seed).permutation(np.flatnonzero(parts == "train"))
    shares = {"valid": valid, "test": test} if len(rest) == len(labels) else {"valid": valid}
    start = 0
    for name, share in shares.items():
        count = max(1, round(share * len(rest)))
        parts[rest[start : start + count]] = name
        start += count
    return [str(part) for part in parts]
