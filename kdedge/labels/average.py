"""The average of several teachers' soft labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdedge.errors import KdedgeError
from kdedge.labels.store import SoftLabels
from kdedge.recipe import fingerprint


def ensemble_soft_labels(
    stores: Sequence[SoftLabels], folder: Path, weights: Sequence[float] | None = None
) -> SoftLabels:
    """Make a store with the weighted means of the logits of several.

    Args:
        stores: of the same classes and texts. The first one's sentence vectors, token vectors and
            text encoder go into the new store.
        folder: of the new store, to be made.
        weights: how much each counts; None is 1 each.

    Raises:
        KdedgeError: other classes or texts, not a weight above 0 for each, or `folder` has another
            store in it.
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
    made = SoftLabels.create(folder, name, first.task, first.has_features)
    made.keep(first.encoder(), first.token_vectors())
    if missing := made.missing(texts):
        if len(missing) < len(texts):
            raise KdedgeError(f"{folder}: holds a part of these texts already. Name another.")
        made.add(list(texts), np.asarray(logits, np.float32), first.lookup(texts)[1])
    return made


def shares_of(what: str, count: int, weights: Sequence[float] | None) -> list[float]:
    """The weights of so many teachers or stores, divided by their sum; equal ones for None.

    Raises:
        KdedgeError: none of these, or not a weight above 0 for each.
    """
    given = [1.0] * count if weights is None else list(weights)
    if count < 1 or len(given) != count or not min(given) > 0:
        raise KdedgeError(
            f"weights: {given} for {count} {what}; one above 0 for each is needed, and at least "
            "one of these."
        )
    return [weight / sum(given) for weight in given]
