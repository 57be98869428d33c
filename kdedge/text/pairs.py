"""Pairs of texts with one label, as in entailment or duplicate questions."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kdedge.errors import KdedgeError

MAX_TEXT_CHARS = 100_000
SURROGATE = re.compile("[\ud800-\udfff]")


class Pair(NamedTuple):
    """Two texts with one label; their order matters.

    >>> Pair("Where is my order?", "When will it arrive?").pair
    'When will it arrive?'

    Attributes:
        text: the first text.
        pair: the second text.
    """

    text: str
    pair: str


# The input of a model.
Text = str | Pair


def parts_of(text: Text) -> tuple[str, ...]:
    """The texts of a pair, or the text alone."""
    return text if isinstance(text, Pair) else (text,)


def check_text(text: str, where: str) -> None:
    """Check a text.

    Raises:
        KdedgeError: it is blank, longer than `MAX_TEXT_CHARS`, or has half of a surrogate pair.
    """
    if not isinstance(text, str):
        raise KdedgeError(f"{where}: a {type(text).__name__}; a text is needed.")
    if not text.strip():
        raise KdedgeError(f"{where}: the text is empty. Fill it in or leave it out.")
    if len(text) > MAX_TEXT_CHARS:
        raise KdedgeError(
            f"{where}: the text has {len(text):,} characters; at most {MAX_TEXT_CHARS:,} are "
            "allowed. A model reads its first words only: split it."
        )
    # Valid in JSON and in Python, but not in the tokenizers package.
    if not text.isascii() and SURROGATE.search(text):
        raise KdedgeError(f"{where}: the text has half a surrogate pair. Save it as UTF-8 again.")


def key_of(text: Text) -> str:
    """A string that is unique for each text and each pair.

    >>> key_of("a"), key_of(Pair("a", "b"))
    ('a', '\\x001\\x00ab')
    """
    return text if isinstance(text, str) else f"\0{len(text.text)}\0{text.text}{text.pair}"


def single(texts: Iterable[Text], what: str) -> Iterator[str]:
    """Check that none of the texts is a pair, and yield them unchanged.

    Args:
        texts: texts.
        what: name of the command that takes no pairs, for the message.

    Raises:
        KdedgeError: one of them is a pair.
    """
    for text in texts:
        if isinstance(text, Pair):
            raise KdedgeError(f"{what}: takes single texts only, and this data has pairs.")
        yield text


def in_one_line(text: Text) -> str:
    """A text, or a pair separated by a bar, to be shown."""
    return " | ".join(" ".join(part.split()) for part in parts_of(text))


TEXT_COLUMNS = ("text", "text_pair")


def columns_of(texts: Sequence[Text]) -> dict[str, list[str | None]]:
    """The columns of a table of texts: `text`, and `text_pair` for pairs."""
    columns: dict[str, list[str | None]] = {"text": [parts_of(text)[0] for text in texts]}
    if any(isinstance(text, Pair) for text in texts):
        columns["text_pair"] = [t.pair if isinstance(t, Pair) else None for t in texts]
    return columns


def from_columns(columns: Mapping[str, Sequence[str | None]]) -> list[Text]:
    """The texts of a table with the columns of `columns_of`.

    Raises:
        ValueError: a text is missing.
    """
    texts = columns["text"]
    pairs = columns.get("text_pair", [None] * len(texts))
    found: list[Text] = []
    for text, pair in zip(texts, pairs, strict=True):
        if text is None:
            raise ValueError("a text is missing")
        found.append(text if pair is None else Pair(text, pair))
    return found
