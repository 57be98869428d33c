"""The students by name."""

from collections.abc import Sequence
from typing import Any

import keras

from kdedge.errors import KdedgeError
from kdedge.recipe import PRESETS
from kdedge.students.convolutional import convolutional
from kdedge.students.cut import Importance, cut_from_teacher
from kdedge.students.transformer import mini


def build_student(
    preset: str,
    *,
    vocabulary: int,
    classes: int,
    max_length: int,
    transformer: Any = None,
    importance: Importance | None = None,
    kept: Sequence[int] | None = None,
) -> keras.Model:
    """Build a student: int32 [batch, length] ids, mask, segment_ids -> float32 [batch, classes].

    Every student has a layer `sentence` whose output, [batch, width], a feature loss can use.

    Args:
        preset: `nano`, `micro`, `mini` or, made of parts of the teacher's layers, `mini-cut`.
        vocabulary: number of token ids.
        classes: number of logits.
        max_length: tokens that the student must take.
        transformer: the teacher's transformer, for `mini-cut` only.
        importance: of the transformer's parts, for `mini-cut` only.
        kept: the teacher's ids of the student's tokens, for `mini-cut` only; None for all of them.

    Raises:
        KdedgeError: unknown preset, or `mini-cut` without a teacher.
    """
    match preset:
        case "nano":
            return convolutional(
                vocabulary,
                classes,
                width=32,
                kernels=(2, 3),
                filters=48,
                hidden=64,
                dropout=0.1,
                name=preset,
            )
        case "micro":
            return convolutional(
                vocabulary,
                classes,
                width=56,
                kernels=(1, 2, 3, 5),
                filters=128,
                hidden=192,
                dropout=0.2,
                name=preset,
            )
        case "mini":
            return mini(vocabulary, classes, max_length)
        case "mini-cut":
            if transformer is None or importance is None:
                raise KdedgeError(
                    "student: mini-cut is made of the teacher's layers; name it: --teacher DIR."
                )
            return cut_from_teacher(
                transformer,
                importance,
                classes,
                max_length,
                layers=3,
                heads=4,
                neurons=512,
                kept=kept,
            )
    raise KdedgeError(f"student: {preset!r} is unknown. Allowed: {', '.join(PRESETS)}.")
