"""Averages the soft labels of several teachers."""

from collections.abc import Sequence
from math import inf
from pathlib import Path

import numpy as np

from kdedge.errors import KdedgeError
from kdedge.labels.store import SoftLabels
from kdedge.recipe import fingerprint
from kdedge.tasks import Logits
from kdedge.text.pairs import Text


def ensemble_soft_labels(
    stores: Sequence[SoftLabels], folder: Path, weights: Sequence[float] | None = None
) -> SoftLabels:
    """Make a store with the weighted mean of the logits of several stores.

    Args:
        stores: stores with the same texts and the same labels, in any order, or scores. Sentence
            vectors, token vectors and text encoder are taken from the first one.
        folder: folder of the new store.
        weights: weight of each store; None for equal weights.

    Raises:
        KdedgeError: the tasks or texts differ, there is not one weight above 0 for each store, or
            `folder` has another store.
    """
    shares = shares_of("stores", len(stores), weights)
    first = stores[0]
    texts = first.texts
    logits = sum(
        share * _logits_of(store, first, texts) for share, store in zip(shares, stores, strict=True)
    )
    name = fingerprint(*(s.teacher for s in stores), *(str(share) for share in shares))
    average = SoftLabels.create(folder, name, first.task, first.has_features, first.shares_tokens)
    average.keep(first.encoder(), first.token_vectors())
    if missing := average.missing(texts):
        if len(missing) < len(texts):
            raise KdedgeError(f"{folder}: it has some of these texts already. Name another folder.")
        average.add(list(texts), np.asarray(logits, np.float32), first.lookup(texts)[1])
    return average


def _logits_of(store: SoftLabels, first: SoftLabels, texts: Sequence[Text]) -> Logits:
    """The logits of a store, as logits of the first store's task."""
    own, task = store.task, first.task
    if own.name != task.name or sorted(own.output_names) != sorted(task.output_names):
        raise KdedgeError(
            f"{store.folder}: soft labels for {own}; those in {first.folder} are for {task}."
        )
    factor, summand = task.from_logits_of(own)
    order = [own.output_names.index(name) for name in task.output_names]
    return factor * store.lookup(texts)[0][:, order] + summand


def shares_of(what: str, count: int, weights: Sequence[float] | None) -> list[float]:
    """Weights divided by their sum; equal ones for None.

        >>> shares_of("stores", 2, [3, 1])
        [0.75, 0.25]

    Args:
        what: what is weighted, for messages.
        count: number of these.
        weights: weight of each.

    Raises:
        KdedgeError: `count` is 0, or there is not one weight above 0 for each.
    """
    values = [1.0] * count if weights is None else list(weights)
    if count < 1 or len(values) != count or not all(0 < v < inf for v in values):
        raise KdedgeError(
            f"weights: {values} for {count} {what}; give at least one, and "
            "a weight above 0 for each."
        )
    return [weight / sum(values) for weight in values]
