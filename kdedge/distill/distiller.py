"""Keras's Distiller, for live teachers and stored soft labels alike."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kdedge.distill.prompts.soft_label import SoftLabelPrompt
from kdedge.distill.prompts.task import embedded, prompted_place
from kdedge.errors import KdedgeError
from kdedge.objectives.losses import (
    AttentionLoss,
    DistillationLoss,
    HiddenStateLoss,
    attention_maps,
)
from kdedge.objectives.schedules import Schedule, value_at, values_of
from kdedge.students.architecture import run_from

UNLABELLED = -1


@keras.saving.register_keras_serializable("kdedge")
class Distiller(keras.distillation.Distiller):
    """Trains a student on what a teacher says, and on the labels where there are any.

    total = student_loss_weight * student_loss
            + (1 - student_loss_weight) * sum(weight * distillation_loss)

    as in Keras, each the mean over the batch of what the examples cost times their sample weights.
    With one `SoftLabelLoss`, 1 - student_loss_weight is Hinton's alpha.

    `fit` and `evaluate` take as targets

    - with a live teacher: labels, int [batch]
    - with stored soft labels (`teacher=None`): a dictionary of `label`, int [batch], and
      `teacher_logits`, float [batch, classes], and `teacher_<output>` for any other of the
      teacher's outputs that a loss needs

    Weights and temperatures can be schedules over the training. In `evaluate` these stand at their
    ends, and adaptive weights at what was given, so that the losses of epochs can be compared.

    A label of -1 says that there is none: such an example counts in the distillation losses only.
    Each loss has a metric of its name, `student_loss` is the loss on the labels.

    Args:
        teacher: any Keras classifier that gives logits, or a dictionary with `logits`; None if
            the targets hold what it said. It is frozen.
        student: a Keras model that gives logits, float [batch, classes].
        distillation_losses: one loss or several, each once.
        distillation_loss_weights: a weight a loss; None is 1 for each.
        student_loss_weight: from 0 (soft labels only) to 1.
        schedule_steps: training steps from the start to the end of the schedules, if there are any.
        adaptive_weights: learn a log variance s a term, so that in training a loss L counts as
            exp(-s) L + s / 2 times its weight: terms that stay large count less (Kendall, Gal,
            Cipolla 2017, arXiv 1705.07115).
        prompt: what the student is told of the soft label in training.
        name: of the model.

    Raises:
        KdedgeError: an argument that is not as it says here.
    """

    def __init__(
        self,
        teacher: keras.Model | None,
        student: keras.Model,
        distillation_losses: DistillationLoss | Sequence[DistillationLoss],
        distillation_loss_weights: Sequence[float | Schedule] | None = None,
        student_loss_weight: float | Schedule = 0.5,
        schedule_steps: int | None = None,
        adaptive_weights: bool = False,
        prompt: SoftLabelPrompt | None = None,
        name: str = "distiller",
        **kwargs: Any,
    ) -> None:
        # Keras's own constructor demands a live teacher with the student's very inputs.
        keras.Model.__init__(self, name=name, **kwargs)
        losses = (
            [distillation_losses]
            if isinstance(distillation_losses, keras.distillation.DistillationLoss)
            else list(distillation_losses)
        )
        weights = list(distillation_loss_weights or [1.0] * len(losses))
        _validate(teacher, student, losses, weights, student_loss_weight, schedule_steps, prompt)
        self.teacher = teacher
        self.student = student
        self.distillation_losses = losses
        self.distillation_loss_weights = weights
        self.student_loss_weight = student_loss_weight
        self.schedule_steps = schedule_steps
        self.adaptive_weights = adaptive_weights
        self.prompt = prompt
        if prompt is not None and not prompt.built:
            width = student.get_layer(prompted_place(student)).output.shape[-1]
            prompt.build((None, None, width))
        if adaptive_weights:
            self.log_variances = self.add_weight(
                shape=(1 + len(losses),), initializer="zeros", name="log_variances"
            )
        if teacher is not None:
            teacher.trainable = False

        tapped = {_tap(loss): loss for loss in losses if loss.student_layer}
        # One pass of the student gives its logits and every layer that a loss looks at.
        self.symbolic_outputs: dict[str, Any] = {}
        if getattr(student, "outputs", None):
            taps = {tap: _tapped_tensor(student, loss) for tap, loss in tapped.items()}
            self.symbolic_outputs = {"logits": student.outputs[0]} | taps
        self._student_with_layers = (
            keras.Model(student.inputs, self.symbolic_outputs) if tapped else None
        )
        self._projections = {
            loss.name: keras.layers.Dense(loss.projection_width, name=f"{loss.name}_projection")
            for loss in losses
            if loss.projection_width
        }
        for loss in losses:
            if loss.projection_width:
                layer = student.get_layer(loss.student_layer)
                self._projections[loss.name].build(layer.output.shape)
        self.loss_means = {
            name: keras.metrics.Mean(name=name)
            for name in ["student_loss", *(loss.name for loss in losses)]
        }

    def compile(
        self, optimizer: Any = "adam", loss: Any = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        """As Keras's, but `loss` is on logits.

        Args:
            optimizer: as in Keras.
            loss: on labels and the student's logits; None is sparse categorical cross-entropy.
            metrics: of labels and the student's logits, over the examples that have labels.
            **kwargs: as in Keras.

        Raises:
            KdedgeError: a loss that would read the logits as probabilities.
        """
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if not isinstance(loss, keras.losses.Loss):
            raise KdedgeError(
                f"loss: {loss!r}; an object is needed, as `keras.losses."
                "SparseCategoricalCrossentropy(from_logits=True)`: by name, Keras's losses read "
                "the student's logits as probabilities."
            )
        if loss.get_config().get("from_logits") is False:
            raise KdedgeError(f"loss: {type(loss).__name__} needs from_logits=True.")
        self._student_loss = loss
        # Keras gives weights, and so what has no label, to weighted metrics only. XLA makes the
        # convolutions of small students several times slower on a CPU.
        keras.Model.compile(
            self,
            optimizer=optimizer,
            loss=None,
            weighted_metrics=metrics,
            **{"jit_compile": False} | kwargs,
        )

    def build(self, input_shape: Any) -> None:
        """Nothing is left to build: the constructor was given a student and built the rest."""
        self.built = True

    def call(self, inputs: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """The student's logits; with losses on layers, a dictionary of `logits` and those."""
        student = self._student_with_layers or self.student
        if self.prompt is None or not training:
            return student(inputs, training=training, **kwargs)
        said = inputs["teacher"]["logits"]
        x, mask = self.prompt(
            embedded(self.student, inputs), inputs["mask"], said, done=self._done(training)
        )
        place = prompted_place(self.student)
        return run_from(student, place, x, {**inputs, "mask": mask}, training=training)

    def train_step(self, data: Any) -> Any:
        """As Keras's, after a step of the adversaries that learn."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        for loss in self.distillation_losses:
            if loss.adversary is not None:
                loss.adversary.learn(_each(loss.every, x))
        if self.prompt is not None:
            x = {**x, "teacher": self._teacher_outputs(x, y)}
        return super().train_step((x, y, sample_weight))

    def predict_step(self, data: Any) -> Any:
        """The student's logits, for `predict`."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self.student(x, training=False)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The total loss of a batch, a scalar; updates the metric of each term."""
        student = self._named(self(x, training=training) if y_pred is None else y_pred)
        teacher = self._teacher_outputs(x, y)
        if isinstance(x, dict):
            x = {name: value for name, value in x.items() if name != "teacher"}
        labels = _labels(y)
        logits = student["logits"]
        weight = _example_weights(sample_weight, logits)

        done = self._done(training)
        mask = x.get("mask") if isinstance(x, dict) else None
        soft_share = 1 - value_at(self.student_loss_weight, done)

        hard = 0.0
        if labels is not None:
            labelled = weight * ops.cast(labels >= 0, "float32")
            # Loss objects reduce; a batch of one value each is what an example costs.
            values = self._student_loss.call(ops.maximum(labels, 0), logits)
            hard = ops.mean(values * labelled)
            self.loss_means["student_loss"].update_state(values, labelled)
        terms = [(value_at(self.student_loss_weight, done), hard)]
        for loss, factor in zip(
            self.distillation_losses, self.distillation_loss_weights, strict=True
        ):
            if loss.adversary is not None and not training:
                continue
            from_teacher = teacher[loss.teacher_output]
            from_student = student[_tap(loss)]
            own_weight = weight
            if loss.adversary is not None:
                some, from_teacher, own_weight = _each(loss.every, (x, from_teacher, weight))
                from_teacher, from_student = loss.adversary.logits(some, from_teacher)
            if loss.matches_attention:
                layer = self.student.get_layer(loss.student_layer)
                from_student = attention_maps(layer, from_student, mask)
            if loss.name in self._projections:
                from_student = self._projections[loss.name](from_student)
            loss.validate_outputs(from_teacher, from_student)
            values = loss.compute_loss(from_teacher, from_student, done=done, mask=mask)
            self.loss_means[loss.name].update_state(values, own_weight)
            terms.append((soft_share * value_at(factor, done), ops.mean(values * own_weight)))
        if self.adaptive_weights and training:
            terms = [
                (factor, ops.exp(-variance) * value + variance / 2)
                for (factor, value), variance in zip(
                    terms, ops.unstack(self.log_variances), strict=True
                )
            ]
        total = 0.0
        for factor, value in terms:
            total += factor * value
        # With several devices the gradients of all are added up.
        return total / tf.distribute.get_strategy().num_replicas_in_sync

    def _done(self, training: bool) -> Any:
        if self.schedule_steps is None or not training:
            return 1.0
        return ops.minimum(ops.cast(self.optimizer.iterations, "float32") / self.schedule_steps, 1)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """As Keras's, over the examples that have labels."""
        labels = _labels(y)
        if labels is not None:
            logits = self._named(y_pred)["logits"]
            weight = _example_weights(sample_weight, logits) * ops.cast(labels >= 0, "float32")
            return dict(super().compute_metrics(x, ops.maximum(labels, 0), logits, weight))
        return dict(self.get_metrics_result())

    def _named(self, outputs: Any) -> dict[str, Any]:
        return outputs if isinstance(outputs, dict) else {"logits": outputs}

    def _teacher_outputs(self, x: Any, y: Any) -> dict[str, Any]:
        if isinstance(x, dict) and "teacher" in x:
            return dict(x["teacher"])
        if self.teacher is not None:
            outputs = self._named(self.teacher(x, training=False))
        elif isinstance(y, dict):
            prefix = "teacher_"
            outputs = {k.removeprefix(prefix): v for k, v in y.items() if k.startswith(prefix)}
        else:
            outputs = {}
        # What is given layer by layer is addressed as NAME_LAYER.
        for name, value in list(outputs.items()):
            if isinstance(value, tuple | list):
                outputs |= {f"{name}_{i}": layer for i, layer in enumerate(value)}
        for loss in self.distillation_losses:
            if loss.teacher_output not in outputs:
                raise KdedgeError(
                    f"{loss.name} needs the teacher's {loss.teacher_output} and there is none. "
                    + (
                        f"This teacher gives: {', '.join(outputs)}."
                        if self.teacher is not None
                        else f"Without a teacher the targets must be a dictionary with "
                        f"`teacher_{loss.teacher_output}`."
                    )
                )
        return outputs

    def get_config(self) -> dict[str, Any]:
        """Everything `from_config` needs; weights are not in it."""
        serialize = keras.saving.serialize_keras_object
        return {
            "teacher": None if self.teacher is None else serialize(self.teacher),
            "student": serialize(self.student),
            "distillation_losses": [serialize(loss) for loss in self.distillation_losses],
            "distillation_loss_weights": [
                serialize(weight) for weight in self.distillation_loss_weights
            ],
            "student_loss_weight": serialize(self.student_loss_weight),
            "schedule_steps": self.schedule_steps,
            "adaptive_weights": self.adaptive_weights,
            "prompt": None if self.prompt is None else serialize(self.prompt),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Distiller":
        """Build from `get_config`."""
        deserialize = keras.saving.deserialize_keras_object
        return cls(
            **config
            | {
                "teacher": None if config["teacher"] is None else deserialize(config["teacher"]),
                "student": deserialize(config["student"]),
                "distillation_losses": [
                    deserialize(loss) for loss in config["distillation_losses"]
                ],
                "distillation_loss_weights": [
                    deserialize(weight) for weight in config["distillation_loss_weights"]
                ],
                "student_loss_weight": deserialize(config["student_loss_weight"]),
                "prompt": None if config["prompt"] is None else deserialize(config["prompt"]),
            }
        )

    def reset_metrics(self) -> None:
        """Reset all metrics."""
        keras.Model.reset_metrics(self)


def _each(every: int, arrays: Any) -> Any:
    return tf.nest.map_structure(lambda array: array[::every], arrays)


def _example_weights(sample_weight: Any, logits: Any) -> Any:
    """float32 [batch]; Keras repeats sample weights for each part of a dictionary of targets."""
    if sample_weight is None:
        return ops.ones(ops.shape(logits)[:1])
    return ops.reshape(ops.cast(keras.tree.flatten(sample_weight)[0], "float32"), (-1,))


def _labels(y: Any) -> Any:
    labels = y.get("label") if isinstance(y, dict) else y
    return None if labels is None else ops.reshape(ops.cast(labels, "int32"), (-1,))


def _tap(loss: DistillationLoss) -> str:
    """The name, among the student's outputs, of what a loss looks at."""
    if loss.student_layer is None:
        return "logits"
    return f"into_{loss.student_layer}" if loss.matches_attention else loss.student_layer


def _tapped_tensor(student: keras.Model, loss: DistillationLoss) -> Any:
    layer = student.get_layer(loss.student_layer)
    return keras.tree.flatten(layer.input)[0] if loss.matches_attention else layer.output


def _validate(
    teacher: Any,
    student: Any,
    losses: list[Any],
    weights: Sequence[float | Schedule],
    student_loss_weight: float | Schedule,
    schedule_steps: int | None,
    prompt: SoftLabelPrompt | None,
) -> None:
    if teacher is not None and not isinstance(teacher, keras.Model):
        raise KdedgeError(f"teacher: {type(teacher).__name__}; a keras.Model or None is needed.")
    if not isinstance(student, keras.Model):
        raise KdedgeError(f"student: {type(student).__name__}; a keras.Model is needed.")
    if not losses:
        raise KdedgeError("distillation_losses: none given; at least one is needed.")
    for loss in losses:
        if not isinstance(loss, DistillationLoss):
            raise KdedgeError(
                f"distillation_losses: {type(loss).__name__}; a kdedge DistillationLoss is needed, "
                "which gives a value an example, so that sample weights can be respected."
            )
        if loss.student_layer and not student.inputs:
            raise KdedgeError(
                f"{loss.name}: the student must be a functional model to look inside."
            )
        if loss.student_layer and loss.student_layer not in [la.name for la in student.layers]:
            raise KdedgeError(
                f"{loss.name}: the student has no layer {loss.student_layer!r}. It has: "
                f"{', '.join(layer.name for layer in student.layers)}."
            )
        if loss.matches_attention and not isinstance(
            student.get_layer(loss.student_layer), keras.layers.MultiHeadAttention
        ):
            raise KdedgeError(f"{loss.name}: {loss.student_layer!r} is no MultiHeadAttention.")
    names = [loss.name for loss in losses]
    if len(set(names)) != len(names):
        raise KdedgeError(f"distillation_losses: {names}; their names must differ.")
    if len(weights) != len(losses):
        raise KdedgeError(
            f"distillation_loss_weights: {len(weights)} weights for {len(losses)} losses."
        )
    if any(value < 0 for weight in weights for value in values_of(weight)):
        raise KdedgeError(f"distillation_loss_weights: {weights}; none may be below 0.")
    for value in values_of(student_loss_weight):
        if not 0 <= value <= 1:
            raise KdedgeError(f"student_loss_weight: {value}; from 0 to 1 is allowed.")
    if prompt is not None:
        prompted_place(student)
        if any(isinstance(loss, HiddenStateLoss | AttentionLoss) for loss in losses):
            raise KdedgeError(
                "prompt: it lengthens the student's texts, and its layers can't be matched with "
                "the teacher's then."
            )
    given = [student_loss_weight, *weights, *(v for loss in losses for v in vars(loss).values())]
    given.append(None if prompt is None else prompt.dropped)
    if schedule_steps is None and any(isinstance(value, Schedule) for value in given):
        raise KdedgeError("schedule_steps: None; schedules need the number of training steps.")
    if schedule_steps is not None and schedule_steps < 1:
        raise KdedgeError(f"schedule_steps: {schedule_steps}; at least 1.")
