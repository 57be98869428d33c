"""The Distiller: Keras's Distiller for live teachers and for stored soft labels."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kdedge.distill.prompts.layer import PromptLayer
from kdedge.errors import KdedgeError
from kdedge.objectives import objective_of
from kdedge.objectives.classification import SoftLabelLoss
from kdedge.objectives.losses import DistillationLoss
from kdedge.objectives.schedules import Schedule, value_at, values_of
from kdedge.students.architecture import Parts
from kdedge.tasks import MultiLabel, Regression, Task, read_task


@keras.saving.register_keras_serializable("kdedge")
class Distiller(keras.distillation.Distiller):
    """Trains a student on a teacher's soft labels and, where examples have them, on hard labels.

    total = student_loss_weight * student_loss
            + (1 - student_loss_weight) * sum(weight * distillation_loss)

    as in Keras. Each loss is the mean over the batch of value times sample weight.
    With one `SoftLabelLoss`, 1 - student_loss_weight is Hinton's alpha (arXiv 1503.02531).

    The targets of `fit` and `evaluate` are

    - with a live teacher: labels in the form of the task; for classification int [batch]
    - with stored soft labels (`teacher=None`): a dictionary of `label`, `teacher_logits`, float
      [batch, width], and `teacher_<output>` for every other output that a loss needs

    Weights and temperatures can be schedules. `evaluate` uses their final values, and the initial
    values of adaptive weights, so that losses of different epochs can be compared.

    Examples without a label (-1 in classification) count in the distillation losses only. Each loss
    has a metric with its name; `student_loss` is the loss on the labels.

        >>> from kdedge import SoftLabelLoss, build_student
        >>> from kdedge.tasks import Classification
        >>> task = Classification(label_names=("bad", "good"))
        >>> student = build_student("nano", task=task, vocabulary=9, max_length=4)
        >>> distiller = Distiller(None, student, SoftLabelLoss(2.0), student_loss_weight=0.1)
        >>> distiller.compile("adam")
        >>> ids, zeros = ops.convert_to_tensor([[1, 5, 7, 2]]), ops.zeros((1, 4), "int32")
        >>> inputs = {"ids": ids, "mask": ops.ones_like(ids), "segment_ids": zeros}
        >>> targets = {"label": ops.convert_to_tensor([1])}
        >>> targets["teacher_logits"] = ops.convert_to_tensor([[-1.0, 1.0]])
        >>> sorted(distiller.fit(inputs, targets, verbose=0).history)
        ['loss', 'soft_label_loss', 'student_loss']

    Args:
        teacher: a Keras model that returns logits or a dictionary with `logits`; None if the
            targets have its outputs. It is frozen.
        student: a Keras model that returns logits, float [batch, width].
        distillation_losses: one or more losses with different names.
        distillation_loss_weights: a weight for each loss; None for 1.
        student_loss_weight: weight from 0 (soft labels only) to 1 (hard labels only).
        schedule_steps: training steps that the schedules span; needed if there are any.
        adaptive_weights: learn a log variance s for each term. In training a loss L then counts as
            exp(-s) L + s / 2, times its weight, so that terms that stay large count less (Kendall,
            Gal, Cipolla 2017, arXiv 1705.07115).
        prompt: runs the student in training, with virtual tokens.
        task: task of the labels and logits; None for classification.
        name: name of the model.

    Raises:
        KdedgeError: an invalid argument.
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
        prompt: PromptLayer | None = None,
        task: Task | None = None,
        name: str = "distiller",
        **kwargs: Any,
    ) -> None:
        # Keras's own constructor needs a live teacher with the same inputs as the student.
        keras.Model.__init__(self, name=name, **kwargs)
        losses = (
            [distillation_losses]
            if isinstance(distillation_losses, keras.distillation.DistillationLoss)
            else list(distillation_losses)
        )
        weights = list(distillation_loss_weights or [1.0] * len(losses))
        _validate(teacher, student, losses, weights, student_loss_weight, schedule_steps, prompt)
        if isinstance(task, MultiLabel | Regression) and SoftLabelLoss in map(type, losses):
            raise KdedgeError(
                "distillation_losses: SoftLabelLoss is for one label for each text. For "
                f"{task.name}: kdedge.objectives.objective_of(task).soft_label_loss(temperature)."
            )
        self.teacher = teacher
        self.student = student
        self.distillation_losses = losses
        self.distillation_loss_weights = weights
        self.student_loss_weight = student_loss_weight
        self.schedule_steps = schedule_steps
        self.adaptive_weights = adaptive_weights
        self.prompt, self.task, self.objective = prompt, task, objective_of(task)
        parts = Parts(student)
        if prompt is not None:
            prompt.attach(parts, losses)
        taps = {loss.name: tap for loss in losses if (tap := loss.tap(parts)) is not None}
        self._adapters = {
            loss.name: adapter for loss in losses if (adapter := loss.adapter(parts)) is not None
        }
        for name, adapter in self._adapters.items():
            # Called once, so that adapters that are layers create their weights.
            adapter(taps.get(name, parts.logits))
        # One pass of the student gives its logits and all outputs that losses need.
        self.symbolic_outputs = {"logits": parts.logits, **taps} if parts.functional else {}
        self._student_with_taps = (
            keras.Model(student.inputs, self.symbolic_outputs) if taps else None
        )
        if adaptive_weights:
            self.log_variances = self.add_weight(
                shape=(1 + len(losses),), initializer="zeros", name="log_variances"
            )
        if teacher is not None:
            teacher.trainable = False
        self.loss_means = {
            name: keras.metrics.Mean(name=name)
            for name in ["student_loss", *(loss.name for loss in losses)]
        }

    def compile(
        self, optimizer: Any = "adam", loss: Any = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Configure training, as in Keras; `loss` gets logits.

        Args:
            optimizer: as in Keras.
            loss: loss on labels and the student's logits; None for the task's.
            metrics: metrics of labels and the student's logits, over the examples with labels.
            **kwargs: as in Keras.

        Raises:
            KdedgeError: a loss that would read the logits as probabilities.
        """
        if loss is None:
            loss = self.objective.label_loss()
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
        """The student's logits; with losses that look inside, a dictionary of `logits` and more."""
        student = self._student_with_taps or self.student
        if self.prompt is None or not training:
            return student(inputs, training=training, **kwargs)
        inputs, teacher = _split_batch(inputs)
        return self.prompt.run(Parts(student), inputs, teacher, self._done(training))

    def train_step(self, data: Any) -> Any:
        """As Keras's, after the losses' own `before_step`."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        for loss in self.distillation_losses:
            loss.before_step(x)
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
        inputs, teacher = _split_batch(x)
        if teacher is None:
            teacher = self._teacher_outputs(inputs, y)
        logits = student["logits"]
        weight = _example_weights(sample_weight, logits)
        done = self._done(training)
        mask = inputs.get("mask") if isinstance(inputs, dict) else None
        soft_share = 1 - value_at(self.student_loss_weight, done)

        hard = 0.0
        if (batch_labels := _labels(y)) is not None:
            labels, labelled = self.objective.labels(batch_labels)
            own_weight = weight * labelled
            # `call`, because calling the object would give the mean over the batch.
            values = self._student_loss.call(labels, logits)
            hard = ops.mean(values * own_weight)
            self.loss_means["student_loss"].update_state(values, own_weight)
        terms = [(value_at(self.student_loss_weight, done), hard)]
        for loss, factor in zip(
            self.distillation_losses, self.distillation_loss_weights, strict=True
        ):
            if loss.training_only and not training:
                continue
            target, output = teacher[loss.teacher_output], student.get(loss.name, logits)
            if loss.name in self._adapters:
                output = self._adapters[loss.name](output)
            loss.validate_outputs(target, output)
            values = loss.compute_loss(target, output, done=done, mask=mask, inputs=inputs)
            own_weight = weight[loss.rows]
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
        # With several devices, the gradients of all devices are added.
        return total / tf.distribute.get_strategy().num_replicas_in_sync

    def _done(self, training: bool) -> Any:
        if self.schedule_steps is None or not training:
            return 1.0
        return ops.minimum(ops.cast(self.optimizer.iterations, "float32") / self.schedule_steps, 1)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """As Keras's, over the examples that have labels."""
        if (batch_labels := _labels(y)) is not None:
            logits = self._named(y_pred)["logits"]
            labels, labelled = self.objective.labels(batch_labels)
            weight = _example_weights(sample_weight, logits) * labelled
            return dict(super().compute_metrics(x, labels, logits, weight))
        return dict(self.get_metrics_result())

    def _named(self, outputs: Any) -> dict[str, Any]:
        return outputs if isinstance(outputs, dict) else {"logits": outputs}

    def _teacher_outputs(self, x: Any, y: Any) -> dict[str, Any]:
        if self.teacher is not None:
            outputs = self._named(self.teacher(x, training=False))
        elif isinstance(y, dict):
            prefix = "teacher_"
            outputs = {k.removeprefix(prefix): v for k, v in y.items() if k.startswith(prefix)}
        else:
            outputs = {}
        # Outputs with a tensor for each layer are addressed as NAME_LAYER.
        for name, value in list(outputs.items()):
            if isinstance(value, tuple | list):
                outputs |= {f"{name}_{i}": layer for i, layer in enumerate(value)}
        for loss in self.distillation_losses:
            if loss.teacher_output not in outputs:
                raise KdedgeError(
                    f"{loss.name} needs the teacher's {loss.teacher_output}, which is missing. "
                    + (
                        f"This teacher returns: {', '.join(outputs)}."
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
            "task": None if self.task is None else self.task.model_dump(mode="json"),
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
                "task": None if config.get("task") is None else read_task(config["task"]),
            }
        )

    def reset_metrics(self) -> None:
        """Reset all metrics."""
        keras.Model.reset_metrics(self)


def _split_batch(x: Any) -> tuple[Any, Any]:
    """Split a batch into the inputs, and the teacher's outputs if `train_step` added them."""
    if not isinstance(x, dict) or "teacher" not in x:
        return x, None
    return {name: value for name, value in x.items() if name != "teacher"}, x["teacher"]


def _example_weights(sample_weight: Any, logits: Any) -> Any:
    """float32 [batch]; Keras repeats sample weights for each part of a dictionary of targets."""
    if sample_weight is None:
        return ops.ones(ops.shape(logits)[:1])
    return ops.reshape(ops.cast(keras.tree.flatten(sample_weight)[0], "float32"), (-1,))


def _labels(y: Any) -> Any:
    return y.get("label") if isinstance(y, dict) else y


def _validate(
    teacher: Any,
    student: Any,
    losses: list[Any],
    weights: Sequence[float | Schedule],
    student_loss_weight: float | Schedule,
    schedule_steps: int | None,
    prompt: PromptLayer | None,
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
                "which gives a value per example, so that sample weights can be respected."
            )
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
    parts = [*losses, *([] if prompt is None else [prompt])]
    scheduled = [student_loss_weight, *weights, *(v for part in parts for v in vars(part).values())]
    if schedule_steps is None and any(isinstance(value, Schedule) for value in scheduled):
        raise KdedgeError("schedule_steps: None; schedules need the number of training steps.")
    if schedule_steps is not None and schedule_steps < 1:
        raise KdedgeError(f"schedule_steps: {schedule_steps}; at least 1.")
