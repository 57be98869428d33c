"""Finds and builds students by name."""

import keras

from kdedge.errors import KdedgeError, need_at_least
from kdedge.extensions import find
from kdedge.students.architecture import Parts, Preset, Request, student_inputs
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
    """The preset of a student by its name, as in `student` of a recipe.

        >>> find_preset("nano").learning_rate
        0.002

    Args:
        student: `nano`, `micro`, `mini`, `mini-cut`, or `module:NAME` for a preset in a Python
            file of your own.

    Raises:
        KdedgeError: there is no such preset.
    """
    preset = find("student", student, PRESETS)
    if not isinstance(preset, Preset):
        raise KdedgeError(
            f"student: {student} is a {type(preset).__name__}; it must be a kdedge Preset."
        )
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
    """Build an untrained student: int32 [batch, length] ids, mask, segment_ids -> logits.

        >>> from kdedge.tasks import Classification
        >>> task = Classification(label_names=("bad", "good"))
        >>> build_student("nano", task=task, vocabulary=100, max_length=16).output_shape
        (None, 2)

    Args:
        preset: a name, as for `find_preset`.
        task: task of the student; `corpus.task` has it.
        vocabulary: number of token ids.
        max_length: longest input in tokens.
        teacher: fine-tuned teacher, for presets that take layers from it.
        corpus: corpus for the same presets; its training texts show which parts are important.

    Raises:
        KdedgeError: unknown preset, or one that needs a teacher without one; or see `built`.
    """
    return built(find_preset(preset), Request(task, vocabulary, max_length, teacher, corpus))


def built(preset: Preset, request: Request) -> keras.Model:
    """Build a preset's model, and check its inputs and outputs: it can be anyone's code.

    Raises:
        KdedgeError: it is no Keras model, or has other inputs or another number of logits; or a
            number in the request is below 1.
    """
    need_at_least(1, vocabulary=request.vocabulary, max_length=request.max_length)
    model = preset.build(request)
    if not isinstance(model, keras.Model):
        raise KdedgeError(
            f"student: {preset.name} builds a {type(model).__name__}; a keras.Model is needed."
        )
    if not Parts(model).functional:
        return model
    others = {tensor.name for tensor in model.inputs} - {*student_inputs()}
    if others:
        raise KdedgeError(
            f"student: {preset.name} has the inputs {', '.join(sorted(others))}; allowed are "
            f"{', '.join(student_inputs())}, as student_inputs() makes them."
        )
    shapes = [tensor.shape for tensor in model.outputs]
    if shapes != [(None, request.task.width)]:
        raise KdedgeError(
            f"student: {preset.name} has outputs of shape {', '.join(map(str, shapes))}; one of "
            f"shape (None, {request.task.width}) is needed. request.head() makes its layer."
        )
    return model
