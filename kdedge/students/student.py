"""A trained student on disk: a `.keras` file, its text encoder, and what it was measured to do."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

# Registers what .keras files of students name.
import kdedge.students.layers  # noqa: F401
from kdedge.errors import KdedgeError
from kdedge.files import new_folder
from kdedge.text.encoder import TextEncoder

FORMAT_VERSION = 1
MODEL, NOTES, EVALUATION = "student.keras", "student.json", "evaluation.parquet"


@dataclass(frozen=True)
class Evaluation:
    """The test split and what was said of it.

    Attributes:
        texts: of the test split.
        labels: int32 [texts], the true ones.
        teacher_logits: float32 [texts, classes], or None if the teacher did not label them.
        student_logits: float32 [texts, classes].
    """

    texts: tuple[str, ...]
    labels: npt.NDArray[np.int32]
    teacher_logits: npt.NDArray[np.float32] | None
    student_logits: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Student:
    """A student with all that goes with it; `save` and `load` keep it in a folder.

    Attributes:
        model: int32 [batch, length] ids, mask, segment_ids -> logits float32 [batch, classes].
        encoder: what turns texts into its inputs.
        label_names: the classes, in the order of the logits.
        evaluation: on the test split.
        notes: preset, seed, history and measures, for people and reports.
    """

    model: keras.Model
    encoder: TextEncoder
    label_names: tuple[str, ...]
    evaluation: Evaluation
    notes: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write the folder, whole or not at all.

        Raises:
            KdedgeError: `folder` exists.
        """
        with new_folder(folder) as partial:
            self.model.save(partial / MODEL)
            self.encoder.save(partial)
            facts = {"format_version": FORMAT_VERSION, "label_names": self.label_names}
            (partial / NOTES).write_text(json.dumps(facts | self.notes, indent=2) + "\n")
            e = self.evaluation
            columns = {
                "text": pa.array(e.texts, pa.string()),
                "label": e.labels,
                "student_logits": list(e.student_logits),
            }
            if e.teacher_logits is not None:
                columns["teacher_logits"] = list(e.teacher_logits)
            pq.write_table(pa.table(columns), partial / EVALUATION)

    @classmethod
    def load(cls, folder: Path) -> "Student":
        """Read what `save` wrote; runs no code from the files.

        Raises:
            KdedgeError: not a student's folder, or a part of it can't be read.
        """
        if not (folder / NOTES).is_file():
            raise KdedgeError(
                f"{folder}: not a student: {NOTES} is missing. "
                "`kdedge distill DATA --soft-labels DIR --out STUDENT_DIR` makes one."
            )
        try:
            notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
            version = notes.pop("format_version")
            labels = tuple(notes.pop("label_names"))
            table = pq.read_table(folder / EVALUATION)
            model = keras.models.load_model(folder / MODEL, compile=False, safe_mode=True)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise KdedgeError(f"{folder}: cannot read this student: {error}") from None
        if version != FORMAT_VERSION:
            raise KdedgeError(
                f"{folder}: format_version is {version} and this kdedge reads {FORMAT_VERSION}."
            )
        evaluation = Evaluation(
            tuple(table["text"].to_pylist()),
            table["label"].to_numpy(),
            _matrix(table, "teacher_logits") if "teacher_logits" in table.column_names else None,
            _matrix(table, "student_logits"),
        )
        return cls(model, TextEncoder.load(folder), labels, evaluation, notes)


def _matrix(table: pa.Table, column: str) -> npt.NDArray[np.float32]:
    return np.stack(table[column].to_numpy()).astype(np.float32)
