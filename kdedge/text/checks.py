"""What a tokenizer makes of a corpus: how long the texts are, and what it does not know."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdedge.text.batches import chunks
from kdedge.text.encoder import TextEncoder
from kdedge.text.pairs import Text

# Of more texts so many are looked at, evenly spread.
TEXTS_LOOKED_AT = 20_000
AT_ONCE = 1000


@dataclass(frozen=True)
class Lengths:
    """Lengths of texts in tokens, special tokens included.

    Attributes:
        texts: how many were looked at.
        mean: of their lengths, once cut.
        median: of their lengths.
        p95: 95% are as long or shorter.
        longest: of them.
        limit: what texts are cut to.
        cut: share of them that is longer.
        unknown: share of unknown tokens, special tokens left out.
        unknown_text: the first text with the largest share of them; "" if there are none.
    """

    texts: int
    mean: float
    median: int
    p95: int
    longest: int
    limit: int
    cut: float
    unknown: float
    unknown_text: Text


def token_lengths(texts: Sequence[Text], encoder: TextEncoder) -> list[int]:
    """The number of tokens of each text, or of some evenly spread over many texts."""
    looked_at = texts[:: -(-len(texts) // TEXTS_LOOKED_AT)]
    return [len(ids) for chunk in chunks(looked_at, AT_ONCE) for ids in encoder.token_ids(chunk)]


def lengths_of(texts: Sequence[Text], encoder: TextEncoder, max_length: int) -> Lengths:
    """Look at texts with a tokenizer.

    Args:
        texts: at least one.
        encoder: cuts texts much later than `max_length`.
        max_length: tokens that texts will be cut to.
    """
    looked_at = texts[:: -(-len(texts) // TEXTS_LOOKED_AT)]
    unknown_id, special = encoder.unknown_id, len(encoder.first) + len(encoder.last)
    lengths, unknown, worst = [], 0, 0.0
    worst_text: Text = ""
    for chunk in chunks(looked_at, AT_ONCE):
        for text, ids in zip(chunk, encoder.token_ids(chunk), strict=True):
            lengths.append(len(ids))
            here = 0 if unknown_id is None else ids.count(unknown_id)
            unknown += here
            if here / len(ids) > worst:
                worst, worst_text = here / len(ids), text
    counts = np.array(lengths)
    return Lengths(
        texts=len(counts),
        mean=float(np.minimum(counts, max_length).mean()),
        median=int(np.median(counts)),
        p95=int(np.percentile(counts, 95, method="higher")),
        longest=int(counts.max()),
        limit=max_length,
        cut=float((counts > max_length).mean()),
        unknown=float(unknown / max(1, (counts - special).sum())),
        unknown_text=worst_text,
    )
