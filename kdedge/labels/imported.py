"""Soft labels from elsewhere: a PyTorch model, an LLM, any classifier."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdedge.errors import KdedgeError
from kdedge.files import (
    sha256,
)
from kdedge.labels.store import Logits, SoftLabels
from kdedge.text.encoder import TextEncoder
from kdedge.text.readers import Row, read_rows

# What probabilities of 0 are taken for: their logits must be finite.
SMALLEST_PROBABILITY = 1e-7


def import_soft_labels(
    path: Path, folder: Path, label_names: Sequence[str], encoder: TextEncoder
) -> SoftLabels:
    """Make a store of what another teacher said, which need not be at hand or in TensorFlow.

    Args:
        path: `.parquet` or `.jsonl`, also `.gz`, with a column `text` and one of `logits` and
            `probabilities`: as many numbers in each row as there are labels.
        folder: of the store, to be made.
        label_names: the classes, in the order of the numbers.
        encoder: what turns texts into the student's inputs.

    Raises:
        KdedgeError: a column is missing, a row's numbers are not logits or probabilities, a text
            occurs twice, or `folder` has something in it.
    """
    rows = read_rows(path)
    there = {name for row in rows for name in row.fields}
    kind = next((name for name in ("logits", "probabilities") if name in there), None)
    if kind is None:
        raise KdedgeError(
            f"{path}: neither a column logits nor probabilities. There are: "
            f"{', '.join(sorted(there))}."
        )
    logits: dict[str, Logits] = {}
    for row in rows:
        text = row.text("text")
        if text in logits:
            raise KdedgeError(f"{row.where}: the text {text[:40]!r} again; once is allowed.")
        logits[text] = _logits(row, kind, len(label_names))
    store = SoftLabels.create(folder, f"imported:{sha256(path)}", label_names, has_features=False)
    store.keep(encoder, None)
    if missing := store.missing(logits):
        store.add(missing, np.stack([logits[text] for text in missing]))
    return store


def _logits(row: Row, kind: str, classes: int) -> Logits:
    given = row.fields.get(kind)
    where = f"{row.where}: {kind} is {str(given)[:60]}"
    try:
        values = np.array(given, np.float32)
    except (TypeError, ValueError):
        raise KdedgeError(f"{where}; {classes} finite numbers are needed.") from None
    if values.shape != (classes,) or not np.isfinite(values).all():
        raise KdedgeError(f"{where}; {classes} finite numbers are needed.")
    if kind == "logits":
        return values
    if (values < 0).any() or abs(values.sum() - 1) > 1e-3:
        raise KdedgeError(f"{where}; they must be at least 0 and sum to 1.")
    return np.log(np.maximum(values, SMALLEST_PROBABILITY))
