"""Text to token ids, the same for teacher, student, bundle and app."""

import json
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer
from tokenizers.models import WordPiece
from tokenizers.processors import TemplateProcessing

from kdedge.errors import KdedgeError
from kdedge.files import write_text
from kdedge.text.batches import chunks

TOKENIZER = "tokenizer.json"
VOCABULARY = "vocab.txt"
ENCODER = "encoder.json"
PRUNING_BATCH = 4096


@dataclass(frozen=True)
class Encoded:
    """Token ids of texts, padded with 0 to one length; each array is int32 [texts, length]."""

    ids: npt.NDArray[np.int32]
    mask: npt.NDArray[np.int32]
    segment_ids: npt.NDArray[np.int32]

    @property
    def inputs(self) -> dict[str, npt.NDArray[np.int32]]:
        """All rows as a model's inputs."""
        return {"ids": self.ids, "mask": self.mask, "segment_ids": self.segment_ids}

    def rows(self, index: Any) -> dict[str, npt.NDArray[np.int32]]:
        """The chosen rows as a model's inputs."""
        return {
            "ids": self.ids[index],
            "mask": self.mask[index],
            "segment_ids": self.segment_ids[index],
        }


def padded(rows: Sequence[Sequence[int]], length: int | None = None) -> Encoded:
    """Token ids of texts as arrays, padded to `length` or, for None, to the longest of them.

    Texts that are longer than `length` are cut, and keep their [SEP].
    """
    longest = max((len(row) for row in rows), default=0)
    ids = np.zeros((len(rows), length or longest), np.int32)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        if len(row) > ids.shape[1]:
            row = [*row[: ids.shape[1] - 1], row[-1]]
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return Encoded(ids, mask, np.zeros_like(ids))


class TextEncoder:
    """BERT's WordPiece through Hugging Face tokenizers, with the length texts are cut to.

    Args:
        tokenizer: a WordPiece tokenizer that adds [CLS] and [SEP].
        max_length: tokens that a text is cut to, [CLS] and [SEP] included.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        if max_length < 3:
            raise KdedgeError(
                f"max_length: {max_length}. At least 3: [CLS], one word piece and [SEP]."
            )
        vocabulary = tokenizer.get_vocab()
        missing = [piece for piece in ("[PAD]", "[CLS]", "[SEP]") if piece not in vocabulary]
        unknown = tokenizer.model.unk_token
        # What it is when no piece fits is looked up among the model's own only.
        if unknown not in tokenizer.get_vocab(with_added_tokens=False):
            missing.append(unknown)
        if missing:
            raise KdedgeError(
                f"tokenizer: not a BERT WordPiece vocabulary: {', '.join(missing)} missing."
            )
        if vocabulary["[PAD]"] != 0:
            raise KdedgeError(f"tokenizer: [PAD] must be token 0 and is {vocabulary['[PAD]']}.")
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_length)
        self.max_length = max_length

    @property
    def vocabulary(self) -> list[str]:
        """Word pieces in the order of their ids."""
        by_piece = self.tokenizer.get_vocab()
        return sorted(by_piece, key=by_piece.__getitem__)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, not padded."""
        return [e.ids for e in self.tokenizer.encode_batch_fast(list(texts))]

    def encode(self, texts: Sequence[str], length: int | None = None) -> Encoded:
        """Encode texts, padded to `length` or, for None, to the longest of them.

        Texts that are longer than `length` are cut, and keep their [SEP].
        """
        return padded(self.token_ids(texts), length)

    def pruned(
        self, texts: Iterable[str], *, min_count: int = 1, most: int | None = None
    ) -> tuple["TextEncoder", list[int]]:
        """An encoder with the word pieces that `texts` need, and all special tokens.

        Texts made of the pieces it keeps are split as before, since WordPiece takes the longest
        piece that fits. Other words are split into shorter pieces: all single characters that
        occur in `texts` stay, and those of ASCII.

        Args:
            texts: a corpus.
            min_count: how often a piece must occur in them to be kept.
            most: how many are kept, the most frequent ones first, and of those the ones with the
                smaller ids; None for no limit. Special tokens and characters stay in any case.

        Returns:
            The encoder, and for each of its ids the id that the piece had here.
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
        new.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(name, new_id[name]) for name in ("[CLS]", "[SEP]")],
        )
        return TextEncoder(new, self.max_length), [number for number, _ in kept]

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, vocab.txt and encoder.json into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        stored = Tokenizer.from_str(self.tokenizer.to_str())
        stored.no_truncation()
        write_text(folder / TOKENIZER, stored.to_str(pretty=True))
        write_text(folder / VOCABULARY, "\n".join(self.vocabulary) + "\n")
        write_text(folder / ENCODER, json.dumps({"max_length": self.max_length}) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "TextEncoder":
        """Read what `save` wrote.

        Raises:
            KdedgeError: a file is missing or is not what it should be.
        """
        tokenizer = _read_tokenizer(folder / TOKENIZER)
        path = folder / ENCODER
        try:
            max_length = json.loads(path.read_text(encoding="utf-8"))["max_length"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise KdedgeError(f"{path}: cannot read max_length ({error!r}).") from None
        if not isinstance(max_length, int):
            raise KdedgeError(f"{path}: max_length is {max_length!r}; a whole number is needed.")
        return cls(tokenizer, max_length)

    @classmethod
    def from_pretrained(cls, folder: Path, max_length: int) -> "TextEncoder":
        """Read the tokenizer of a Hugging Face BERT folder: tokenizer.json or vocab.txt.

        Raises:
            KdedgeError: the folder has neither, or the tokenizer is not BERT's WordPiece.
        """
        if (folder / TOKENIZER).is_file():
            return cls(_read_tokenizer(folder / TOKENIZER), max_length)
        if (folder / VOCABULARY).is_file():
            config = folder / "tokenizer_config.json"
            try:
                settings = json.loads(config.read_bytes()) if config.is_file() else {}
                wordpiece = BertWordPieceTokenizer(
                    str(folder / VOCABULARY), lowercase=settings.get("do_lower_case", True)
                )
            except Exception as error:  # tokenizers raises plain Exception
                raise KdedgeError(
                    f"{folder / VOCABULARY}: not a BERT WordPiece vocabulary, or {config.name} is "
                    f"damaged ({error!r})."
                ) from None
            return cls(Tokenizer.from_str(wordpiece.to_str()), max_length)
        raise KdedgeError(f"{folder}: no tokenizer: neither {TOKENIZER} nor {VOCABULARY} is there.")


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        text = path.read_text(encoding="utf-8")
        kind = json.loads(text)["model"]["type"]
        if kind != "WordPiece":
            raise KdedgeError(f"{path}: the tokenizer is {kind}; kdedge needs BERT's WordPiece.")
        return Tokenizer.from_str(text)
    except KdedgeError:
        raise
    except Exception as error:  # tokenizers raises plain Exception
        raise KdedgeError(f"{path}: not a readable tokenizer ({error}).") from None
