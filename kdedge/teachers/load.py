"""Loads teachers of any kind: Hugging Face folders, hub ids and ONNX files."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from kdedge.errors import KdedgeError
from kdedge.tasks import Classification, Task, task_of_names
from kdedge.teachers.bert import BertTeacher, load_teacher
from kdedge.teachers.checkpoints import onnx_file
from kdedge.teachers.classes import order_of, renamed
from kdedge.teachers.onnx import OnnxTeacher, load_onnx_teacher

AnyTeacher: TypeAlias = BertTeacher | OnnxTeacher


def load_in_order(
    source: str | Path, task: Task | None = None, *, names: Mapping[str, str], max_length: int
) -> AnyTeacher:
    """Load a teacher with its classes in the order that a corpus has.

    Args:
        source: a teacher, as for `load_any_teacher`.
        task: task of the corpus; without one, the order is that of a corpus with these labels.
        names: the corpus's label for each class that the teacher calls something else.
        max_length: tokens that texts are truncated to; a folder that kdedge wrote has its own.

    Raises:
        KdedgeError: see `load_any_teacher`, or `names` gives two classes one label.
    """
    if task:
        return load_any_teacher(source, task=task, names=names, max_length=max_length)
    teacher = load_any_teacher(source, max_length=max_length)
    teacher_task = teacher.task
    labels = renamed(teacher_task.output_names, names, source)
    if len({*labels}) < len(labels):
        raise KdedgeError(
            f"--map: {', '.join(labels)}: two classes have one label. Give each its own."
        )
    if len(labels) > 1:
        as_in_a_corpus, _ = Classification.from_labels(labels, str(source))
        data_task = task_of_names(teacher_task.name, as_in_a_corpus.label_names)
        teacher.reorder_logits(order_of(teacher_task, names, data_task, source), data_task)
    return teacher


def load_any_teacher(
    source: str | Path,
    *,
    task: Task | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
    max_length: int = 128,
) -> AnyTeacher:
    """Load a fine-tuned teacher: a folder or hub id as for `load_teacher`, or an ONNX file.

    Args:
        source: a folder, hub id, `package:NAME/FOLDER` or .onnx file.
        task: the logits are put into the order of its classes, which are matched by name; None for
            the teacher's own task.
        names: the task's name for each class that the teacher calls something else.
        max_length: tokens that texts are truncated to; a folder that kdedge wrote has its own.

    Raises:
        KdedgeError: the teacher does not exist, or its classes are not those of the task.
    """
    load = load_onnx_teacher if onnx_file(source) else load_teacher
    return load(source, task=task, names=names, max_length=max_length)
