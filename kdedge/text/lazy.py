"""Reads a BERT's tokenizer.json without handing its words to `tokenizers`, which takes long."""

import json
from pathlib import Path
from typing import NamedTuple

from pydantic_core import from_json
from tokenizers import Tokenizer

from kdedge.errors import KdedgeError
from kdedge.text.words import WordTable


class LazyTokenizer(NamedTuple):
    """A tokenizer.json of which `tokenizers` has read everything but the words.

    That is enough for a `WordTable`, and says whether the file is right.

    Attributes:
        path: the file.
        content: what it contains.
        rules: a tokenizer with the special tokens only, and all else that the file has.
        vocabulary: ids by word piece, in the order of the ids, without gaps.
    """

    path: Path
    content: str
    rules: Tokenizer
    vocabulary: dict[str, int]

    def whole(self) -> Tokenizer:
        """The tokenizer with its words."""
        return _tokenizer(self.path, self.content)


def read_tokenizer(path: Path) -> Tokenizer | LazyTokenizer:
    """Read a tokenizer.json: a BERT's without its words, others wholly.

    Raises:
        KdedgeError: it can't be read.
    """
    try:
        content = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise KdedgeError(f"{path}: not a readable tokenizer ({error}).") from None
    return _lazy(path, content) or _tokenizer(path, content)


def _lazy(path: Path, content: str) -> LazyTokenizer | None:
    """None if the words are not a BERT's, or `tokenizers` could refuse them."""
    # Before all of a large file of another kind is read twice.
    if '"BertNormalizer"' not in content:
        return None
    try:
        stored = from_json(content)
        model = stored["model"]
        vocabulary = model["vocab"]
        added = {token["content"]: token["id"] for token in stored["added_tokens"]}
        special = {"[PAD]", model["unk_token"], *stored["post_processor"]["special_tokens"]}
        if not (
            [*vocabulary.values()] == [*range(len(vocabulary))]
            # No 1.0 and no true.
            and {*map(type, vocabulary.values())} == {int}
            and special <= added.keys()
            and added.items() <= vocabulary.items()
            # An escape can be half of a surrogate pair.
            and "\\u" not in content
        ):
            return None
        rest = json.dumps({**stored, "model": {**model, "vocab": added}})
        rules = Tokenizer.from_str(rest)
    except Exception:  # tokenizers raises plain Exception; what is wrong it says of the whole file
        return None
    return LazyTokenizer(path, content, rules, vocabulary) if WordTable.suits(rules) else None


def _tokenizer(path: Path, content: str) -> Tokenizer:
    try:
        return Tokenizer.from_str(content)
    except Exception as error:  # tokenizers raises plain Exception
        raise KdedgeError(f"{path}: not a readable tokenizer ({error}).") from None
