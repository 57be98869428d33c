"""What a student can be held against: small objects that validate, then compute."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from kdedge.errors import KdedgeError


class DistillationLoss(keras.distillation.DistillationLoss):
    """Base class: a value for each example of a batch.

    The Distiller applies sample weights, the loss's own weight and the mean over the batch. What a
    loss needs of teacher and student it says by `teacher_output` and `tap`:

        class CosineLoss(DistillationLoss):
            name = "cosine_loss"
            teacher_output = "pooled"

            def tap(self, student):
                return student.sentence

            def adapter(self, student):
                return keras.layers.Dense(384)

            def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
                return 1 + keras.losses.cosine_similarity(teacher_outputs, student_outputs)

    Attributes:
        name: of the loss's metric.
        teacher_output: which of the teacher's outputs it needs.
        training_only: whether it counts in training only, not in `evaluate`.
        rows: of a batch the examples that `compute_loss` gives a value for.
        of_tokens: whether it compares teacher and student token by token.
        variables: Keras variables that it changes by itself; a run that is resumed needs them.
    """

    name: str
    teacher_output = "logits"
    training_only = False
    rows = slice(None)
    of_tokens = False
    variables: Sequence[Any] = ()

    def tap(self, student: Any) -> Any:
        """What of the student it needs, one symbolic tensor or more; None for the logits.

        Args:
            student: a functional student's parts, `kdedge.students.architecture.Parts`.

        Raises:
            KdedgeError: the student has no such part.
        """
        return None

    def adapter(self, student: Any) -> Callable[[Any], Any] | None:
        """What is between what it taps and itself; None for nothing.

        A new Keras layer, which is then learned with the student, or a function.

        Args:
            student: see `tap`.
        """
        return None

    def before_step(self, inputs: Any) -> None:
        """What it does before each step of the student, with the batch's inputs: nothing."""

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each example.

        Args:
            teacher_outputs: the teacher's `teacher_output`.
            student_outputs: what `tap` asked for, through the `adapter`; or the student's logits.
            **kwargs: `done`, the share of the training that is done, float32 from 0 to 1; `inputs`
                of the batch; `mask`, int32 [batch, length], 1 for tokens and 0 for padding, or None
                where the student has no such input.

        Returns:
            float32 [batch], or of those examples that `rows` has.
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
        student_layer: name of the student's layer whose output is matched; None for the sentence
            vector.
        teacher_output: which of the teacher's outputs.
    """

    name = "feature_loss"

    def __init__(
        self, width: int, student_layer: str | None = None, teacher_output: str = "pooled"
    ) -> None:
        self.width, self.student_layer = width, student_layer
        self.teacher_output = teacher_output

    def tap(self, student: Any) -> Any:
        """The student's vector; see `DistillationLoss`."""
        return student.layer(self.student_layer).output if self.student_layer else student.sentence

    def adapter(self, student: Any) -> keras.layers.Layer:
        """The projection; see `DistillationLoss`."""
        return keras.layers.Dense(self.width, name=f"{self.name}_projection")

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
            "width": self.width,
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
            matched: `Parts(student).blocks[0].last.name` is the first transformer layer's.
        teacher_layer: 0 for the teacher's embeddings, 1 for its first layer, and so on.
    """

    of_tokens = True

    def __init__(self, width: int, student_layer: str, teacher_layer: int) -> None:
        self.name = f"hidden_state_loss_{student_layer}"
        self.width = width
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.teacher_output = f"hidden_states_{teacher_layer}"

    def tap(self, student: Any) -> Any:
        """The student's hidden states; see `DistillationLoss`."""
        return student.layer(self.student_layer).output

    def adapter(self, student: Any) -> keras.layers.Layer:
        """The projection; see `DistillationLoss`."""
        return keras.layers.Dense(self.width, name=f"{self.name}_projection")

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
            "width": self.width,
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

    of_tokens = True

    def __init__(self, student_layer: str, teacher_layer: int, mean_of_heads: bool = False) -> None:
        self.name = f"attention_loss_{student_layer}"
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.teacher_output = f"attentions_{teacher_layer}"
        self.mean_of_heads = mean_of_heads

    def tap(self, student: Any) -> Any:
        """What goes into the attention, and the mask of tokens; see `DistillationLoss`."""
        layer = student.layer(self.student_layer)
        if not isinstance(layer, keras.layers.MultiHeadAttention):
            raise KdedgeError(f"{self.name}: {self.student_layer!r} is no MultiHeadAttention.")
        x = keras.tree.flatten(layer.input)[0]
        return [x] if student.mask is None else [x, student.mask]

    def adapter(self, student: Any) -> Callable[[Any], Any]:
        """Makes the attention's maps, by its own weights; see `DistillationLoss`."""
        layer = student.layer(self.student_layer)
        return lambda tapped: attention_maps(layer, *tapped)

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


def attention_maps(layer: Any, x: Any, mask: Any = None) -> Any:
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
            f"and what is compared with it of the student {tuple(student.shape)}; all but the "
            "first number must be equal."
        )
