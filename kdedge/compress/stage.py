"""Compresses students: fewer word pieces, zeros, few distinct weights, or weights fit for int8."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from kdedge.compress.method import Layer, Round, rounds_of
from kdedge.compress.twin import twin_of
from kdedge.errors import KdedgeError
from kdedge.labels.store import SoftLabels
from kdedge.objectives import objective_of
from kdedge.progress import Advance
from kdedge.recipe import Compress, fingerprint
from kdedge.students.trained import Student, measures
from kdedge.tasks import Task
from kdedge.text.batches import shuffled_batches
from kdedge.text.pairs import Text
from kdedge.training.resumable import Resumable, remove_checkpoints

Logits = npt.NDArray[np.float32]


def compress_student(
    student: Student, store: SoftLabels, settings: Compress, out: Path, seed: int
) -> Student:
    """Compress a student by each of `settings.methods` in turn; see `compress`.

    Trains on all texts of the store except the student's valid and test texts. A run that was
    stopped continues after its last finished epoch and ends with the same result.

    Args:
        student: the student; it is not changed. It may have been compressed before.
        store: soft labels.
        settings: settings of the recipe.
        out: folder of the new student.
        seed: seed of the order of the texts and of dropout.

    Raises:
        KdedgeError: student and store don't fit together, tf_keras lacks a layer, or `out` exists.
    """
    if out.exists():
        raise KdedgeError(f"{out} exists already. Remove it or name another folder.")
    if not settings.methods:
        raise KdedgeError("compress.methods: none; name at least one.")
    names, theirs = student.task.output_names, store.task.output_names
    if names != theirs and sorted(names) == sorted(theirs):
        store = store.in_order([theirs.index(name) for name in names], student.task)
    if student.task.with_logits_of(store.task) != student.task:
        raise KdedgeError(
            f"{store.folder}: the soft labels are for {store.task}, the student has "
            f"{student.task}. Use the soft labels that the student was trained on."
        )
    held_out = {*student.valid.texts, *student.test.texts}
    texts = [text for text in store.texts if text not in held_out]
    if not texts:
        raise KdedgeError(f"{store.folder}: no texts but the student's own valid and test texts.")
    logits, _ = store.lookup(texts)
    key = fingerprint(settings, student.fingerprint(), store.teacher, str(len(store)), str(seed))
    smaller = student
    for number, method in enumerate(settings.methods):
        trainings = [
            Resumable(out, key, f"{number}-{method}-{i}") for i in range(len(rounds_of(method)))
        ]
        smaller = _compressed(smaller, method, texts, logits, settings, seed, trainings)
    smaller.save(out)
    remove_checkpoints(out)
    return smaller


def compress(
    student: Student,
    method: str,
    texts: Sequence[Text],
    teacher_logits: Logits,
    settings: Compress,
    seed: int,
) -> Student:
    """Compress a student by one method and fine-tune it on a teacher's soft labels.

    - `vocabulary`: removes word pieces that occur less than `min_count` times in `texts`.
    - `pruning`: sets the smallest weights of each layer to 0, up to the share `sparsity` (Zhu,
      Gupta 2017, arXiv 1710.01878).
    - `clustering`: gives each layer at most `clusters` distinct weights (Han, Mao, Dally 2015,
      arXiv 1510.00149).
    - `pruning-clustering`: both, one after the other, `epochs` each; zeros stay zeros.
    - `quantization-aware`: rounds weights and activations to int8 while training; the weights stay
      at values that int8 can represent (Jacob et al. 2017, arXiv 1712.05877).

    Zeros and few distinct weights make the download smaller, which is compressed, but not the file.
    A student can be compressed several times: `vocabulary` first, `quantization-aware` last, and
    not after clustering, whose few values it does not keep.
    Equal seeds give equal students on the same machine.

    Args:
        student: the student; it is not changed. It may have been compressed before.
        method: one of the above.
        texts: training texts; the student's valid and test texts are left out.
        teacher_logits: float32 [texts, width].
        settings: settings of the recipe; `methods` is ignored.
        seed: seed of the order of the texts and of dropout.

    Returns:
        The new student, evaluated on its valid and test splits. `compression` in its notes has the
        method and settings, the task's metric before and after, the layers that were left out, and
        the share of zeros and the number of distinct values of each weight.

    Raises:
        KdedgeError: unknown method, no texts, logits that don't fit, a layer that tf_keras lacks.
    """
    rounds = rounds_of(method)
    shape = (len(texts), student.task.width)
    if teacher_logits.shape != shape or not np.isfinite(teacher_logits).all():
        raise KdedgeError(
            f"teacher_logits: shape {teacher_logits.shape}; finite numbers of shape {shape} "
            "are needed."
        )
    held_out = {*student.valid.texts, *student.test.texts}
    learned = [i for i, text in enumerate(texts) if text not in held_out]
    if not learned:
        raise KdedgeError(
            "texts: none but the student's own valid and test texts; a compressed student is "
            "fine-tuned on others."
        )
    with tempfile.TemporaryDirectory() as folder:
        trainings = [Resumable(Path(folder) / "student", "", str(i)) for i in range(len(rounds))]
        return _compressed(
            student,
            method,
            [texts[i] for i in learned],
            teacher_logits[learned],
            settings,
            seed,
            trainings,
        )


def _compressed(
    student: Student,
    method: str,
    texts: Sequence[Text],
    logits: Logits,
    settings: Compress,
    seed: int,
    trainings: Sequence[Resumable],
) -> Student:
    """The student after all rounds of a method; each round is a separate training."""
    # Dropout's state is then a variable, which checkpoints hold, whatever the process did before.
    tf_keras.backend.experimental.enable_tf_random_generator()
    rounds = rounds_of(method)
    layers = [layer for layer in twin_of(student.model).layers if layer.weights]
    prepared = student
    for a_round in rounds:
        prepared = a_round.prepare(prepared, texts, settings)
    model = prepared.model
    learned = _Texts(prepared, texts, logits, settings.batch_size, seed)
    tf_keras.utils.set_random_seed(seed)
    for number, training in enumerate(trainings):
        title = f"compressing by {method}"
        model = _fine_tuned(model, rounds[number], number, learned, settings, training, title)

    smaller = prepared.with_model(model)
    done = {
        "method": method,
        "settings": settings.model_dump(exclude={"methods"}),
        "seed": seed,
        "transfer_texts": len(texts),
        **_scores(student, smaller),
        "left_out": [layer.name for layer in layers if not any(r.reaches(layer) for r in rounds)],
        "weights": _shares(model),
    }
    before = student.notes.get("compression", [])
    return replace(smaller, notes={**smaller.notes, "compression": [*before, done]})


def _fine_tuned(
    model: keras.Model,
    a_round: Round,
    number: int,
    texts: "_Texts",
    settings: Compress,
    training: Resumable,
    title: str,
) -> keras.Model:
    """A copy of the model, fine-tuned while its layers are wrapped; `number` is the round's."""
    twin = twin_of(model)
    # Listed now: a wrapper hides the variables of its layer.
    variables = {layer.name: list(layer.weights) for layer in twin.layers}
    steps = texts.steps * settings.epochs

    def wrap(layer: Layer) -> Layer:
        return a_round.wrap(layer, settings, steps) if a_round.reaches(layer) else layer

    wrapped = tf_keras.models.clone_model(twin, clone_function=wrap)
    schedule = tf_keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)
    wrapped.compile(
        tf_keras.optimizers.Adam(schedule, clipnorm=1.0),
        soft_label_loss(texts.task, settings.temperature),
    )
    wrapped.optimizer.build(wrapped.trainable_variables)
    training.track(_changed_by_a_step(wrapped, variables))
    with training.progress(title, texts.steps, settings.epochs) as advance:
        for epoch in training.epochs_left(settings.epochs):
            learned = wrapped.fit(
                texts.epoch(number * settings.epochs + epoch),
                initial_epoch=epoch,
                epochs=epoch + 1,
                shuffle=False,
                verbose=0,
                callbacks=[tfmot.sparsity.keras.UpdatePruningStep(), _report(advance, epoch)],
            ).history
            training.end_epoch({"loss": float(learned["loss"][0])})
    for layer in wrapped.layers:
        a_round.write_back(layer)
    tuned = keras.models.clone_model(model)
    for layer in tuned.layers:
        # `+ 0.0` turns -0.0, which masks leave, into 0.0: one value less to compress.
        layer.set_weights([variable.numpy() + 0.0 for variable in variables[layer.name]])
    return tuned


def _changed_by_a_step(
    wrapped: tf_keras.Model, variables: dict[str, list[tf.Variable]]
) -> list[tf.Variable]:
    """All variables, including those that wrappers hide, and the state of dropout."""
    changed = [*wrapped.variables, *wrapped.optimizer.variables]
    changed += [variable for of_layer in variables.values() for variable in of_layer]
    changed += [
        layer._random_generator._generator.state
        for layer in wrapped.submodules
        if isinstance(layer, tf_keras.layers.Dropout)
    ]
    return list({id(variable): variable for variable in changed}.values())


def _report(advance: Advance, epoch: int) -> tf_keras.callbacks.Callback:
    def report(batch: int, logs: dict[str, float]) -> None:
        advance(1, f"epoch {epoch + 1}, loss {logs['loss']:.3f}")

    return tf_keras.callbacks.LambdaCallback(on_batch_end=report)


def _scores(*students: Student) -> dict[str, list[float]]:
    """The task's metric of each student, on the valid and test splits."""
    metric = students[0].task.metric
    return {
        f"valid_{metric}": [measures(s.task, s.valid, s.valid)[metric] for s in students],
        metric: [measures(s.task, s.test, s.valid)[metric] for s in students],
    }


def _shares(model: keras.Model) -> dict[str, dict[str, float]]:
    """Share of zeros and number of distinct values of each weight, without biases and norms."""
    return {
        weight.path: {
            "zeros": float(np.mean(weight.numpy() == 0)),
            "distinct": len(np.unique(weight.numpy())),
        }
        for weight in model.weights
        if weight.ndim > 1
    }


class _Texts:
    """The training texts, in batches of similar length."""

    def __init__(
        self, student: Student, texts: Sequence[Text], logits: Logits, size: int, seed: int
    ) -> None:
        self.task, self.encoder = student.task, student.encoder
        self.texts, self.logits = texts, logits
        self.size, self.seed = size, seed
        self.lengths = [len(ids) for ids in self.encoder.token_ids(texts)]
        self.steps = -(-len(texts) // size)

    def epoch(self, number: int) -> tf_keras.utils.Sequence:
        batches = shuffled_batches(self.lengths, self.size, [self.seed, number])
        return _Epoch(self, batches)


class _Epoch(tf_keras.utils.Sequence):
    def __init__(self, texts: _Texts, batches: list[npt.NDArray[np.intp]]) -> None:
        self.texts, self.batches = texts, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> tuple[Any, Logits]:
        rows, of = self.batches[i], self.texts
        return of.encoder.encode([of.texts[j] for j in rows]).inputs, of.logits[rows]


def soft_label_loss(task: Task, temperature: float) -> Callable[[Any, Any], Any]:
    """The task's loss on soft labels, for tf_keras.

    Takes the teacher's and the student's logits, float32 [batch, width]; gives float32 [batch].
    """
    loss = objective_of(task).soft_label_loss(temperature)
    return lambda teacher_logits, logits: loss.compute_loss(teacher_logits, logits)
