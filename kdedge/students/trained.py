"""A trained student as a folder: the `.keras` file, its text encoder, and its evaluation."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Registers the layers that .keras files of students name.
import kdedge.layers.pooling
import kdedge.layers.prompt
import kdedge.layers.transformer  # noqa: F401
from kdedge.errors import KdedgeError
from kdedge.files import new_folder, verify_checksums, write_checksums
from kdedge.students.archive import reset_layer_names, write_keras
from kdedge.tasks import Labels, Task, read_task, with_task
from kdedge.text.encoder import ENCODER, TextEncoder
from kdedge.text.familiarity import FAMILIARITY, Familiarity
from kdedge.text.pairs import TEXT_COLUMNS, Text, columns_of, from_columns
from kdedge.text.pretrained import TOKENIZER

FORMAT_VERSION = 3
# Version 2 had classification only.
READABLE_VERSIONS = (2, FORMAT_VERSION)
MODEL, NOTES, EVALUATION = "student.keras", "student.json", "evaluation.parquet"
BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """A model's logits on a held-out split.

    Attributes:
        texts: the texts of the split.
        labels: their labels.
        logits: float32 [texts, width], of the model.
        teacher_logits: float32 [texts, width], or None if no teacher labelled the texts.
    """

    texts: tuple[Text, ...]
    labels: Labels
    logits: npt.NDArray[np.float32]
    teacher_logits: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Student:
    """A trained student with its text encoder, task and evaluation.

    Equal students are written as equal bytes; for that, layers that Keras named are renamed.

        >>> from kdedge import build_student
        >>> from kdedge.tasks import Classification
        >>> encoder, task = TextEncoder.load(Path("bundle")), Classification(label_names=("n", "p"))
        >>> size, length = len(encoder.vocabulary), encoder.max_length
        >>> model = build_student("nano", task=task, vocabulary=size, max_length=length)
        >>> texts, labels = ("a funny film", "a dull film"), np.array([1, 0], np.int32)
        >>> split = Evaluation(texts, labels, predict_logits(model, encoder, texts))
        >>> Student(model, encoder, task, split, split, {"preset": "nano"}).save(Path("student"))
        >>> Student.load(Path("student")).notes["preset"]
        'nano'

    Attributes:
        model: int32 [batch, length] ids, mask, segment_ids -> logits float32 [batch, width].
        encoder: encodes texts as inputs of the model.
        task: task of the logits.
        valid: the valid split, for choices such as the best epoch.
        test: the test split, for published figures.
        notes: preset, seed, settings, history and measures.
        familiarity: tells texts that are unlike the training texts; None if it is not known.
    """

    model: keras.Model
    encoder: TextEncoder
    task: Task
    valid: Evaluation
    test: Evaluation
    notes: dict[str, Any]
    familiarity: Familiarity | None = None

    def __post_init__(self) -> None:
        reset_layer_names(self.model)

    @property
    def teacher_task(self) -> Task:
        """The task with the thresholds that suit the teacher's logits on the valid split."""
        valid = self.valid
        if valid.teacher_logits is None:
            return self.task
        return self.task.tuned(self.task.outputs(valid.teacher_logits), valid.labels)

    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer and the weights."""
        digest = hashlib.sha256(self.encoder.tokenizer.to_str().encode())
        for weight in self.model.get_weights():
            digest.update(np.ascontiguousarray(weight).tobytes())
        return digest.hexdigest()

    def with_model(self, model: keras.Model) -> "Student":
        """A copy with another model, evaluated again."""
        valid, test = (
            replace(split, logits=predict_logits(model, self.encoder, split.texts))
            for split in (self.valid, self.test)
        )
        task = self.task.tuned(self.task.outputs(valid.logits), valid.labels)
        notes = {
            **self.notes,
            "parameters": model.count_params(),
            "vocabulary": len(self.encoder.vocabulary),
            **measures(task, test, valid),
        }
        return Student(model, self.encoder, task, valid, test, notes, self.familiarity)

    def save(self, folder: Path | str) -> None:
        """Write the folder, whole or not at all.

        Raises:
            KdedgeError: `folder` exists, or Keras can't write the model.
        """
        with new_folder(Path(folder)) as partial:
            try:
                write_keras(self.model, partial / MODEL)
            except ValueError as error:
                # The clock is before 1980, which zip archives can't store.
                raise KdedgeError(f"{folder}: this student can't be saved: {error}.") from None
            self.encoder.save(partial)
            if self.familiarity:
                self.familiarity.save(partial)
            facts = {"format_version": FORMAT_VERSION, "task": self.task.model_dump(mode="json")}
            (partial / NOTES).write_text(json.dumps(facts | self.notes, indent=2) + "\n")
            splits = pa.concat_tables([_table("valid", self.valid), _table("test", self.test)])
            pq.write_table(splits, partial / EVALUATION)
            write_checksums(partial, [path.name for path in partial.iterdir()])

    @classmethod
    def load(cls, folder: Path | str) -> "Student":
        """Read what `save` wrote; runs no code from the files.

        Raises:
            KdedgeError: not a student's folder, another version's, or a file is damaged.
        """
        folder = Path(folder)
        if not (folder / NOTES).is_file():
            raise KdedgeError(
                f"{folder}: not a student: {NOTES} is missing. "
                "`kdedge distill DATA --soft-labels DIR --out STUDENT_DIR` makes one."
            )
        try:
            notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
            version = notes.pop("format_version")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise KdedgeError(f"{folder}: cannot read this student: {error}") from None
        if version not in READABLE_VERSIONS:
            raise KdedgeError(
                f"{folder}: format_version is {version} and this kdedge reads "
                f"{' and '.join(map(str, READABLE_VERSIONS))}. Install the kdedge that wrote it, "
                "or make the student again: `kdedge distill`."
            )
        files = [MODEL, NOTES, EVALUATION, TOKENIZER, ENCODER]
        # Students that are made otherwise, or by 0.1.0, have none.
        has_familiarity = (folder / FAMILIARITY).exists()
        verify_checksums(
            folder,
            files + [FAMILIARITY] * has_familiarity,
            "Copy the student again or distil it again.",
        )
        try:
            notes = with_task(notes)
            task = read_task(notes.pop("task"))
            table = pq.read_table(folder / EVALUATION)
            valid, test = (_evaluation(table, split) for split in ("valid", "test"))
            model = keras.models.load_model(folder / MODEL, compile=False, safe_mode=True)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise KdedgeError(f"{folder}: cannot read this student: {error}") from None
        encoder = TextEncoder.load(folder)
        familiarity = Familiarity.load(folder, encoder) if has_familiarity else None
        return cls(model, encoder, task, valid, test, notes, familiarity)


def predict_logits(
    model: keras.Model, encoder: TextEncoder, texts: Sequence[Text]
) -> npt.NDArray[np.float32]:
    """Logits of a model for texts, float32 [texts, width]; it may return a dict with `logits`.

    Raises:
        KdedgeError: they are not finite.
    """
    parts = []
    for i in range(0, len(texts), BATCH):
        output = model(encoder.encode(texts[i : i + BATCH]).inputs, training=False)
        parts.append(np.asarray(output["logits"] if isinstance(output, dict) else output))
    logits = np.concatenate(parts)
    if not np.isfinite(logits).all():
        raise KdedgeError(
            f"{model.name}: its outputs are not finite: its training diverged. Train it with a "
            "lower learning rate."
        )
    return logits


def measures(
    task: Task, evaluation: Evaluation, valid: Evaluation | None = None
) -> dict[str, float]:
    """The metrics of a student and, if a teacher labelled the texts, those that compare the two.

    For classification `accuracy`, `teacher_accuracy`, `retention` (student / teacher, left out if
    the teacher's is 0) and `agreement`.

    Args:
        task: task with the student's thresholds.
        evaluation: the split to measure on.
        valid: the split that the teacher's thresholds are fitted on; None to use those of `task`.
    """
    outputs = task.outputs(evaluation.logits)
    found = task.measures(outputs, evaluation.labels)
    if evaluation.teacher_logits is not None:
        teacher = task.outputs(evaluation.teacher_logits)
        own = task
        if valid is not None and valid.teacher_logits is not None:
            own = task.tuned(task.outputs(valid.teacher_logits), valid.labels)
        figures = own.measures(teacher, evaluation.labels)
        found |= {f"teacher_{name}": value for name, value in figures.items()}
        if best := found[f"teacher_{task.metric}"]:
            found["retention"] = found[task.metric] / best
        found["agreement"] = task.agreement(outputs, teacher, own)
    return found


def _table(split: str, evaluation: Evaluation) -> pa.Table:
    rows = len(evaluation.texts)
    teacher = evaluation.teacher_logits
    return pa.table(
        {
            "split": pa.array([split] * rows, pa.string()),
            **{
                name: pa.array(texts, pa.string())
                for name, texts in columns_of(evaluation.texts).items()
            },
            "label": _labels(evaluation.labels),
            "logits": pa.array(list(evaluation.logits), pa.list_(pa.float32())),
            "teacher_logits": pa.array(
                [None] * rows if teacher is None else list(teacher), pa.list_(pa.float32())
            ),
        }
    )


def _evaluation(table: pa.Table, split: str) -> Evaluation:
    part = table.filter(pc.equal(table["split"], split))
    return Evaluation(
        tuple(
            from_columns(
                {name: part[name].to_pylist() for name in TEXT_COLUMNS if name in part.column_names}
            )
        ),
        np.stack(part["label"].to_numpy()),
        _matrix(part, "logits"),
        None if part["teacher_logits"].null_count else _matrix(part, "teacher_logits"),
    )


def _labels(labels: Labels) -> pa.Array:
    kind = pa.from_numpy_dtype(labels.dtype)
    return pa.array(list(labels), kind if labels.ndim == 1 else pa.list_(kind))


def _matrix(table: pa.Table, column: str) -> npt.NDArray[np.float32]:
    return np.stack(table[column].to_numpy()).astype(np.float32)
