"""What is exported, read from disk."""

from pathlib import Path

import keras

from kdedge.errors import KdedgeError
from kdedge.export.stage import Subject, subject_of, subject_of_classifier
from kdedge.students.trained import Student
from kdedge.text.corpus import load_corpus
from kdedge.text.encoder import TextEncoder


def load_subject(
    model: Path, data: Path | None, split: str | None, tokenizer: str | None, max_length: int
) -> Subject:
    """A student's folder, or a `.keras` file with a tokenizer and labelled texts.

    Args:
        model: the folder or the file.
        data: labelled texts, for a file.
        split: column of the data that says train, valid or test; None for a seeded split.
        tokenizer: folder of a BERT tokenizer, for a file.
        max_length: tokens that a text is cut to, for a file.

    Raises:
        KdedgeError: not there, not readable, would run code, or something is missing beside it.
    """
    if model.is_dir():
        return subject_of(Student.load(model))
    if not model.is_file():
        raise KdedgeError(f"{model}: no such student's folder or .keras file.")
    if data is None or tokenizer is None:
        raise KdedgeError(
            f"{model}: a .keras file alone says nothing of its texts. Name labelled texts, "
            "--data FILE, and the tokenizer, --tokenizer DIR."
        )
    corpus = load_corpus(data, split=split)
    encoder = TextEncoder.from_pretrained(Path(tokenizer), max_length)
    try:
        loaded = keras.models.load_model(model, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError) as error:
        raise KdedgeError(f"{model}: not a .keras file that is safe to load: {error}") from None
    return subject_of_classifier(model.stem, loaded, encoder, corpus)
