"""An index of texts by hash, and reading the texts that it lacks. Imports no TensorFlow."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdedge.text.batches import chunks
from kdedge.text.pairs import Text, key_of
from kdedge.text.readers import TextFiles

Rows = npt.NDArray[np.int64]


class TextIndex:
    """The row of each text, by a sorted hash: 16 bytes for each text.

    The hash is BLAKE2b of the text's UTF-8, 64 bits. Among ten million texts the chance that any
    two have the same hash is 1 in 370,000.

        >>> index = TextIndex()
        >>> index.add(["good", "bad"])
        >>> index.rows(["bad", "new"]).tolist()
        [1, -1]
    """

    def __init__(self) -> None:
        self._hashes = np.zeros(0, np.uint64)
        self._rows = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, texts: Iterable[Text]) -> Rows:
        """The row of each text, int64 [texts]: its position in adding; -1 for unknown texts."""
        hashes = _hashes(texts)
        if not len(self):
            return np.full(len(hashes), -1)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self) - 1)
        return np.where(self._hashes[at] == hashes, self._rows[at], -1)

    def missing(self, texts: Iterable[Text]) -> list[Text]:
        """The texts that are not in the index, each once."""
        once = list(dict.fromkeys(texts))
        return [once[i] for i in np.flatnonzero(self.rows(once) < 0)]

    def add(self, texts: Iterable[Text]) -> None:
        """Add texts; none may be in the index already, or occur twice."""
        hashes = _hashes(texts)
        order = np.argsort(hashes)
        at = np.searchsorted(self._hashes, hashes[order])
        self._rows = np.insert(self._rows, at, len(self) + order)
        self._hashes = np.insert(self._hashes, at, hashes[order])


def read_missing(
    batch: dict[str, Any], like: TextFiles, stored: Any, size: int
) -> Iterator[dict[str, Any]]:
    """Read the texts of files that an index lacks, for Ray Data's `map_batches`.

    Args:
        batch: `file`: paths.
        like: has the column of the texts and the format of the files.
        stored: reference to the index in Ray's object store.
        size: texts to read at a time.

    Yields:
        `text`: the missing texts of each part that was read, each once.
    """
    import ray

    index: TextIndex = ray.get(stored)
    for file in batch["file"]:
        for chunk in chunks(TextFiles(Path(file), like.text, like.form, like.empty), size):
            if missing := index.missing(chunk):
                yield {"text": np.array(missing, object)}


def _hashes(texts: Iterable[Text]) -> npt.NDArray[np.uint64]:
    hashes = (hashlib.blake2b(key_of(text).encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(hashes), np.uint64)
