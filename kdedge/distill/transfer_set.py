"""The texts that a student learns from, as token ids in a file: memory does not hold them."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from kdedge.labels.store import SoftLabels
from kdedge.text.batches import chunks
from kdedge.text.encoder import TextEncoder

TOKENIZED_TOGETHER = 4096


class TransferSet:
    """A store's texts but those that are held out; memory does not hold them."""

    def __init__(self, store: SoftLabels, held_out: set[str]) -> None:
        self.store, self.held_out = store, held_out
        self.rows = np.flatnonzero(np.fromiter((text not in held_out for text in store), bool))

    def __iter__(self) -> Iterator[str]:
        return (text for text in self.store if text not in self.held_out)


class TokenIds:
    """Token ids of many texts, one after the other in a file; memory does not hold them."""

    def __init__(self, encoder: TextEncoder, texts: Iterable[str], file: Path) -> None:
        lengths = []
        # An older one may still be mapped.
        file.unlink(missing_ok=True)
        with file.open("wb") as written:
            for chunk in chunks(texts, TOKENIZED_TOGETHER):
                rows = encoder.token_ids(chunk)
                np.fromiter(chain.from_iterable(rows), np.int32).tofile(written)
                lengths.append(np.array([len(row) for row in rows], np.int32))
        self.lengths = np.concatenate(lengths)
        self._ids, self._ends = np.memmap(file, np.int32, "r"), np.cumsum(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def of(self, row: int) -> list[int]:
        """The ids of one text."""
        end = self._ends[row]
        return list(self._ids[end - self.lengths[row] : end].tolist())
