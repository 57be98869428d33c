"""Writes the files of a bundle other than the models: tokenizer, labels, configs, sample texts."""

import json
from collections.abc import Sequence
from pathlib import Path

from kdedge.bundle.fit import LABELS
from kdedge.export.subject import Subject
from kdedge.files import write_text
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
    if subject.familiarity:
        subject.familiarity.save(folder)
    names = subject.task.output_names
    (folder / LABELS).write_text("\n".join(names) + "\n", encoding="utf-8")
    # For Hugging Face's clients, beside tokenizer_config.json: optimum, transformers.js.
    task = subject.task.config()
    config = {"architectures": task.pop("architectures"), "model_type": "bert", **task}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
