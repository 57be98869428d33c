"""Splits texts into BERT's word pieces by a table of words that were already split.

Needs Python 3.9 or later and `tokenizers`, and nothing of kdedge.
"""

from __future__ import annotations

import re
import string
import sys
from array import array
from collections.abc import Mapping

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

# What the table holds at most: some 10 MB. Longer words are rare, and are split each time.
MAX_WORDS, MAX_CHARACTERS = 32_768, 32
# A punctuation mark by itself, or what is between two of them or ASCII's white space.
PARTS = re.compile("[{0}]|[^{0}\t\n\r]+".format(re.escape(string.punctuation)))


class WordTable(dict[str, bytes]):
    """Ids of word pieces by what is between two spaces; what is missing is split and added.

    Ids are the bytes of C ints: joining those of a text's words and giving them to numpy takes less
    time than the same with integers of Python.

    The ids are those of `tokenizers`, several times as fast, since most words of a text came
    before. That holds because BERT looks at no two words together:

    - Its normalizer changes one character at a time, but for the order of accents on one letter.
    - Its pre-tokenizer ends a word at each white space and before and after each punctuation mark.
      A space, or another mark of ASCII, stays what it is in the normalizer. So a text can be cut
      there first, and the rest done with each part.
    - Of ASCII's letters and digits the normalizer changes the case only.
    - Added tokens, such as [SEP], are looked for in the whole text, before all that. A text that
      has one is left to `tokenizers`.

    Threads can share a table.

    Args:
        tokenizer: one that `suits`.
        vocabulary: ids by word piece; None for the tokenizer's own.
    """

    def __init__(self, tokenizer: Tokenizer, vocabulary: Mapping[str, int] | None = None) -> None:
        if vocabulary is None:
            vocabulary = tokenizer.get_vocab(with_added_tokens=False)
        model = tokenizer.model
        self._vocabulary, self._unknown = vocabulary, _bytes(vocabulary[model.unk_token])
        self._prefix = model.continuing_subword_prefix
        self._longest = model.max_input_chars_per_word
        self._normalizer, self._pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
        self._lowercase = tokenizer.normalizer.lowercase
        added = (token.content for token in tokenizer.get_added_tokens_decoder().values())
        # (?!) is nowhere.
        self._added = re.compile("|".join(map(re.escape, added)) or "(?!)")

    @staticmethod
    def suits(tokenizer: Tokenizer) -> bool:
        """Whether it is BERT's, with added tokens that are looked for just as they are written."""
        return (
            isinstance(tokenizer.model, WordPiece)
            and tokenizer.model.token_to_id(tokenizer.model.unk_token) is not None
            and isinstance(tokenizer.normalizer, BertNormalizer)
            and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
            and not any(
                token.normalized or token.lstrip or token.rstrip or token.single_word
                for token in tokenizer.get_added_tokens_decoder().values()
            )
        )

    def ids(self, text: str) -> array[int] | None:
        """Ids of a text's word pieces, without special tokens; None for texts it can't split."""
        if self._added.search(text):
            return None
        return array("i", b"".join(map(self.__getitem__, text.split(" "))))

    def tokens(
        self, text: str, first: array[int], last: array[int], length: int, side: str = "right"
    ) -> array[int] | None:
        """Ids of a text between special tokens, truncated; None for texts it can't split.

        Args:
            text: the text.
            first: ids of the special tokens before it.
            last: ids of those after it.
            length: most ids, special tokens included.
            side: `right` or `left`, where a long text loses ids.
        """
        ids = self.ids(text)
        if ids is None:
            return None
        excess = len(first) + len(ids) + len(last) - length
        if excess > 0:
            ids = ids[:-excess] if side == "right" else ids[excess:]
        return first + ids + last

    def __missing__(self, chunk: str) -> bytes:
        """Split what is between two spaces, and add it."""
        if chunk.isascii() and chunk.isalnum():
            ids = self._pieces(chunk.lower() if self._lowercase else chunk)
        elif (parts := PARTS.findall(chunk)) != [chunk]:
            ids = b"".join(map(self.__getitem__, parts))
        else:
            words = self._pre_tokenizer.pre_tokenize_str(self._normalizer.normalize_str(chunk))
            ids = b"".join(self._pieces(word) for word, _ in words)
        if len(chunk) <= MAX_CHARACTERS:
            if len(self) >= MAX_WORDS:
                self.clear()
            self[chunk] = ids
        return ids

    def _pieces(self, word: str) -> bytes:
        """WordPiece: the longest piece that the word starts with, then the same of the rest."""
        if len(word) > self._longest:
            return self._unknown
        ids, rest, start = b"", word, 0
        while len(rest) > start:
            for end in range(len(rest), start, -1):
                if (number := self._vocabulary.get(rest[:end])) is not None:
                    break
            else:
                return self._unknown
            ids += _bytes(number)
            rest, start = self._prefix + rest[end:], len(self._prefix)
        return ids


def _bytes(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)
