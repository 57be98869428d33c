"""The students by name."""

import keras

from kdedge.errors import KdedgeError
from kdedge.extensions import find
from kdedge.students.architecture import Preset, Request
from kdedge.students.convolutional import MICRO, NANO
from kdedge.students.cut import MINI_CUT
from kdedge.students.transformer import MINI
from kdedge.tasks import Task
from kdedge.teachers.bert import BertTeacher
from kdedge.text.corpus import Corpus

# A new student: a file here and a line in this list.
PRESETS = {
    preset.name: preset
    for preset in (
        NANO,
        MICRO,
        MINI,
        MINI_CUT,
    )
}


def find_preset(student: str) -> Preset:
    """The preset that a recipe's `student` names.

    Args:
        student: `nano`, `micro`, `mini`, `mini-cut`, or `module:NAME` of a Python file of the
            user's.

    Raises:
        KdedgeError: there is no such preset.
    """
    preset = find("student", student, PRESETS)
    if not isinstance(preset, Preset):
        raise KdedgeError(f"student: {student} is a {type(preset).__name__}; a Preset is needed.")
    return preset


def build_student(
    preset: str,
    *,
    task: Task,
    vocabulary: int,
    max_length: int,
    teacher: BertTeacher | None = None,
    corpus: Corpus | None = None,
) -> keras.Model:
    """Build a student: int32 [batch, length] ids, mask, segment_ids -> logits [batch, width].

    Args:
        preset: as for `find_preset`.
        task: what the logits are of.
        vocabulary: number of token ids.
        max_length: tokens that the student must take.
        teacher: for presets that are made of its layers.
        corpus: for the same presets: its training texts say which layers count.

    Raises:
        KdedgeError: unknown preset, or one that needs a teacher without one.
    """
    request = Request(task, vocabulary, max_length, teacher, corpus)
    return find_preset(preset).build(request)
