"""Reads a BERT's tokenizer.json without loading its words into `tokenizers`, which takes long."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic_core import from_json
from tokenizers import Tokenizer

from kdedge.errors import KdedgeError
from kdedge.text.words import WordTable


class LazyTokenizer(NamedTuple):
    """A tokenizer.json that is read without its words, which is enough for a `WordTable`.

    Attributes:
        path: path of the file.
        content: content of the file.
        rules: a tokenizer with everything in the file, but only the special tokens as words.
        vocabulary: ids by word piece, in the order of the ids, without gaps.
    """

    path: Path
    content: bytes
    rules: Tokenizer
    vocabulary: dict[str, int]

    def whole(self) -> Tokenizer:
        """The tokenizer with its words."""
        return _tokenizer(self.path, self.content)


def read_tokenizer(path: Path) -> Tokenizer | LazyTokenizer:
    """Read a tokenizer.json: a BERT's without its words, others completely.

    Raises:
        KdedgeError: it can't be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise KdedgeError(f"{path}: not a readable tokenizer ({error}).") from None
    return _lazy(path, content) or _tokenizer(path, content)


def _lazy(path: Path, content: bytes) -> LazyTokenizer | None:
    """A lazy tokenizer; None if it is not a BERT's, or `tokenizers` could refuse its words."""
    # A quick check, so that a large file of another kind is not parsed twice.
    if b'"BertNormalizer"' not in content:
        return None
    try:
        # Nearly every string is another word.
        stored = from_json(content, cache_strings="none")
        model = stored["model"]
        vocabulary = model["vocab"]
        added = {token["content"]: token["id"] for token in stored["added_tokens"]}
        special = {"[PAD]", model["unk_token"], *stored["post_processor"]["special_tokens"]}
        if not (
            # 1.0 and true are equal to 1, but refused.
            {*map(type, vocabulary.values())} == {int}
            and np.array_equal([*vocabulary.values()], np.arange(len(vocabulary)))
            and special <= added.keys()
            and added.items() <= vocabulary.items()
            # An escape can be half of a surrogate pair, which is refused.
            and b"\\u" not in content
        ):
            return None
        rest = json.dumps({**stored, "model": {**model, "vocab": added}})
        rules = Tokenizer.from_str(rest)
    except Exception:  # reading the whole file then shows what is wrong
        return None
    return LazyTokenizer(path, content, rules, vocabulary) if WordTable.suits(rules) else None


def _tokenizer(path: Path, content: bytes) -> Tokenizer:
    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # tokenizers raises plain Exception
        raise KdedgeError(f"{path}: not a readable tokenizer ({error}).") from None
