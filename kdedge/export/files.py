"""Writes the files of a bundle other than the models: tokenizer, labels, sample texts, configs."""

import json
from pathlib import Path

from kdedge.export.subject import Subject

SAMPLE_TEXTS = 256


def write_files(subject: Subject, folder: Path) -> None:
    """Write these files into the bundle's folder."""
    subject.encoder.save(folder)
    names = subject.task.output_names
    (folder / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    # One text a line: texts with line breaks are left out.
    texts = subject.test.texts if subject.samples is None else subject.samples
    samples = [text for text in texts if len(text.splitlines()) == 1][:SAMPLE_TEXTS]
    (folder / "sample_texts.txt").write_text("\n".join(samples) + "\n", encoding="utf-8")
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
