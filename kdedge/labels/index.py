"""Which texts there are, and reading those that are missing. Imports no TensorFlow."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdedge.text.batches import chunks
from kdedge.text.readers import TextFiles

Rows = npt.NDArray[np.int64]


class TextIndex:
    """Which texts there are and where, in 16 bytes a text: by a hash of each, sorted.

    The hash is BLAKE2b of the text's UTF-8 in 64 bits. Of indices of ten million texts one in
    370,000 takes two of them for one.
    """

    def __init__(self) -> None:
        self._hashes = np.zeros(0, np.uint64)
        self._rows = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, texts: Iterable[str]) -> Rows:
        """How many texts were added before each, int64 [texts]; -1 for those that were not."""
        hashes = _hashes(texts)
        if not len(self):
            return np.full(len(hashes), -1)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self) - 1)
        return np.where(self._hashes[at] == hashes, self._rows[at], -1)

    def missing(self, texts: Iterable[str]) -> list[str]:
        """Those of the texts that are not in it, each once."""
        once = list(dict.fromkeys(texts))
        return [once[i] for i in np.flatnonzero(self.rows(once) < 0)]

    def add(self, texts: Iterable[str]) -> None:
        """Add texts that are not in it yet, each once."""
        hashes = _hashes(texts)
        order = np.argsort(hashes)
        at = np.searchsorted(self._hashes, hashes[order])
        self._rows = np.insert(self._rows, at, len(self) + order)
        self._hashes = np.insert(self._hashes, at, hashes[order])


def read_missing(
    batch: dict[str, Any], text: str, stored: Any, size: int
) -> Iterator[dict[str, Any]]:
    """What an index lacks of files, as Ray Data has it read.

    Args:
        batch: `file`, paths.
        text: column of the texts.
        stored: the index, in Ray's object store.
        size: texts that are read at a time.

    Yields:
        `text`, each once of those that were read together.
    """
    import ray

    index: TextIndex = ray.get(stored)
    for file in batch["file"]:
        for chunk in chunks(TextFiles(Path(file), text), size):
            if missing := index.missing(chunk):
                yield {"text": np.array(missing, object)}


def _hashes(texts: Iterable[str]) -> npt.NDArray[np.uint64]:
    hashes = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(hashes), np.uint64)
