"""Distillation losses: each declares which outputs it compares, and gives a value per example."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from kdedge.errors import KdedgeError, need_at_least


class DistillationLoss(keras.distillation.DistillationLoss):
    """Base class of distillation losses: one value for each example of a batch.

    `Distiller` applies the sample weights, the weight of the loss and the mean over the batch. A
    loss declares what it compares by `teacher_output` and `tap`:

        >>> class CosineLoss(DistillationLoss):
        ...     name = "cosine_loss"
        ...     teacher_output = "pooled"
        ...
        ...     def tap(self, student):
        ...         return student.sentence
        ...
        ...     def adapter(self, student):
        ...         return keras.layers.Dense(384)
        ...
        ...     def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        ...         return 1 + keras.losses.cosine_similarity(teacher_outputs, student_outputs)
        >>> [float(loss) for loss in CosineLoss().compute_loss([[3.0, 0.0]], [[0.0, 5.0]])]
        [1.0]

    Attributes:
        name: name of its metric.
        teacher_output: name of the teacher's output that it compares.
        training_only: whether it is left out in `evaluate`.
        rows: the part of a batch that `compute_loss` gives values for.
        of_tokens: whether it compares teacher and student token by token.
        variables: Keras variables that it changes itself; they are part of a checkpoint.
    """

    name: str
    teacher_output = "logits"
    training_only = False
    rows = slice(None)
    of_tokens = False
    variables: Sequence[Any] = ()

    def tap(self, student: Any) -> Any:
        """The student's tensors to compare, symbolic; None for the logits.

        Args:
            student: the student's `kdedge.students.architecture.Parts`.

        Raises:
            KdedgeError: the student has no such part.
        """
        return None

    def adapter(self, student: Any) -> Callable[[Any], Any] | None:
        """A layer or function between the tapped tensors and the loss; None for nothing.

        A layer must be new; it is trained with the student.

        Args:
            student: see `tap`.
        """
        return None

    def before_step(self, inputs: Any) -> None:
        """Called before each training step with the inputs of the batch; does nothing here."""

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each example.

        Args:
            teacher_outputs: the teacher's output named `teacher_output`.
            student_outputs: the tapped tensors after the `adapter`; or the student's logits.
            **kwargs: `done`, the finished share of the training, float32 from 0 to 1; `inputs` of
                the batch; `mask`, int32 [batch, length], 0 for padding, or None if the student has
                no such input.

        Returns:
            float32 [batch], or a value for each example of `rows`.
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
    """Mean squared error between a vector of the teacher and the projected one of the student.

    The projection to the teacher's width is linear and learned (FitNets, arXiv 1412.6550;
    TinyBERT, arXiv 1909.10351).

        >>> loss = FeatureLoss(width=2)
        >>> [round(float(v), 2) for v in loss.compute_loss([[1.0, 0.0]], [[0.0, 0.0]])]
        [0.5]

    Args:
        width: width of the teacher's vector.
        student_layer: name of the student's layer to match; None for the sentence vector.
        teacher_output: name of the teacher's output to match.
    """

    name = "feature_loss"

    def __init__(
        self, width: int, student_layer: str | None = None, teacher_output: str = "pooled"
    ) -> None:
        need_at_least(1, width=width)
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
    """Mean squared error between hidden states of teacher and student, over the tokens of a text.

    The student's hidden states go through a learned linear projection (TinyBERT, arXiv 1909.10351).
    It needs a live teacher, `load_teacher(..., with_hidden_states=True)`, because the hidden states
    of all tokens are too large to store.

    Args:
        width: width of the teacher's hidden states.
        student_layer: name of the student's layer to match, with outputs [batch, length, width];
            that of the first transformer block is `Parts(student).blocks[0].last.name`.
        teacher_layer: 0 for the teacher's embeddings, 1 for its first layer, and so on.
    """

    of_tokens = True

    def __init__(self, width: int, student_layer: str, teacher_layer: int) -> None:
        self.name = f"hidden_state_loss_{student_layer}"
        need_at_least(1, width=width)
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
    """Mean squared error between attention maps of teacher and student.

    As in TinyBERT (arXiv 1909.10351), but after the softmax instead of before it. It needs a live
    teacher, `load_teacher(..., with_attentions=True)`, and a student with attention.

    Args:
        student_layer: name of the student's `MultiHeadAttention`.
        teacher_layer: 0 for the teacher's first layer.
        mean_of_heads: match the mean over the heads, so that teacher and student can have different
            numbers of heads; False matches head by head.
    """

    of_tokens = True

    def __init__(self, student_layer: str, teacher_layer: int, mean_of_heads: bool = False) -> None:
        self.name = f"attention_loss_{student_layer}"
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.teacher_output = f"attentions_{teacher_layer}"
        self.mean_of_heads = mean_of_heads

    def tap(self, student: Any) -> Any:
        """The input of the attention, and the mask; see `DistillationLoss`."""
        layer = student.layer(self.student_layer)
        if not isinstance(layer, keras.layers.MultiHeadAttention):
            raise KdedgeError(
                f"{self.name}: {self.student_layer!r} is a {type(layer).__name__}; it must be a "
                "keras.layers.MultiHeadAttention."
            )
        x = keras.tree.flatten(layer.input)[0]
        return [x] if student.mask is None else [x, student.mask]

    def adapter(self, student: Any) -> Callable[[Any], Any]:
        """Computes the attention maps from the input; see `DistillationLoss`."""
        layer = student.layer(self.student_layer)
        return lambda tapped: attention_maps(layer, *tapped)

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that both have the same number of heads, unless their means are matched."""
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
    """Compute the attention maps of a self-attention layer, without dropout.

    Args:
        layer: a `keras.layers.MultiHeadAttention`. It is not called, because a second call would
            add a node to the model that is saved.
        x: its input, float32 [batch, length, width].
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
    """Check that the two tensors of a loss have the same shape.

    Raises:
        KdedgeError: they have not.
    """
    shapes = tuple(teacher.shape[1:]), tuple(student.shape[1:])
    # A length that is only known at run time is None.
    if len(shapes[0]) != len(shapes[1]) or any(
        None not in sizes and sizes[0] != sizes[1] for sizes in zip(*shapes, strict=True)
    ):
        raise KdedgeError(
            f"{loss.name}: the teacher's {loss.teacher_output} has shape {tuple(teacher.shape)}, "
            f"the student's tensor {tuple(student.shape)}. All but the first number must be "
            "equal: change `tap` or `adapter` of the loss."
        )
