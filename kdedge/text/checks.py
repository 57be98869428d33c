"""Statistics of a tokenized corpus: lengths, truncated texts, unknown tokens, words in pieces."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdedge.text.batches import chunks
from kdedge.text.encoder import TextEncoder
from kdedge.text.pairs import Text

# Of a larger corpus, evenly spaced texts are taken.
TEXTS_LOOKED_AT = 20_000
AT_ONCE = 1000


@dataclass(frozen=True)
class Lengths:
    """Lengths of texts in tokens, special tokens included.

    Attributes:
        texts: number of texts in the sample.
        mean: mean length after truncation.
        median: median length.
        p95: 95th percentile of the lengths.
        longest: length of the longest text.
        limit: length that texts are truncated to.
        truncated: share of texts that are truncated.
        unknown: share of unknown tokens, special tokens left out.
        unknown_text: the first text with the largest share of unknown tokens; "" if all tokens are
            known.
        later_pieces: share of BERT's tokens that continue a word, special tokens left out; 0 for
            other tokenizers.
    """

    texts: int
    mean: float
    median: int
    p95: int
    longest: int
    limit: int
    truncated: float
    unknown: float
    unknown_text: Text
    later_pieces: float


def token_lengths(texts: Sequence[Text], encoder: TextEncoder) -> list[int]:
    """Length in tokens of each text, or of a sample of many texts."""
    looked_at = texts[:: -(-len(texts) // TEXTS_LOOKED_AT)]
    return [len(ids) for chunk in chunks(looked_at, AT_ONCE) for ids in encoder.token_ids(chunk)]


def lengths_of(texts: Sequence[Text], encoder: TextEncoder, max_length: int) -> Lengths:
    """Compute the statistics of texts.

    Args:
        texts: at least one text.
        encoder: a text encoder that truncates much later than `max_length`.
        max_length: length that texts will be truncated to.
    """
    looked_at = texts[:: -(-len(texts) // TEXTS_LOOKED_AT)]
    unknown_id, special = encoder.unknown_id, len(encoder.first) + len(encoder.last)
    continues = _continues(encoder)
    lengths, unknown, later_pieces, worst = [], 0, 0, 0.0
    worst_text: Text = ""
    for chunk in chunks(looked_at, AT_ONCE):
        for text, ids in zip(chunk, encoder.token_ids(chunk), strict=True):
            lengths.append(len(ids))
            unknown_in_text = 0 if unknown_id is None else ids.count(unknown_id)
            unknown += unknown_in_text
            later_pieces += sum(map(continues.__contains__, ids))
            if unknown_in_text / len(ids) > worst:
                worst, worst_text = unknown_in_text / len(ids), text
    counts = np.array(lengths)
    tokens = max(1, (counts - special).sum())
    return Lengths(
        texts=len(counts),
        mean=float(np.minimum(counts, max_length).mean()),
        median=int(np.median(counts)),
        p95=int(np.percentile(counts, 95, method="higher")),
        longest=int(counts.max()),
        limit=max_length,
        truncated=float((counts > max_length).mean()),
        unknown=float(unknown / tokens),
        unknown_text=worst_text,
        later_pieces=float(later_pieces / tokens),
    )


def _continues(encoder: TextEncoder) -> set[int]:
    """The tokens that continue a word in BERT's tokenizer; none in others."""
    if not encoder.is_berts:
        return set()
    prefix = encoder.tokenizer.model.continuing_subword_prefix
    return {token for token, piece in enumerate(encoder.vocabulary) if piece.startswith(prefix)}
