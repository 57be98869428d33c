"""Writes the files of a bundle other than the models: tokenizer, labels, configs, sample texts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdedge.bundle.fit import LABELS
from kdedge.export.subject import Subject
from kdedge.files import write_text
from kdedge.text.encoder import TextEncoder
from kdedge.text.pairs import Text, parts_of

MAX_SAMPLES = 256


def write_samples(texts: Sequence[Text], path: Path) -> None:
    """Write up to 256 of the texts, one a line, or pairs with a tab between.

    Texts with line breaks, and pairs with tabs in them, are left out.
    """
    lines = ["\t".join(parts_of(text)) for text in texts if _fits_in_a_line(text)]
    write_text(path, "\n".join(lines[:MAX_SAMPLES]) + "\n")


def _fits_in_a_line(text: Text) -> bool:
    parts = parts_of(text)
    return all(len(part.splitlines()) == 1 for part in parts) and (
        len(parts) == 1 or not any("\t" in part for part in parts)
    )


def write_files(subject: Subject, folder: Path) -> None:
    """Write tokenizer, labels and configs into the bundle's folder."""
    subject.encoder.save(folder)
    names = subject.task.output_names
    (folder / LABELS).write_text("\n".join(names) + "\n", encoding="utf-8")
    # For Hugging Face's clients: AutoTokenizer, optimum, transformers.js.
    task = subject.task.config()
    config = {"architectures": task.pop("architectures"), "model_type": "bert", **task}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(_tokenizer_config(subject.encoder), indent=2) + "\n", encoding="utf-8"
    )


def _tokenizer_config(encoder: TextEncoder) -> dict[str, Any]:
    """With what Hugging Face's clients read the ids that `encoder` gives."""
    common = {
        "model_max_length": encoder.max_length,
        "pad_token": encoder.tokenizer.id_to_token(encoder.pad_id),
    }
    if not encoder.is_berts:
        side = encoder.truncation_side
        return {"tokenizer_class": "PreTrainedTokenizerFast", "truncation_side": side, **common}
    normalizer = json.loads(encoder.tokenizer.to_str())["normalizer"]
    return {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": normalizer["lowercase"],
        "strip_accents": normalizer["strip_accents"],
        "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
        **common,
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
    }
