"""Soft labels from elsewhere: a PyTorch model, an LLM, any classifier."""

from pathlib import Path

import numpy as np

from kdedge.errors import KdedgeError
from kdedge.files import (
    sha256,
)
from kdedge.labels.store import SoftLabels
from kdedge.tasks import Logits, Task
from kdedge.text.encoder import TextEncoder
from kdedge.text.readers import Row, read_rows


def import_soft_labels(path: Path, folder: Path, task: Task, encoder: TextEncoder) -> SoftLabels:
    """Make a store of what another teacher said, which need not be at hand or in TensorFlow.

    Args:
        path: `.parquet` or `.jsonl`, also `.gz`, with a column `text` and one of `logits` and
            the task's output, for classification `probabilities`: a number a class in each row.
        folder: of the store, to be made.
        task: what the numbers are of, in their order.
        encoder: what turns texts into the student's inputs.

    Raises:
        KdedgeError: a column is missing, a row's numbers are not logits or probabilities, a text
            occurs twice, or `folder` has something in it.
    """
    rows = read_rows(path)
    there = {name for row in rows for name in row.fields}
    kind = next((name for name in ("logits", task.output) if name in there), None)
    if kind is None:
        raise KdedgeError(
            f"{path}: neither a column logits nor {task.output}. There are: "
            f"{', '.join(sorted(there))}."
        )
    logits: dict[str, Logits] = {}
    for row in rows:
        text = row.text("text")
        if text in logits:
            raise KdedgeError(f"{row.where}: the text {text[:40]!r} again; once is allowed.")
        logits[text] = _logits(row, kind, task)
    store = SoftLabels.create(folder, f"imported:{sha256(path)}", task, has_features=False)
    store.keep(encoder, None)
    if missing := store.missing(logits):
        store.add(missing, np.stack([logits[text] for text in missing]))
    return store


def _logits(row: Row, kind: str, task: Task) -> Logits:
    given = row.fields.get(kind)
    where = f"{row.where}: {kind} is {str(given)[:60]}"
    try:
        values = np.array(given, np.float32)
    except (TypeError, ValueError):
        raise KdedgeError(f"{where}; {task.width} finite numbers are needed.") from None
    if values.shape != (task.width,) or not np.isfinite(values).all():
        raise KdedgeError(f"{where}; {task.width} finite numbers are needed.")
    return values if kind == "logits" else task.logits(values, where)
