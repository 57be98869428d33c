"""What a student can be held against: small objects that validate, then compute."""

from typing import Any

import keras
from keras import ops

from kdedge.errors import KdedgeError


class DistillationLoss(keras.distillation.DistillationLoss):
    """Base class: a value for each example of a batch.

    The Distiller applies sample weights, the loss's own weight and the mean over the batch.

    Attributes:
        name: of the loss's metric.
        student_layer: the student's layer whose output `compute_loss` needs; None if logits do.
        teacher_output: what it needs of the teacher's outputs.
        projection_width: width of a learned linear projection that the Distiller puts between the
            student's layer and the loss; None for no projection.
        matches_attention: whether `compute_loss` needs the attention maps of `student_layer`, a
            `keras.layers.MultiHeadAttention`, and not its output.
        adversary: makes the inputs at which the loss is taken, in training only; None for the
            inputs as they are.
        every: of a batch the adversary takes each so manieth example.
    """

    name: str
    student_layer: str | None = None
    teacher_output = "logits"
    projection_width: int | None = None
    matches_attention = False
    adversary: Any = None
    every = 1

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each example.

        Args:
            teacher_outputs: the teacher's `teacher_output`.
            student_outputs: the student's logits, or the output of its `student_layer`.
            **kwargs: `done`, the share of the training that is done, float32 from 0 to 1, and
                `mask`, int32 [batch, length], 1 for tokens and 0 for padding, or None where the
                student has no such input.

        Returns:
            float32 [batch].
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DistillationLoss":
        """Build from `get_config`."""
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})


@keras.saving.register_keras_serializable("kdedge")
class FeatureLoss(DistillationLoss):
    """Mean squared difference of a teacher's and a student's vector.

    The student's goes through a learned linear projection to the teacher's width first (FitNets,
    arXiv 1412.6550; TinyBERT, arXiv 1909.10351).

    Args:
        width: of the teacher's vector.
        student_layer: name of the student's layer whose output is matched.
        teacher_output: which of the teacher's outputs.
    """

    name = "feature_loss"

    def __init__(
        self, width: int, student_layer: str = "sentence", teacher_output: str = "pooled"
    ) -> None:
        self.projection_width = width
        self.student_layer = student_layer
        self.teacher_output = teacher_output

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that both, the student's projected, have one shape."""
        same_shape(self, teacher_outputs, student_outputs)

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each example, float32 [batch], of vectors float32 [batch, ..., width]."""
        teacher = ops.cast(teacher_outputs, "float32")
        squares = ops.square(teacher - ops.cast(student_outputs, "float32"))
        return ops.mean(squares, axis=tuple(range(1, len(squares.shape))))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "width": self.projection_width,
            "student_layer": self.student_layer,
            "teacher_output": self.teacher_output,
        }


@keras.saving.register_keras_serializable("kdedge")
class HiddenStateLoss(DistillationLoss):
    """Mean squared difference of a teacher's and a student's hidden states, over a text's tokens.

    The student's go through a learned linear projection to the teacher's width first (TinyBERT,
    arXiv 1909.10351). Needs a live teacher, `load_teacher(..., with_hidden_states=True)`: hidden
    states of every token are too large to store.

    Args:
        width: of the teacher's hidden states.
        student_layer: name of the student's layer whose output, [batch, length, width], is
            matched: `dense_norm_0` is the first transformer layer's.
        teacher_layer: 0 for the teacher's embeddings, 1 for its first layer, and so on.
    """

    def __init__(self, width: int, student_layer: str, teacher_layer: int) -> None:
        self.name = f"hidden_state_loss_{student_layer}"
        self.projection_width = width
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.teacher_output = f"hidden_states_{teacher_layer}"

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that both, the student's projected, have one shape."""
        same_shape(self, teacher_outputs, student_outputs)

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each example, float32 [batch], of states float32 [batch, length, width]."""
        teacher = ops.cast(teacher_outputs, "float32")
        squares = ops.mean(ops.square(teacher - ops.cast(student_outputs, "float32")), axis=-1)
        return _mean_where(squares, _mask(kwargs, squares))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "width": self.projection_width,
            "student_layer": self.student_layer,
            "teacher_layer": self.teacher_layer,
        }


@keras.saving.register_keras_serializable("kdedge")
class AttentionLoss(DistillationLoss):
    """Mean squared difference of a teacher's and a student's attention maps.

    TinyBERT, arXiv 1909.10351, which takes the scores before the softmax; transformers gives the
    maps after it, so these are matched. Needs a live teacher, `load_teacher(...,
    with_attentions=True)`, and a student with attention.

    Args:
        student_layer: name of the student's `MultiHeadAttention`.
        teacher_layer: 0 for the teacher's first layer.
        mean_of_heads: match the mean over the heads, for a teacher and a student that do not have
            as many; False matches head by head.
    """

    matches_attention = True

    def __init__(self, student_layer: str, teacher_layer: int, mean_of_heads: bool = False) -> None:
        self.name = f"attention_loss_{student_layer}"
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.teacher_output = f"attentions_{teacher_layer}"
        self.mean_of_heads = mean_of_heads

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that both have as many heads, unless their means are matched."""
        if not self.mean_of_heads:
            same_shape(self, teacher_outputs, student_outputs)

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each example, float32 [batch], of maps float32 [batch, heads, length, length].

        Rows and columns of padding don't count.
        """
        teacher = ops.cast(teacher_outputs, "float32")
        student = ops.cast(student_outputs, "float32")
        if self.mean_of_heads:
            teacher, student = ops.mean(teacher, axis=1), ops.mean(student, axis=1)
            squares = ops.square(teacher - student)
        else:
            squares = ops.mean(ops.square(teacher - student), axis=1)
        mask = _mask(kwargs, squares[:, 0])
        return _mean_where(squares, mask[:, :, None] * mask[:, None, :])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "student_layer": self.student_layer,
            "teacher_layer": self.teacher_layer,
            "mean_of_heads": self.mean_of_heads,
        }


def attention_maps(layer: Any, x: Any, mask: Any) -> Any:
    """The maps of a self-attention layer whose input was x, without dropout.

    Args:
        layer: a `keras.layers.MultiHeadAttention`. Its own maps can be had only by calling it
            again, and that would make it another layer in the student that is saved.
        x: float32 [batch, length, width].
        mask: int32 [batch, length], or None.

    Returns:
        float32 [batch, heads, length, length]: each row sums to 1.
    """
    query, key = layer.query_dense(x), layer.key_dense(x)
    scores = ops.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
    if mask is not None:
        scores -= 1e9 * (1.0 - ops.cast(mask, "float32")[:, None, None, :])
    return ops.softmax(scores)


def _mask(kwargs: dict[str, Any], like: Any) -> Any:
    mask = kwargs.get("mask")
    return ops.ones_like(like) if mask is None else ops.cast(mask, "float32")


def _mean_where(values: Any, mask: Any) -> Any:
    rest = tuple(range(1, len(values.shape)))
    return ops.sum(values * mask, axis=rest) / ops.sum(mask, axis=rest)


def same_shape(loss: DistillationLoss, teacher: Any, student: Any) -> None:
    """Check that what a loss compares has one shape.

    Raises:
        KdedgeError: it has not.
    """
    shapes = tuple(teacher.shape[1:]), tuple(student.shape[1:])
    # A length that one of them learns at run time only is None.
    if len(shapes[0]) != len(shapes[1]) or any(
        None not in sizes and sizes[0] != sizes[1] for sizes in zip(*shapes, strict=True)
    ):
        raise KdedgeError(
            f"{loss.name}: the teacher's {loss.teacher_output} has shape {tuple(teacher.shape)} "
            f"and the student's {loss.student_layer or 'logits'} {tuple(student.shape)}; all but "
            "the first number must be equal."
        )
