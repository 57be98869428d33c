"""How much a text is like the texts that a model was trained on."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
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
# As many tokens of general text are added to the training texts for each token of the vocabulary.
ADDED_TOKENS = 0.1
# Logarithms are stored in 1/16; a known pair of tokens is worth 2.
STEPS, OF_PAIR = 16, 32
TYPICAL_TOKENS = 2
LARGEST, ZERO = 127, 128
# Pairs that occur less often are not kept. The table has at least 8 bits for each pair.
LEAST_COUNT, BITS_A_PAIR, FEWEST_BITS = 2, 8, 1024
OF_FIRST, OF_SECOND = 31_337, 7_919
TOKENIZED_TOGETHER = 4096
REMEDY = "Export the bundle again."


class Familiarity:
    """How much a text is like the training texts, from its tokens alone.

    The mean over the tokens of ln(share in the training texts / share in general text), plus 2 for
    each token that follows the one before it at least twice in the training texts. What is typical
    of the training texts is subtracted, and two typical tokens are added, so that one odd word does
    not decide about a short text. Clients in every language compute the same number;
    tests/golden/familiarity.json has examples.

        >>> encoder = TextEncoder.load(Path("bundle"))
        >>> known = Familiarity.fit(encoder, ["a moving, funny film", "a moving, sad film"])
        >>> film, card = encoder.token_ids(["a funny film", "my card was declined"])
        >>> known.of(film) > known.of(card)
        True

    Args:
        content: content of a file `familiarity.bin`: a byte for each token, then the pairs.
        vocabulary: number of tokens.

    Raises:
        KdedgeError: the file has another size.
    """

    def __init__(self, content: bytes, vocabulary: int) -> None:
        bits = 8 * (len(content) - vocabulary)
        if bits < FEWEST_BITS or bits & (bits - 1):
            raise KdedgeError(
                f"{FAMILIARITY}: {len(content):,} bytes don't fit {vocabulary:,} tokens. {REMEDY}"
            )
        self.content, self._mask = content, bits - 1
        table = np.frombuffer(content, np.uint8)
        # Bytes are not negative, and faster to read than a list.
        self._tokens = (table[:vocabulary] + np.uint8(ZERO)).tobytes()
        # A byte for each bit, because single bits take Python longer to read.
        self._pairs = (OF_PAIR * np.unpackbits(table[vocabulary:], bitorder="little")).tobytes()

    @classmethod
    def fit(cls, encoder: TextEncoder, texts: Iterable[Text]) -> "Familiarity":
        """Count the tokens of the training texts, and their pairs."""
        size = len(encoder.vocabulary)
        counts, pairs, places = np.zeros(size), Counter[int](), 0
        for chunk in chunks(texts, TOKENIZED_TOGETHER):
            for ids in encoder.token_ids(chunk):
                np.add.at(counts, ids, 1)
                places += len(ids) - 1
                pairs.update(x * OF_FIRST + y * OF_SECOND for x, y in pairwise(ids))
        special = [*encoder.first, *encoder.last, encoder.pad_id]
        counts[special] = 0
        general = 1 / (FIRST_PLACE + np.arange(size))
        general /= general.sum()
        added = ADDED_TOKENS * size
        logs = np.log((counts + added * general) / (counts.sum() + added) / general)
        logs[special] = 0
        often = {pair: count for pair, count in pairs.items() if count >= LEAST_COUNT}
        known = np.array([*often], np.int64)
        typical = (counts @ logs + OF_PAIR / STEPS * sum(often.values())) / max(places, 1)
        bits = max(FEWEST_BITS, 1 << (BITS_A_PAIR * len(known) - 1).bit_length())
        table = np.zeros(bits, np.uint8)
        table[known & (bits - 1)] = 1
        tokens = np.round(STEPS * (logs - typical)).clip(-LARGEST, LARGEST).astype(np.int8)
        return cls(tokens.tobytes() + np.packbits(table, bitorder="little").tobytes(), size)

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

    def save(self, folder: Path) -> None:
        """Write the file into a folder."""
        (folder / FAMILIARITY).write_bytes(self.content)

    def of(self, ids: Sequence[int]) -> float:
        """The familiarity of a text with these token ids, special tokens included."""
        if len(ids) < 2:
            return 0.0
        tokens, pairs, mask = self._tokens, self._pairs, self._mask
        before, *later = ids
        total = -ZERO * len(later)
        for token in later:
            total += tokens[token] + pairs[before * OF_FIRST + token * OF_SECOND & mask]
            before = token
        return total / (STEPS * (len(later) + TYPICAL_TOKENS))


def familiarity_of(encoder: TextEncoder, corpus: "Corpus") -> Familiarity | None:
    """Fit to a corpus's training and unlabelled texts; None without BERT's WordPiece or texts.

    Other tokenizers don't have their tokens in the order of frequency.
    """
    texts = (*corpus.train.texts, *corpus.unlabelled)
    return Familiarity.fit(encoder, texts) if encoder.is_berts and texts else None
