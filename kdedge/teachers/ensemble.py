"""Several teachers as one: weighted means of their logits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kdedge.errors import KdedgeError
from kdedge.recipe import fingerprint
from kdedge.teachers.soft_labels import SoftLabels


class Ensemble(keras.Model):
    """Live teachers as one, which gives `logits`, float32 [batch, classes].

    Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section 3, which average an ensemble's teachers.

    Args:
        teachers: give logits, or dictionaries with `logits`, of the same classes.
        weights: how much each counts; None is 1 each.

    Raises:
        KdedgeError: no teacher, or not a weight above 0 for each.
    """

    def __init__(
        self, teachers: Sequence[keras.Model], weights: Sequence[float] | None = None
    ) -> None:
        super().__init__(name="ensemble")
        self.shares = _shares("teachers", len(teachers), weights)
        self.teachers = list(teachers)

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """The weighted mean of what the teachers say."""
        said = [teacher(inputs, training=training) for teacher in self.teachers]
        logits = [one["logits"] if isinstance(one, dict) else one for one in said]
        return {"logits": sum(share * one for share, one in zip(self.shares, logits, strict=True))}


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
    shares = _shares("stores", len(stores), weights)
    first = stores[0]
    for store in stores[1:]:
        if store.label_names != first.label_names:
            raise KdedgeError(
                f"{store.folder}: soft labels for {', '.join(store.label_names)}; those in "
                f"{first.folder} are for {', '.join(first.label_names)}."
            )
    texts = first.texts
    logits = sum(
        share * store.lookup(texts)[0] for share, store in zip(shares, stores, strict=True)
    )
    name = fingerprint(*(s.teacher for s in stores), *(str(share) for share in shares))
    made = SoftLabels.create(folder, name, first.label_names, first.has_features)
    made.keep(first.encoder(), first.token_vectors())
    if missing := made.missing(texts):
        if len(missing) < len(texts):
            raise KdedgeError(f"{folder}: holds a part of these texts already. Name another.")
        made.add(list(texts), np.asarray(logits, np.float32), first.lookup(texts)[1])
    return made


def _shares(what: str, count: int, weights: Sequence[float] | None) -> list[float]:
    given = [1.0] * count if weights is None else list(weights)
    if count < 1 or len(given) != count or not min(given) > 0:
        raise KdedgeError(
            f"weights: {given} for {count} {what}; one above 0 for each is needed, and at least "
            "one of these."
        )
    return [weight / sum(given) for weight in given]
