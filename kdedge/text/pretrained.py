"""Reads the tokenizer of a Hugging Face folder as transformers' fast AutoTokenizer does."""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tokenizers import Tokenizer

from kdedge.errors import KdedgeError
from kdedge.files import refuse_pointer

Side = Literal["left", "right"]
TOKENIZER, SETTINGS, CONFIG = "tokenizer.json", "tokenizer_config.json", "config.json"
# Files of which one is enough for a tokenizer.
SOURCES = (
    TOKENIZER, "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "spm.model",
    "tokenizer.model", "bpe.codes",
)  # fmt: skip
SPECIAL_TOKENS, ADDED_TOKENS = "special_tokens_map.json", "added_tokens.json"
# Models whose tokenizer.json can be read without transformers if the other files agree.
BERTS = ("bert", "distilbert", "electra")
NAMES = {name: f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
# The class name that transformers 5 writes for a plain tokenizer.json; version 4 lacks it.
ALL_IN_JSON = "TokenizersBackend"


class Pretrained(NamedTuple):
    """A tokenizer with the settings that tokenizer.json does not have.

    Attributes:
        tokenizer: without truncation and padding.
        pad_id: id of the padding token.
        truncation_side: `left` or `right`.
    """

    tokenizer: Tokenizer
    pad_id: int
    truncation_side: Side


def read_pretrained(folder: Path) -> Pretrained:
    """Read the tokenizer of a folder: tokenizer.json, vocab.txt, vocab.json with merges, or a
    sentencepiece model, with its settings.

    Token ids equal those of transformers' AutoTokenizer, which reads the folder. Only a BERT's
    tokenizer.json that agrees with the other files is read without transformers.

    Raises:
        KdedgeError: there is no tokenizer, transformers can't read it, it has no fast version, or
            its ids are larger than the vocabulary of the model.
    """
    sources = [folder / name for name in SOURCES if (folder / name).is_file()]
    for source in sources:
        refuse_pointer(source)
    if not sources:
        raise KdedgeError(
            f"{folder}: no tokenizer: none of {', '.join(SOURCES)} is there. Save it beside the "
            "model: `tokenizer.save_pretrained(folder)`."
        )
    settings, config = _object(folder / SETTINGS), _object(folder / CONFIG)
    try:
        if found := _as_it_is(folder, settings, config):
            _need_ids_in_table(folder, found.tokenizer, config)
            return found
        loaded = _reader(folder, settings, config).from_pretrained(
            folder, use_fast=True, trust_remote_code=False, local_files_only=True
        )
        if not loaded.is_fast or loaded.split_special_tokens:
            raise KdedgeError(
                f"{folder}: {type(loaded).__name__} has no fast version with the same ids. Label "
                "the texts with another program, and import the labels with "
                "`kdedge import-labels`."
            )
        tokenizer = Tokenizer.from_str(loaded.backend_tokenizer.to_str())
    except KdedgeError:
        raise
    except ImportError as error:
        raise KdedgeError(f"{folder}: {_line(error)} pip install 'kdedge[train]'") from None
    except Exception as error:  # tokenizers raises plain Exception, transformers anything
        raise KdedgeError(
            f"{folder}: not a readable tokenizer, transformers says: {_line(error)}"
        ) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    _need_ids_in_table(folder, tokenizer, config)
    pad = loaded.pad_token_id
    if pad is None:
        pad = next(filter(None, map(tokenizer.token_to_id, ("[PAD]", "<pad>"))), None)
    if pad is None:
        pad = config.get("pad_token_id") or 0
    return Pretrained(tokenizer, pad, loaded.truncation_side)


def _as_it_is(folder: Path, settings: dict[str, Any], config: dict[str, Any]) -> Pretrained | None:
    """A BERT's tokenizer.json, if the other files agree with it."""
    kind = settings.get("tokenizer_class") or config.get("model_type", "")
    named = [settings, _object(folder / SPECIAL_TOKENS)]
    if (
        kind.lower().removesuffix("fast").removesuffix("tokenizer") not in BERTS
        or not (folder / TOKENIZER).is_file()
        or (folder / ADDED_TOKENS).is_file()
        or any(
            "special_tokens" in name or name == "added_tokens_decoder"
            for given in named
            for name in given
        )
        or any(
            given.get(f"{name}_token", NAMES[name]) != NAMES[name]
            for given in named
            for name in NAMES
        )
    ):
        return None
    text = (folder / TOKENIZER).read_text(encoding="utf-8")
    stored, tokenizer = json.loads(text), Tokenizer.from_str(text)
    normalizer = {
        "lowercase": settings.get("do_lower_case", True),
        "strip_accents": settings.get("strip_accents"),
        "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
    }
    plain = {token["content"] for token in stored["added_tokens"] if token["special"]}
    if not {*NAMES.values()} <= plain or not normalizer.items() <= stored["normalizer"].items():
        return None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    side = (stored["truncation"] or {}).get("direction", "right").lower()
    return Pretrained(
        tokenizer, tokenizer.token_to_id("[PAD]"), settings.get("truncation_side", side)
    )


def _reader(folder: Path, settings: dict[str, Any], config: dict[str, Any]) -> Any:
    """The class of transformers that reads this folder."""
    from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.set_verbosity_error()
    kind = settings.get("tokenizer_class")
    if kind != ALL_IN_JSON and (kind or config.get("model_type")):
        return AutoTokenizer
    # AutoTokenizer does not know the kind of model.
    return PreTrainedTokenizerFast if (folder / TOKENIZER).is_file() else BertTokenizerFast


def _need_ids_in_table(folder: Path, tokenizer: Tokenizer, config: dict[str, Any]) -> None:
    rows = config.get("vocab_size")
    if isinstance(rows, int):
        need_ids_in_table(folder, tokenizer, rows)


def need_ids_in_table(folder: Path, tokenizer: Tokenizer, rows: int) -> None:
    """Check that all ids of a tokenizer are below `rows`, the number of token embeddings.

    Raises:
        KdedgeError: an id is not.
    """
    beyond = {i: token for token, i in tokenizer.get_vocab().items() if i >= rows}
    if beyond:
        raise KdedgeError(
            f"{folder}: the tokenizer gives token {beyond[min(beyond)]!r} the id {min(beyond)}, "
            f"but the model has only {rows} tokens (vocab_size in {CONFIG}). The two are not from "
            "one model, or tokens were added without `model.resize_token_embeddings`, or the class "
            f'is missing in {SETTINGS}: "tokenizer_class": "BertTokenizer".'
        )


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise KdedgeError(f"{path}: not a readable JSON object: {error}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
