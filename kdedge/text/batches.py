"""Chunks of an iterable, and batches of texts of similar length, with little padding."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Item = TypeVar("Item")
# Number of batches whose texts are sorted by length together: enough for little padding, few enough
# to keep the batches random.
SORTED_TOGETHER = 32


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Split an iterable into lists of `size` items; the last can be shorter.

    >>> list(chunks("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def shuffled_batches(
    lengths: Sequence[int] | npt.NDArray[np.int32], batch_size: int, seed: Sequence[int]
) -> list[npt.NDArray[np.intp]]:
    """The batches of an epoch in random order, each with texts of similar length.

    Args:
        lengths: length of each text in tokens.
        batch_size: texts in a batch; the last batches may be smaller.
        seed: equal seeds give equal batches.

    Returns:
        The positions in `lengths` for each batch; every text is in exactly one batch.
    """
    rng = np.random.default_rng(seed)
    order, tokens = rng.permutation(len(lengths)), np.asarray(lengths)
    batches = []
    for start in range(0, len(order), batch_size * SORTED_TOGETHER):
        window = order[start : start + batch_size * SORTED_TOGETHER]
        window = window[np.argsort(tokens[window], kind="stable")]
        batches += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]
