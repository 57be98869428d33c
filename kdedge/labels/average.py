"""Averages the soft labels of several teachers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdedge.errors import KdedgeError
from kdedge.labels.store import SoftLabels
from kdedge.recipe import fingerprint


def ensemble_soft_labels(
    stores: Sequence[SoftLabels], folder: Path, weights: Sequence[float] | None = None
) -> SoftLabels:
    """Make a store with the weighted mean of the logits of several stores.

    Args:
        stores: stores with the same task and texts. Sentence vectors, token vectors and text
            encoder are taken from the first one.
        folder: folder of the new store.
        weights: weight of each store; None for equal weights.

    Raises:
        KdedgeError: the tasks or texts differ, there is not one weight above 0 for each store, or
            `folder` has another store.
    """
    shares = shares_of("stores", len(stores), weights)
    first = stores[0]
    for store in stores[1:]:
        if store.task != first.task:
            raise KdedgeError(
                f"{store.folder}: soft labels for {store.task}; those in "
                f"{first.folder} are for {first.task}."
            )
    texts = first.texts
    logits = sum(
        share * store.lookup(texts)[0] for share, store in zip(shares, stores, strict=True)
    )
    name = fingerprint(*(s.teacher for s in stores), *(str(share) for share in shares))
    average = SoftLabels.create(folder, name, first.task, first.has_features, first.shares_tokens)
    average.keep(first.encoder(), first.token_vectors())
    if missing := average.missing(texts):
        if len(missing) < len(texts):
            raise KdedgeError(f"{folder}: it has some of these texts already. Name another folder.")
        average.add(list(texts), np.asarray(logits, np.float32), first.lookup(texts)[1])
    return average


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
    if count < 1 or len(values) != count or not min(values) > 0:
        raise KdedgeError(
            f"weights: {values} for {count} {what}; give at least one, and "
            "a weight above 0 for each."
        )
    return [weight / sum(values) for weight in values]
