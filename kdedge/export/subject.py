"""What is exported, with what it is held against."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.labels.store import SoftLabels
from kdedge.students.trained import Evaluation, Student, predict_logits
from kdedge.tasks import Task
from kdedge.teachers.bert import BertTeacher
from kdedge.text.corpus import Corpus, load_corpus
from kdedge.text.encoder import TextEncoder
from kdedge.text.splits import Split


@dataclass(frozen=True)
class Subject:
    """A model to export, with what it is held against.

    Attributes:
        name: a student's preset, or teacher.
        model: takes a dictionary of int32 [batch, length] ids, mask and segment_ids; gives logits
            float32 [batch, classes] or a dictionary with `logits`.
        parameters: number of its weights.
        encoder: what turns texts into its inputs.
        task: what the logits are of.
        valid: what the model says of the texts on which choices are made.
        test: what it says of the texts for the figures.
        calibration: real texts, for the ranges of activations; None for those of `valid`.
        samples: texts that the bundle holds, for `kdedge bench`; None for those of `test`.
        variables: what holds the model's variables, where Keras does not know them.
    """

    name: str
    model: keras.Model
    parameters: int
    encoder: TextEncoder
    task: Task
    valid: Evaluation
    test: Evaluation
    calibration: tuple[str, ...] | None = None
    samples: tuple[str, ...] | None = None
    variables: Any = None


def subject_of(student: Student) -> Subject:
    """A student as something to export."""
    return Subject(
        name=student.notes["preset"],
        model=student.model,
        parameters=student.model.count_params(),
        encoder=student.encoder,
        task=student.task,
        valid=student.valid,
        test=student.test,
    )


def subject_of_teacher(teacher: BertTeacher, corpus: Corpus, store: SoftLabels) -> Subject:
    """A teacher as something to export, with what it has said of the valid and test splits.

    Args:
        teacher: as loaded.
        corpus: gives the splits.
        store: its soft labels.

    Raises:
        KdedgeError: a text has no soft label.
    """

    def said_of(split: Split) -> Evaluation:
        return Evaluation(split.texts, split.labels, store.lookup(split.texts)[0])

    return Subject(
        name="teacher",
        model=teacher,
        parameters=teacher.transformer.count_params(),
        encoder=teacher.encoder,
        task=teacher.task,
        valid=said_of(corpus.valid),
        test=said_of(corpus.test),
        variables=teacher.transformer,
    )


def subject_of_classifier(
    name: str,
    model: keras.Model,
    encoder: TextEncoder,
    corpus: Corpus,
    variables: Any = None,
) -> Subject:
    """Any classifier as something to export; it is run on the corpus's valid and test splits.

    Args:
        name: for manifest and reports.
        model: takes a dictionary of int32 [batch, length] ids, mask and segment_ids; gives logits
            float32 [batch, classes], in the order of the corpus's label names, or a dictionary
            with `logits`.
        encoder: what turns texts into its inputs.
        corpus: real texts with labels; its training split is not looked at.
        variables: what holds the model's variables, where Keras does not know them.

    Raises:
        KdedgeError: the model takes other inputs or has another number of classes.
    """

    def said_of(split: Split) -> Evaluation:
        return Evaluation(split.texts, split.labels, predict_logits(model, encoder, split.texts))

    try:
        valid, test = said_of(corpus.valid), said_of(corpus.test)
    except (ValueError, KeyError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise KdedgeError(
            f"{name}: it can't be run on int32 [batch, length] ids, mask and segment_ids: {error}"
        ) from None
    if test.logits.ndim != 2 or test.logits.shape[1] != corpus.task.width:
        raise KdedgeError(
            f"{name}: its output for one text is of shape {list(test.logits.shape[1:])}; the data "
            f"has {corpus.task.width}: {corpus.task}."
        )
    return Subject(
        name=name,
        model=model,
        parameters=(variables or model).count_params(),
        encoder=encoder,
        task=corpus.task,
        valid=valid,
        test=test,
        variables=variables,
    )


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
