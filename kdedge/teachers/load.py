"""Loads a teacher of any kind."""

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
    """Load a teacher with its classes in a corpus's order, also where there is no corpus yet.

    Args:
        source: of the teacher.
        task: of the corpus, if there is one.
        names: the labels of the corpus for some of the teacher's classes.
        max_length: tokens that texts are cut to; ignored for a folder that kdedge wrote.

    Raises:
        KdedgeError: see `load_any_teacher`, or `names` gives two classes one label.
    """
    if task:
        return load_any_teacher(source, task=task, names=names, max_length=max_length)
    teacher = load_any_teacher(source, max_length=max_length)
    own = teacher.task
    labels = renamed(own.output_names, names, source)
    if len({*labels}) < len(labels):
        raise KdedgeError(f"--map: {', '.join(labels)}: a label of two classes.")
    if len(labels) > 1:
        as_in_a_corpus, _ = Classification.from_labels(labels, str(source))
        wanted = task_of_names(own.name, as_in_a_corpus.label_names)
        teacher.take_order(order_of(own, names, wanted, source), wanted)
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
        source: of the teacher.
        task: the one whose order its logits get, by the names of the classes; None for its own.
        names: the task's name for some of the teacher's classes.
        max_length: tokens that texts are cut to; ignored for a folder that kdedge wrote.

    Raises:
        KdedgeError: there is no such teacher, or its classes are others.
    """
    load = load_onnx_teacher if onnx_file(source) else load_teacher
    return load(source, task=task, names=names, max_length=max_length)
