"""Writes the files of a bundle other than the models: tokenizer, labels, configs, sample texts."""

import json
from collections.abc import Sequence
from pathlib import Path

from kdedge.bundle.fit import LABELS
from kdedge.export.subject import Subject
from kdedge.files import write_text

MAX_SAMPLES = 256


def write_samples(texts: Sequence[str], path: Path) -> None:
    """Write up to 256 of the texts, one a line; texts with line breaks are left out."""
    samples = [text for text in texts if len(text.splitlines()) == 1][:MAX_SAMPLES]
    write_text(path, "\n".join(samples) + "\n")


def write_files(subject: Subject, folder: Path) -> None:
    """Write tokenizer, labels and configs into the bundle's folder."""
    subject.encoder.save(folder)
    names = subject.task.output_names
    (folder / LABELS).write_text("\n".join(names) + "\n", encoding="utf-8")
    # For Hugging Face's clients: AutoTokenizer, optimum, transformers.js.
    task = subject.task.config()
    config = {"architectures": task.pop("architectures"), "model_type": "bert", **task}
    normalizer = json.loads(subject.encoder.tokenizer.to_str())["normalizer"] or {}
    tokenizer_config = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": normalizer.get("lowercase", True),
        "model_max_length": subject.encoder.max_length,
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(tokenizer_config, indent=2) + "\n", encoding="utf-8"
    )
