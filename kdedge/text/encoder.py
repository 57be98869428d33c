"""Turns texts into token ids, in the same way for teacher, student, bundle and app."""

import json
import string
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from kdedge.errors import KdedgeError
from kdedge.files import write_text
from kdedge.text.batches import chunks
from kdedge.text.lazy import LazyTokenizer, read_tokenizer
from kdedge.text.pairs import Text
from kdedge.text.pretrained import SETTINGS, TOKENIZER, Side, read_pretrained
from kdedge.text.words import WordTable

VOCABULARY = "vocab.txt"
ENCODER = "encoder.json"
PRUNING_BATCH = 4096
# Lengths that are chosen for a corpus are multiples of it.
LENGTH_STEP = 8


class Encoded(NamedTuple):
    """Token ids of texts, padded to one length; each array is int32 [texts, length]."""

    ids: npt.NDArray[np.int32]
    mask: npt.NDArray[np.int32]
    segment_ids: npt.NDArray[np.int32]

    @property
    def inputs(self) -> dict[str, npt.NDArray[np.int32]]:
        """All rows as a model's inputs."""
        return {"ids": self.ids, "mask": self.mask, "segment_ids": self.segment_ids}


class Tokens(NamedTuple):
    """The tokens of a text or a pair.

    Attributes:
        ids: special tokens included; a list, or an array of C ints.
        segments: 1 for the tokens of a pair's second text, if the model tells them apart.
    """

    ids: Sequence[int]
    segments: Sequence[int]

    @classmethod
    def of_text(cls, ids: Sequence[int]) -> "Tokens":
        """Tokens of a single text, from its ids."""
        return cls([*ids], [0] * len(ids))


def padded(rows: Sequence[Tokens], length: int | None = None, pad_id: int = 0) -> Encoded:
    """Tokens of texts as arrays, padded to `length` or, if it is None, to the longest text."""
    if length is None:
        length = max((len(row.ids) for row in rows), default=0)
    encoded = Encoded(*np.zeros((3, len(rows), length), np.int32))
    ids, mask, segment_ids = encoded
    if pad_id:
        ids += pad_id
    for i, row in enumerate(rows):
        tokens = len(row.ids)
        ids[i, :tokens] = row.ids
        mask[i, :tokens] = 1
        if any(row.segments):
            segment_ids[i, :tokens] = row.segments
    return encoded


class TextEncoder:
    """Encodes texts as token ids with a fast Hugging Face tokenizer, truncated to a length.

        >>> from pathlib import Path
        >>> encoder = TextEncoder.load(Path("bundle"))
        >>> encoder.encode(["a funny film", "a film"]).mask.tolist()
        [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]

    Args:
        tokenizer: adds the special tokens, for BERT [CLS] and [SEP]. A lazy one reads its words
            only when a text can't be split by the table of words.
        max_length: length that texts are truncated to, special tokens included.
        pad_id: id of the padding token; None for the id of [PAD], or 0 if there is none.
        truncation_side: side on which long texts are truncated; special tokens are kept.

    Attributes:
        first: ids of the special tokens before a text.
        last: ids of the special tokens after it.

    Raises:
        KdedgeError: `max_length` is too short, or the tokenizer lacks tokens that it needs.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | LazyTokenizer,
        max_length: int,
        pad_id: int | None = None,
        truncation_side: Side = "right",
    ) -> None:
        if max_length < 3:
            raise KdedgeError(
                f"max_length: {max_length}; at least 3 are needed: [CLS], a word piece and [SEP]."
            )
        self._lazy = tokenizer if isinstance(tokenizer, LazyTokenizer) else None
        rules = tokenizer.rules if isinstance(tokenizer, LazyTokenizer) else tokenizer
        rules.no_padding()
        rules.no_truncation()
        if isinstance(rules.model, WordPiece):
            # WordPiece looks for its unknown token among the model's pieces only.
            _need(rules, [rules.model.unk_token])
        self.first, self.last = _special_tokens(rules)
        if isinstance(rules.model, WordPiece):
            _need(rules, map(rules.id_to_token, (*self.first, *self.last)))
        self._around = array("i", self.first), array("i", self.last)
        rules.enable_truncation(max_length, direction=truncation_side)
        self._rules = rules
        self.pad_id = (rules.token_to_id("[PAD]") or 0) if pad_id is None else pad_id
        self.max_length, self.truncation_side = max_length, truncation_side
        # The same tokenizer for each length that texts are truncated to.
        self._tokenizers: dict[int, Tokenizer] = {}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, which truncates texts to `max_length`."""
        if self._lazy is None:
            return self._rules
        whole = self._lazy.whole()
        whole.no_padding()
        whole.enable_truncation(self.max_length, direction=self.truncation_side)
        return whole

    @property
    def is_berts(self) -> bool:
        """Whether this is a BERT WordPiece tokenizer that clients in other languages can read.

        Only then can a student have its vocabulary. The special tokens and the segments of pairs
        must be BERT's, added tokens must match as [CLS] does, and the ids must have no gaps.
        """
        tokenizer = self.tokenizer
        parts = (
            (tokenizer.model, WordPiece),
            (tokenizer.normalizer, BertNormalizer),
            (tokenizer.pre_tokenizer, BertPreTokenizer),
        )
        if not all(isinstance(part, kind) for part, kind in parts):
            return False
        vocabulary = tokenizer.get_vocab()
        added = tokenizer.get_added_tokens_decoder().values()
        return (
            (self.first, self.last) == ([vocabulary.get("[CLS]")], [vocabulary.get("[SEP]")])
            and _joins_as_bert(tokenizer, self.first, self.last)
            and vocabulary.get("[PAD]") == self.pad_id
            and not any(t.normalized or t.lstrip or t.rstrip or t.single_word for t in added)
            and max(vocabulary.values()) == len(vocabulary) - 1
        )

    @cached_property
    def unknown_id(self) -> int | None:
        """The id of the unknown token; None if the tokenizer has none."""
        if isinstance(self._rules.model, WordPiece):
            token = self._rules.model.unk_token
        else:
            model = json.loads(self.tokenizer.to_str())["model"]
            if "unk_id" in model:
                return None if model["unk_id"] is None else int(model["unk_id"])
            token = model.get("unk_token")
        return None if token is None else self._rules.token_to_id(token)

    @property
    def vocabulary(self) -> list[str]:
        """Word pieces in the order of their ids."""
        if self._lazy is not None:
            return [*self._lazy.vocabulary]
        by_piece = self.tokenizer.get_vocab()
        return sorted(by_piece, key=by_piece.__getitem__)

    def id_of(self, piece: str) -> int:
        """The id of a word piece of the vocabulary."""
        if self._lazy is not None:
            return self._lazy.vocabulary[piece]
        return int(self.tokenizer.token_to_id(piece))

    def length_of(self, row: Tokens) -> int:
        """The number of a text's tokens, without special tokens."""
        # A pair has special tokens after each of its texts.
        texts = 2 if any(row.segments) else 1
        return len(row.ids) - len(self.first) - texts * len(self.last)

    def unknown_share(self, row: Tokens) -> float:
        """The share of unknown tokens in a text, without special tokens; 1 if it has no token."""
        length = self.length_of(row)
        if length <= 0:
            return 1.0
        return 0.0 if self.unknown_id is None else row.ids.count(self.unknown_id) / length

    def token_ids(self, texts: Sequence[Text]) -> list[list[int]]:
        """Ids of each text or pair, not padded."""
        return [[*row.ids] for row in self.tokens(texts)]

    def tokens(self, texts: Sequence[Text], length: int | None = None) -> list[Tokens]:
        """Tokens of each text or pair, not padded.

        Texts are truncated to `length`, or `max_length`, and keep their special tokens. In a pair
        the longer text loses tokens first.

        Raises:
            KdedgeError: `texts` is a single text, or has something else than texts and pairs; or
                the tokenizer can't split one, such as a Unigram without unk_id.
        """
        # Its characters would be texts.
        if isinstance(texts, str):
            raise KdedgeError(f"texts: {texts!r:.40}; a list of texts is needed: [text].")
        length = min(length or self.max_length, self.max_length)
        words, singles = self._words, [text for text in texts if isinstance(text, str)]
        if words is None or len(singles) < len(texts):
            return self._by_tokenizer(texts, length)
        rows = []
        for text in singles:
            ids = words.tokens(text, *self._around, length, self.truncation_side)
            rows += [Tokens(ids, [0] * len(ids))] if ids else self._by_tokenizer([text], length)
        return rows

    @cached_property
    def _words(self) -> WordTable | None:
        vocabulary = None if self._lazy is None else self._lazy.vocabulary
        return WordTable(self._rules, vocabulary) if WordTable.suits(self._rules) else None

    def _by_tokenizer(self, texts: Sequence[Text], length: int) -> list[Tokens]:
        if length not in self._tokenizers:
            tokenizer = self.tokenizer
            if length < self.max_length:
                tokenizer = Tokenizer.from_str(tokenizer.to_str())
                tokenizer.enable_truncation(length, direction=self.truncation_side)
            self._tokenizers[length] = tokenizer
        try:
            encodings = self._tokenizers[length].encode_batch_fast(texts)
        except TypeError as error:
            raise KdedgeError(
                f"texts: each must be a text, or Pair(text, pair) for two ({error})."
            ) from None
        except Exception as error:  # tokenizers has no class of its own
            raise KdedgeError(f"tokenizer.json can't split some texts: {error}") from None
        return [Tokens(encoding.ids, encoding.type_ids) for encoding in encodings]

    def encode(self, texts: Sequence[Text], length: int | None = None) -> Encoded:
        """Encode texts or pairs, padded to `length` or, if it is None, to the longest text.

        They are truncated as in `tokens`.
        """
        return padded(self.tokens(texts, length), length, self.pad_id)

    def pruned(
        self, texts: Iterable[Text], *, min_count: int = 1, most: int | None = None
    ) -> tuple["TextEncoder", list[int]]:
        """Make an encoder with only the word pieces of `texts`; this one must be `is_berts`.

        Special tokens, the single characters in `texts` and those of ASCII are always kept. Words
        whose pieces are kept are split as before, because WordPiece takes the longest piece that
        fits. Other words are split into shorter pieces.

        Args:
            texts: a corpus.
            min_count: how often a piece must occur in the texts to be kept.
            most: the number of pieces to keep, the most frequent first and, among equally frequent
                ones, those with smaller ids; None for no limit.

        Returns:
            The encoder, and for each of its ids the id that the piece had in this encoder.
        """
        counts: Counter[int] = Counter()
        for chunk in chunks(texts, PRUNING_BATCH):
            for row in self.token_ids(chunk):
                counts.update(row)
        old = self.tokenizer
        prefix = old.model.continuing_subword_prefix
        vocabulary = self.vocabulary
        characters = {c for number in counts for c in vocabulary[number]} | set(string.printable)
        added = {token.content for token in old.get_added_tokens_decoder().values()}
        needed = {
            number
            for number, piece in enumerate(vocabulary)
            if piece in added or piece.removeprefix(prefix) in characters
        }
        others = [
            number
            for number in range(len(vocabulary))
            if number not in needed and counts[number] >= min_count
        ]
        if most is not None:
            others.sort(key=lambda number: -counts[number])
            others = others[: max(0, most - len(needed))]
        kept = [(number, vocabulary[number]) for number in sorted({*needed, *others})]
        new_id = {piece: new for new, (_, piece) in enumerate(kept)}
        new = Tokenizer(
            WordPiece(
                new_id,
                unk_token=old.model.unk_token,
                max_input_chars_per_word=old.model.max_input_chars_per_word,
                continuing_subword_prefix=prefix,
            )
        )
        new.add_special_tokens(list(old.get_added_tokens_decoder().values()))
        new.normalizer, new.pre_tokenizer, new.decoder = (
            old.normalizer,
            old.pre_tokenizer,
            old.decoder,
        )
        new.post_processor = cls_and_sep(new)
        return TextEncoder(new, self.max_length), [number for number, _ in kept]

    def save(self, folder: Path | str) -> None:
        """Write the tokenizer's files into `folder`.

        These are tokenizer.json, encoder.json, tokenizer_config.json, with which Hugging Face's
        AutoTokenizer gives the same ids, and vocab.txt if the tokenizer is a WordPiece.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stored = Tokenizer.from_str(self.tokenizer.to_str())
        stored.no_truncation()
        write_text(folder / TOKENIZER, stored.to_str(pretty=True))
        if isinstance(stored.model, WordPiece):
            write_text(folder / VOCABULARY, "\n".join(self.vocabulary) + "\n")
        facts = {
            "max_length": self.max_length,
            "pad_id": self.pad_id,
            "truncation_side": self.truncation_side,
        }
        write_text(folder / ENCODER, json.dumps(facts) + "\n")
        write_text(folder / SETTINGS, json.dumps(self._settings(), indent=2) + "\n")

    def _settings(self) -> dict[str, Any]:
        """The contents of tokenizer_config.json, in full: defaults of transformers differ."""
        stored = json.loads(self.tokenizer.to_str())
        common = {
            "model_max_length": self.max_length,
            "pad_token": self.tokenizer.id_to_token(self.pad_id),
            "truncation_side": self.truncation_side,
        }
        if not self.is_berts:
            first = stored["pre_tokenizer"] or {}
            parts = [first, *first.get("pretokenizers", [])]
            blank = any(part.get("add_prefix_space", False) for part in parts)
            return {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "add_prefix_space": blank,
                **common,
            }
        normalizer = stored["normalizer"]
        return {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": normalizer["lowercase"],
            "strip_accents": normalizer["strip_accents"],
            "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
            **common,
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "unk_token": stored["model"]["unk_token"],
            "mask_token": "[MASK]",
        }

    @classmethod
    def load(cls, folder: Path | str) -> "TextEncoder":
        """Read the files that `save` wrote.

        Raises:
            KdedgeError: a file is missing or damaged.
        """
        folder = Path(folder)
        tokenizer = read_tokenizer(folder / TOKENIZER)
        path = folder / ENCODER
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            max_length = facts["max_length"]
            # kdedge 0.1.0 wrote only the length.
            pad_id, side = facts.get("pad_id"), facts.get("truncation_side", "right")
        except (OSError, ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
            raise KdedgeError(f"{path}: cannot read max_length ({error!r}).") from None
        if not isinstance(max_length, int):
            raise KdedgeError(f"{path}: max_length is {max_length!r}; a whole number is needed.")
        if not isinstance(pad_id, int | None) or side not in ("left", "right"):
            raise KdedgeError(
                f"{path}: pad_id is {pad_id!r} and truncation_side {side!r}; a whole number, and "
                "left or right, are needed."
            )
        return cls(tokenizer, max_length, pad_id, side)

    @classmethod
    def from_pretrained(cls, folder: Path, max_length: int) -> "TextEncoder":
        """Read a tokenizer of any kind from a Hugging Face folder or a teacher of kdedge's.

        Raises:
            KdedgeError: the folder has no tokenizer, or it can't be read.
        """
        if (folder / ENCODER).is_file():
            stored = cls.load(folder)
            return cls(stored.tokenizer, max_length, stored.pad_id, stored.truncation_side)
        tokenizer, pad_id, side = read_pretrained(folder)
        return cls(tokenizer, max_length, pad_id, side)


def cls_and_sep(tokenizer: Tokenizer) -> TemplateProcessing:
    """A post-processor that puts [CLS] before a text and [SEP] after each text."""
    return TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )


def _need(tokenizer: Tokenizer, tokens: Iterable[str]) -> None:
    pieces = tokenizer.model
    if missing := [token for token in tokens if pieces.token_to_id(token) is None]:
        raise KdedgeError(f"tokenizer: not a WordPiece vocabulary: {', '.join(missing)} missing.")


def _special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Ids of the special tokens before a text and after it."""
    whole = tokenizer.encode("a")
    if any(whole.type_ids):
        raise KdedgeError(
            "tokenizer: it gives a single text token types other than 0, as XLNet's and Funnel's "
            "do; kdedge can't run such a model. Label the texts with another program and import "
            "the labels with `kdedge import-labels`."
        )
    special = np.array(whole.special_tokens_mask)
    text = np.flatnonzero(special == 0)
    if not len(text):
        raise KdedgeError("tokenizer: the text 'a' has no token.")
    return whole.ids[: text[0]], whole.ids[text[-1] + 1 :]


def _joins_as_bert(tokenizer: Tokenizer, first: list[int], last: list[int]) -> bool:
    """Whether a pair is [CLS] text [SEP] pair [SEP], with segment 1 from its second text on."""
    text, pair = (tokenizer.encode(t, add_special_tokens=False) for t in ("a", "a a"))
    start, end = [*first, *text.ids, *last], [*pair.ids, *last]
    # Unlike `encode`, it does not truncate.
    whole = tokenizer.post_processor.process(text, pair)
    return (whole.ids, whole.type_ids) == (start + end, [0] * len(start) + [1] * len(end))
