"""A model to export, with the texts, labels and logits that its files are checked with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.labels.store import SoftLabels
from kdedge.students.trained import Evaluation, Student, predict_logits
from kdedge.tasks import Task, are_probabilities
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.checkpoints import find_pretrained
from kdedge.text.corpus import Corpus, load_corpus
from kdedge.text.encoder import TextEncoder
from kdedge.text.familiarity import Familiarity, familiarity_of
from kdedge.text.pairs import Pair, Text
from kdedge.text.splits import Split


@dataclass(frozen=True)
class Subject:
    """A model to export, with the texts, labels and logits that its files are checked with.

    `load_subject` and `subject_of_classifier` make one.

        >>> from kdedge import build_student
        >>> from kdedge.tasks import Classification
        >>> encoder, task = TextEncoder.load(Path("bundle")), Classification(label_names=("n", "p"))
        >>> size, length = len(encoder.vocabulary), encoder.max_length
        >>> model = build_student("nano", task=task, vocabulary=size, max_length=length)
        >>> import numpy as np
        >>> texts, labels = ("a funny film", "a dull film"), np.array([1, 0], np.int32)
        >>> split = Evaluation(texts, labels, predict_logits(model, encoder, texts))
        >>> subject = Subject("mine", model, model.count_params(), encoder, task, split, split)
        >>> subject.test.logits.shape
        (2, 2)

    Attributes:
        name: the student's preset, or teacher.
        model: takes a dictionary of int32 [batch, length] ids, mask and segment_ids; returns logits
            float32 [batch, classes] or a dictionary with `logits`.
        parameters: number of weights.
        encoder: converts texts to the model's inputs.
        task: task of the logits.
        valid: the model's logits on the valid split, on which choices are made.
        test: the model's logits on the test split, for the published scores.
        calibration: real texts for calibration; None for the texts of `valid`.
        samples: texts to put into the bundle, to measure with; None for none, or for those of
            `test` if the settings ask for it.
        variables: object that holds the model's variables, if Keras does not track them.
        out_of_scope: texts that no label fits.
        familiarity: tells texts that are unlike the training texts; None if it is not known.
    """

    name: str
    model: keras.Model
    parameters: int
    encoder: TextEncoder
    task: Task
    valid: Evaluation
    test: Evaluation
    calibration: tuple[Text, ...] | None = None
    samples: tuple[Text, ...] | None = None
    variables: Any = None
    out_of_scope: tuple[Text, ...] = ()
    familiarity: Familiarity | None = None

    @property
    def has_pairs(self) -> bool:
        """Whether the model takes pairs of texts."""
        return isinstance(self.test.texts[0], Pair)


def subject_of(student: Student) -> Subject:
    """The subject for a student."""
    return Subject(
        name=student.notes["preset"],
        model=student.model,
        parameters=student.model.count_params(),
        encoder=student.encoder,
        task=student.task,
        valid=student.valid,
        test=student.test,
        familiarity=student.familiarity,
    )


def subject_of_teacher(teacher: BertTeacher, corpus: Corpus, store: SoftLabels) -> Subject:
    """The subject for a teacher; its logits come from the store.

    Args:
        teacher: the loaded teacher.
        corpus: the splits.
        store: the teacher's soft labels.

    Raises:
        KdedgeError: a text has no soft label.
    """

    def evaluation(split: Split) -> Evaluation:
        return Evaluation(split.texts, split.labels, store.lookup(split.texts)[0])

    task, valid = teacher.task, evaluation(corpus.valid)
    return Subject(
        name="teacher",
        model=teacher,
        parameters=teacher.count_params(),
        encoder=teacher.encoder,
        task=task.tuned(task.outputs(valid.logits), valid.labels),
        valid=valid,
        test=evaluation(corpus.test),
        familiarity=familiarity_of(teacher.encoder, corpus),
    )


def subject_of_classifier(
    name: str, model: keras.Model, encoder: TextEncoder, corpus: Corpus
) -> Subject:
    """Make the subject of any classifier, by running it on the valid and test splits.

        >>> import numpy as np
        >>> from kdedge import build_student
        >>> from kdedge.tasks import Classification
        >>> encoder, task = TextEncoder.load(Path("bundle")), Classification(label_names=("n", "p"))
        >>> size, length = len(encoder.vocabulary), encoder.max_length
        >>> model = build_student("nano", task=task, vocabulary=size, max_length=length)
        >>> split = Split(("a funny film", "a dull film"), np.array([1, 0], np.int32))
        >>> corpus = Corpus(task, split, split, split)
        >>> subject = subject_of_classifier("mine", model, encoder, corpus)
        >>> subject.test.logits.shape
        (2, 2)

    Args:
        name: name of the model in the manifest and reports.
        model: takes a dictionary of int32 [batch, length] ids, mask and segment_ids; returns logits
            float32 [batch, classes], in the order of the corpus's label names, or a dictionary
            with `logits`.
        encoder: converts texts to the model's inputs.
        corpus: real texts with labels.

    Raises:
        KdedgeError: the model takes other inputs, has another number of classes, or gives
            probabilities.
    """

    def evaluation(split: Split) -> Evaluation:
        return Evaluation(split.texts, split.labels, predict_logits(model, encoder, split.texts))

    try:
        valid, test = evaluation(corpus.valid), evaluation(corpus.test)
    except (ValueError, KeyError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise KdedgeError(
            f"{name}: it can't be run on int32 [batch, length] ids, mask and segment_ids: {error}"
        ) from None
    if test.logits.ndim != 2 or test.logits.shape[1] != corpus.task.width:
        raise KdedgeError(
            f"{name}: its output for one text has shape {list(test.logits.shape[1:])}, but the "
            f"data needs [{corpus.task.width}]: {corpus.task}."
        )
    if are_probabilities(corpus.task, np.concatenate([valid.logits, test.logits])):
        raise KdedgeError(
            f"{name}: its outputs look like probabilities; logits are needed. Leave out the "
            "softmax or sigmoid at its end: keras.Model(model.inputs, LOGITS)."
        )
    return Subject(
        name=name,
        model=model,
        parameters=model.count_params(),
        encoder=encoder,
        task=corpus.task.tuned(corpus.task.outputs(valid.logits), valid.labels),
        valid=valid,
        test=test,
        familiarity=familiarity_of(encoder, corpus),
    )


def load_subject(
    model: Path, data: Path | None, split: str | None, tokenizer: str | None, max_length: int
) -> Subject:
    """Load a student's folder, or a `.keras` file with a tokenizer and labelled texts.

        >>> from kdedge import build_student
        >>> from kdedge.tasks import Classification
        >>> encoder, task = TextEncoder.load(Path("bundle")), Classification(label_names=("n", "p"))
        >>> size, length = len(encoder.vocabulary), encoder.max_length
        >>> build_student("nano", task=task, vocabulary=size, max_length=length).save("mine.keras")
        >>> rows = [f"film number {i},{label}" for i in range(10) for label in ("n", "p")]
        >>> _ = Path("reviews.csv").write_text("\\n".join(["text,label", *rows]))
        >>> subject = load_subject(Path("mine.keras"), Path("reviews.csv"), None, "bundle", length)
        >>> subject.name, subject.test.logits.shape
        ('mine', (4, 2))

    Args:
        model: the folder or the file.
        data: labelled texts; only for a `.keras` file.
        split: column of the data with train, valid or test; None for a seeded split.
        tokenizer: folder or hub id of a BERT tokenizer; only for a `.keras` file.
        max_length: tokens that texts are truncated to; only for a `.keras` file.

    Raises:
        KdedgeError: the model is missing, unreadable or would run code; or `data` or `tokenizer` is
            missing.
    """
    if model.is_dir():
        return subject_of(Student.load(model))
    if not model.is_file():
        raise KdedgeError(f"{model}: no such student's folder or .keras file.")
    if data is None or tokenizer is None:
        raise KdedgeError(
            f"{model}: a .keras file holds no texts and no tokenizer. Name labelled texts, "
            "--data FILE, and the tokenizer, --tokenizer DIR."
        )
    corpus = load_corpus(data, split=split)
    encoder = TextEncoder.from_pretrained(find_pretrained(tokenizer, weights=False), max_length)
    try:
        loaded = keras.models.load_model(model, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError) as error:
        raise KdedgeError(f"{model}: not a .keras file that is safe to load: {error}") from None
    return subject_of_classifier(model.stem, loaded, encoder, corpus)
