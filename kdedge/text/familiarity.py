"""Computes familiarity: how much a text is like the texts that a model was trained on."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdedge.errors import KdedgeError
from kdedge.text.batches import chunks
from kdedge.text.encoder import TextEncoder
from kdedge.text.pairs import Text

if TYPE_CHECKING:
    # Apps that only predict don't load what reads data.
    from kdedge.text.corpus import Corpus

FAMILIARITY = "familiarity.bin"
# The general share of a token falls with its place in the vocabulary, as words do by their rank
# (Zipf's law), from this place on.
FIRST_PLACE = 10
# Smoothing: tokens of general text that are added for each token of the vocabulary.
ADDED_TOKENS = 0.1
# Values are stored in 1/16.
STEPS, LARGEST, ZERO = 16, 127, 128
TYPICAL_TOKENS = 2
TOKENIZED_TOGETHER = 4096
REMEDY = "Export the bundle again."


class Familiarity:
    """How much a text is like the training texts, from its tokens alone.

    The mean over the tokens, except the first, of ln(share in the training texts / share in general
    text), less what is typical of the training texts. Two typical tokens are added, so that one odd
    word does not decide about a short text. Clients in every language compute the same number;
    tests/golden/familiarity.json has examples.

        >>> encoder = TextEncoder.load(Path("bundle"))
        >>> known = Familiarity.fit(encoder, ["a moving, funny film", "a moving, sad film"])
        >>> film, card = encoder.token_ids(["a funny film", "my card was declined"])
        >>> known.of(film) > known.of(card)
        True

    Args:
        content: content of a file `familiarity.bin`: an int8 for each token, in steps of 1/16.
        vocabulary: number of tokens.

    Raises:
        KdedgeError: the file has another size.
    """

    def __init__(self, content: bytes, vocabulary: int) -> None:
        if len(content) != vocabulary:
            raise KdedgeError(
                f"{FAMILIARITY}: {len(content):,} bytes don't fit {vocabulary:,} tokens. {REMEDY}"
            )
        self.content = content
        # Bytes are not negative, and faster to read than a list.
        self._values = (np.frombuffer(content, np.uint8) + np.uint8(ZERO)).tobytes()

    @classmethod
    def fit(cls, encoder: TextEncoder, texts: Iterable[Text]) -> "Familiarity":
        """Count the tokens of the training texts."""
        size = len(encoder.vocabulary)
        counts, places = np.zeros(size), 0
        for chunk in chunks(texts, TOKENIZED_TOGETHER):
            for ids in encoder.token_ids(chunk):
                np.add.at(counts, ids, 1)
                places += len(ids) - 1
        special = [*encoder.first, *encoder.last, encoder.pad_id]
        counts[special] = 0
        general = 1 / (FIRST_PLACE + np.arange(size))
        general /= general.sum()
        added = ADDED_TOKENS * size
        logs = np.log((counts + added * general) / (counts.sum() + added) / general)
        logs[special] = 0
        values = logs - counts @ logs / max(places, 1)
        steps = np.round(STEPS * values).clip(-LARGEST, LARGEST).astype(np.int8)
        return cls(steps.tobytes(), size)

    @classmethod
    def load(cls, folder: Path, encoder: TextEncoder) -> "Familiarity":
        """Read the file in a folder.

        Raises:
            KdedgeError: there is no such file, or it belongs to another vocabulary.
        """
        try:
            content = (folder / FAMILIARITY).read_bytes()
        except OSError as error:
            raise KdedgeError(f"{folder / FAMILIARITY}: {error}. {REMEDY}") from None
        return cls(content, len(encoder.vocabulary))

    def pruned(self, kept: Sequence[int]) -> "Familiarity":
        """The same of an encoder that has only these tokens; see `TextEncoder.pruned`."""
        return Familiarity(bytes(self.content[token] for token in kept), len(kept))

    def save(self, folder: Path) -> None:
        """Write the file into a folder."""
        (folder / FAMILIARITY).write_bytes(self.content)

    def of(self, ids: Sequence[int]) -> float:
        """The familiarity of a text with these token ids, special tokens included."""
        if len(ids) < 2:
            return 0.0
        count = len(ids) - 1
        values = self._values
        total = sum([values[token] for token in ids[1:]]) - ZERO * count
        return total / (STEPS * (count + TYPICAL_TOKENS))


def familiarity_of(encoder: TextEncoder, corpus: "Corpus") -> Familiarity | None:
    """Fit to a corpus's training and unlabelled texts; None without BERT's WordPiece or texts.

    Other tokenizers don't have their tokens in the order of frequency.
    """
    texts = (*corpus.train.texts, *corpus.unlabelled)
    return Familiarity.fit(encoder, texts) if encoder.is_berts and texts else None
