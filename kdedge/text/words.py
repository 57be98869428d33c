"""Splits texts into BERT's word pieces, with a table of the words that were split before.

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

# The most words in a table (about 10 MB). Longer words are rare, and are split each time.
MAX_WORDS, MAX_CHARACTERS = 32_768, 32
# A punctuation mark, or a run of characters without punctuation and ASCII white space.
PARTS = re.compile("[{0}]|[^{0}\t\n\r]+".format(re.escape(string.punctuation)))


class WordTable(dict[str, bytes]):
    """The ids of word pieces for each run of characters between spaces, split when first asked for.

    Ids are stored as the bytes of C ints, which are faster to join and to turn into an array than
    Python's integers.

    The ids are equal to those of `tokenizers`, but several times as fast, because most words
    of a text are in the table already. A table is enough because BERT splits each word alone:

    - The normalizer changes one character at a time, except for the order of accents on a letter.
    - The pre-tokenizer ends a word at white space, and before and after each punctuation mark. The
      normalizer keeps spaces and ASCII punctuation. So a text can be cut there first, and each part
      normalized and split alone.
    - The normalizer changes only the case of ASCII letters and digits.
    - Added tokens, such as [SEP], are searched for in the whole text, before everything else. Texts
      with one are left to `tokenizers`.

    Threads can share a table.

    Args:
        tokenizer: a tokenizer that `suits`.
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
        # (?!) never matches.
        self._added = re.compile("|".join(map(re.escape, added)) or "(?!)")

    @staticmethod
    def suits(tokenizer: Tokenizer) -> bool:
        """Whether a tokenizer is BERT's, and its added tokens match only as they are written."""
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
        """Ids of a text's word pieces, without special tokens; None if it has an added token."""
        if self._added.search(text):
            return None
        return array("i", b"".join(map(self.__getitem__, text.split(" "))))

    def tokens(
        self, text: str, first: array[int], last: array[int], length: int, side: str = "right"
    ) -> array[int] | None:
        """Ids of a text with special tokens, truncated; None if the text has an added token.

        Args:
            text: the text.
            first: ids of the special tokens before the text.
            last: ids of the special tokens after the text.
            length: the most ids, special tokens included.
            side: `right` or `left`, the side on which long texts are truncated.
        """
        ids = self.ids(text)
        if ids is None:
            return None
        excess = len(first) + len(ids) + len(last) - length
        if excess > 0:
            ids = ids[:-excess] if side == "right" else ids[excess:]
        return first + ids + last

    def __missing__(self, chunk: str) -> bytes:
        """Split a run of characters without spaces, and add it to the table."""
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
        """WordPiece: the longest piece that starts the word, then the same for the rest of it."""
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
