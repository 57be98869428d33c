"""Imports soft labels of teachers that kdedge can't run: a PyTorch model, an LLM, and others."""

from pathlib import Path

import numpy as np

from kdedge.errors import KdedgeError
from kdedge.files import (
    sha256,
)
from kdedge.labels.store import SoftLabels
from kdedge.tasks import Logits, Regression, Task
from kdedge.text.encoder import TextEncoder
from kdedge.text.pairs import TEXT_COLUMNS, Text
from kdedge.text.readers import Row, read_rows
from kdedge.text.rules import quoted
from kdedge.text.vocabulary import student_encoder


def import_soft_labels(path: Path, folder: Path, task: Task, encoder: TextEncoder) -> SoftLabels:
    """Make a store from a file with a teacher's logits or probabilities.

    Args:
        path: `.parquet` or `.jsonl`, also `.gz`, with the columns `text`, for pairs
            `text_pair`, and either `logits` or the task's output: `probabilities`, a list of
            numbers in each row, or for regression `score`, a number.
        folder: folder of the new store.
        task: the task, with the labels in the order of the numbers.
        encoder: text encoder of the teacher; students have its vocabulary if it is BERT's
            WordPiece, or else one of their own.

    Raises:
        KdedgeError: a column is missing, a row has no valid logits or probabilities, a text occurs
            twice, the scores can't be standardised, or `folder` is not empty.
    """
    rows = read_rows(path)
    columns = {name for row in rows for name in row.fields}
    kinds = [name for name in ("logits", task.output) if name in columns]
    if len(kinds) > 1:
        raise KdedgeError(f"{path}: both columns logits and {task.output}. Remove one of them.")
    if not kinds:
        raise KdedgeError(
            f"{path}: neither a column logits nor {task.output}. The columns are: "
            f"{', '.join(sorted(columns))}."
        )
    (kind,) = kinds
    logits: dict[Text, Logits] = {}
    names = [name for name in TEXT_COLUMNS if name in columns] or ["text"]
    for row in rows:
        text = row.text_of(names)
        if text in logits:
            raise KdedgeError(f"{row.where}: the text {quoted(text)} occurs twice; remove one.")
        logits[text] = _logits(row, kind, task)
    if not logits:
        raise KdedgeError(f"{path}: no rows.")
    values = np.stack([*logits.values()])
    if isinstance(task, Regression):
        # Raises KdedgeError for equal or huge scores.
        task.from_labels(values[:, 0].tolist(), f"{path}: column {kind!r}")
    # Models learn standardised scores; other tasks are not changed.
    fitted = task.fitted(task.outputs(values))
    factor, summand = fitted.from_logits_of(task)
    values, task = np.asarray(factor * values + summand, np.float32), fitted
    store = SoftLabels.create(
        folder,
        f"imported:{sha256(path)}",
        task,
        has_features=False,
        shares_tokens=encoder.is_berts,
    )
    store.keep(student_encoder(encoder, logits), None)
    if missing := {*store.missing(logits)}:
        rows_to_add = [row for row, text in enumerate(logits) if text in missing]
        store.add([text for text in logits if text in missing], values[rows_to_add])
    return store


def _logits(row: Row, kind: str, task: Task) -> Logits:
    value = row.fields.get(kind)
    where = f"{row.where}: {kind} is {str(value)[:60]}"
    if isinstance(value, str) and task.width > 1:
        raise KdedgeError(f"{where}, which is text; lists of numbers need .jsonl or .parquet.")
    try:
        values = np.array(value, np.float32)
    except (TypeError, ValueError):
        raise KdedgeError(f"{where}; {task.width} finite numbers are needed.") from None
    if task.width == 1 and not values.shape:
        values = values[None]
    if values.shape != (task.width,) or not np.isfinite(values).all():
        raise KdedgeError(f"{where}; {task.width} finite numbers are needed.")
    return values if kind == "logits" else task.logits(values, where)
