"""Texts some at a time, and batches of like length, so that little is padded."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from kdedge.text.pairs import Text

AnyText = TypeVar("AnyText", bound=Text)
# Batches whose texts are sorted together: long enough that little is padded, short enough that
# a batch still mixes the corpus.
SORTED_TOGETHER = 32


def chunks(texts: Iterable[AnyText], size: int) -> Iterator[list[AnyText]]:
    """`size` texts at a time, and what is left."""
    rest = iter(texts)
    while chunk := list(islice(rest, size)):
        yield chunk


def shuffled_batches(
    lengths: Sequence[int] | npt.NDArray[np.int32], batch_size: int, seed: Sequence[int]
) -> list[npt.NDArray[np.intp]]:
    """An epoch's batches, in random order, each of texts of like length.

    Args:
        lengths: of each text, in tokens.
        batch_size: texts in a batch; the last ones may be smaller.
        seed: equal seeds give equal batches.

    Returns:
        Positions in `lengths`, a batch each; every text is in exactly one.
    """
    rng = np.random.default_rng(seed)
    order, tokens = rng.permutation(len(lengths)), np.asarray(lengths)
    batches = []
    for start in range(0, len(order), batch_size * SORTED_TOGETHER):
        window = order[start : start + batch_size * SORTED_TOGETHER]
        window = window[np.argsort(tokens[window], kind="stable")]
        batches += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]
