"""Fine-tuning a pretrained BERT on a corpus. Devlin et al. 2018, arXiv 1810.04805."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from kdedge.errors import KdedgeError
from kdedge.files import new_folder, require_space, write_text
from kdedge.memory import keep_freed_memory
from kdedge.progress import progress
from kdedge.recipe import Teach, fingerprint
from kdedge.teachers.bert import BertTeacher, load_teacher, write_notes
from kdedge.teachers.label import run_teacher
from kdedge.text.batches import shuffled_batches
from kdedge.text.corpus import Corpus
from kdedge.training.resumable import STATE, read_state, restore

SECONDS_BETWEEN_CHECKPOINTS = 45.0


def finetune(corpus: Corpus, settings: Teach, out: Path, seed: int) -> BertTeacher:
    """Fine-tune `settings.pretrained` and write the epoch that did best on the valid split.

    Adam with linear warm-up and decay and gradients clipped by their global norm. Goes on from the
    last checkpoint of an interrupted run, with the same result as an undisturbed one.

    Raises:
        KdedgeError: the pretrained model can't be used, `out` exists, or the disk is full.
    """
    if out.exists():
        raise KdedgeError(f"{out} exists already. Remove it or name another folder.")
    keep_freed_memory()
    if tf.config.list_physical_devices("GPU"):
        tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    tf_keras.utils.set_random_seed(seed)
    teacher = load_teacher(settings.pretrained, task=corpus.task, max_length=settings.max_length)
    teacher.task = corpus.task
    # Weights, two moments, the best epoch so far and the old checkpoint while a new one is written.
    require_space(out.parent, 8 * 4 * teacher.transformer.count_params())
    job = fingerprint(settings, teacher.fingerprint, corpus.fingerprint(), str(seed))
    history = _Training(teacher, corpus, settings, seed, out, job).run()
    with new_folder(out) as folder:
        teacher.save_pretrained(folder)
        write_notes(folder, {"history": history, "seed": seed, "settings": settings.model_dump()})
    shutil.rmtree(_checkpoints(out), ignore_errors=True)
    return load_teacher(out)


class Adam(tf.Module):
    """Adam, arXiv 1412.6980, by TensorFlow's own kernel.

    tf_keras's spends as long on a BERT's gradients as a quarter of everything else in a step.

    Args:
        variables: to train.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7

    def __init__(self, variables: Sequence[Any]) -> None:
        super().__init__()
        self.variables_to_train = tuple(variables)
        self.m, self.v = (
            [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables] for _ in range(2)
        )

    def apply(self, gradients: Sequence[Any], rate: Any, step: Any) -> None:
        """Change the variables.

        Args:
            gradients: one a variable; None for a variable that stays as it is.
            rate: learning rate, a scalar tensor.
            step: number of steps before this one, a float scalar tensor.
        """
        powers = (self.BETA1 ** (step + 1), self.BETA2 ** (step + 1))
        for gradient, variable, m, v in zip(
            gradients, self.variables_to_train, self.m, self.v, strict=True
        ):
            if gradient is not None:
                tf.raw_ops.ResourceApplyAdam(
                    var=variable.handle,
                    m=m.handle,
                    v=v.handle,
                    beta1_power=powers[0],
                    beta2_power=powers[1],
                    lr=rate,
                    beta1=self.BETA1,
                    beta2=self.BETA2,
                    epsilon=self.EPSILON,
                    # The word embeddings' gradient is sparse.
                    grad=tf.convert_to_tensor(gradient),
                )


class _Training:
    def __init__(
        self, teacher: BertTeacher, corpus: Corpus, settings: Teach, seed: int, out: Path, job: str
    ) -> None:
        self.teacher, self.corpus, self.settings, self.seed = teacher, corpus, settings, seed
        self.rows = teacher.encoder.token_ids(corpus.train.texts)
        self.steps_an_epoch = -(-len(self.rows) // settings.batch_size)
        self.steps = self.steps_an_epoch * settings.epochs
        self.optimizer = Adam(teacher.transformer.trainable_variables)
        # Makes the generators of dropout layers that have not run yet.
        teacher(teacher.encoder.encode(corpus.train.texts[:1]).inputs)
        self.dropouts = [
            layer._random_generator._generator
            for layer in teacher.transformer.submodules
            if isinstance(layer, tf_keras.layers.Dropout)
        ]
        # One graph for batches of any size and length.
        rows = tf.TensorSpec([None, None], tf.int32)
        self.apply = tf.function(
            self._apply,
            input_signature=[
                {"ids": rows, "mask": rows, "segment_ids": rows},
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([], tf.float32),
                tf.TensorSpec([], tf.float32),
            ],
        )
        self.folder = _checkpoints(out)
        self.job = job
        self.state: dict[str, Any] = {"job": job, "step": 0, "loss": 0.0, "history": []}
        checkpoint = tf.train.Checkpoint(model=teacher.transformer, optimizer=self.optimizer)
        self.latest = tf.train.CheckpointManager(checkpoint, self.folder / "latest", 2)
        best = tf.train.Checkpoint(model=teacher.transformer)
        self.best = tf.train.CheckpointManager(best, self.folder / "best", 1)

    def run(self) -> list[dict[str, float]]:
        """Train to the end, leave the best epoch's weights in the teacher, give the history."""
        self._restore()
        state, saved = self.state, time.monotonic()
        with progress("fine-tuning the teacher", self.steps, "steps", state["step"]) as advance:
            while state["step"] < self.steps:
                epoch, first = divmod(state["step"], self.steps_an_epoch)
                for batch in self._batches(epoch, first):
                    state["loss"] += float(self._step(*batch))
                    state["step"] += 1
                    done = state["step"] - epoch * self.steps_an_epoch
                    advance(1, f"epoch {epoch + 1}, loss {state['loss'] / done:.3f}")
                    if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                        self._save()
                        saved = time.monotonic()
                self._end_epoch(epoch)
                self._save()
        restore(self.best.checkpoint, self.best.latest_checkpoint, self.folder).expect_partial()
        return list(state["history"])

    def _batches(self, epoch: int, first: int) -> Iterator[tuple[Any, Any]]:
        """The epoch's batches from number `first` on, each of texts of like length."""
        lengths = [len(row) for row in self.rows]
        size = self.settings.batch_size
        for chosen in shuffled_batches(lengths, size, [self.seed, epoch])[first:]:
            encoded = self.teacher.encoder.encode([self.corpus.train.texts[i] for i in chosen])
            yield encoded.inputs, self.corpus.train.labels[chosen]

    def _step(self, inputs: Any, labels: Any) -> Any:
        step = self.state["step"]
        warmup = max(1, round(self.settings.warmup_fraction * self.steps))
        scale = min((step + 1) / warmup, (self.steps - step) / max(1, self.steps - warmup))
        for number, generator in enumerate(self.dropouts):
            generator.reset_from_seed([self.seed, step, number])
        return self.apply(inputs, labels, self.settings.learning_rate * scale, float(step))

    def _apply(self, inputs: Any, labels: Any, rate: Any, step: Any) -> Any:
        variables = self.optimizer.variables_to_train
        with tf.GradientTape() as tape:
            logits = self.teacher(inputs, training=True)["logits"]
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
        gradients, _ = tf.clip_by_global_norm(
            tape.gradient(loss, variables), self.settings.clip_norm
        )
        self.optimizer.apply(gradients, rate, step)
        return loss

    def _end_epoch(self, epoch: int) -> None:
        valid = self.corpus.valid
        logits = run_teacher(self.teacher, valid.texts, self.settings.batch_size)["logits"]
        accuracy = float(np.mean(logits.argmax(1) == valid.labels))
        history = self.state["history"]
        if accuracy > max((past["val_accuracy"] for past in history), default=-1.0):
            self.best.save()
        loss = self.state["loss"] / self.steps_an_epoch
        history.append({"epoch": epoch + 1, "loss": loss, "val_accuracy": accuracy})
        self.state["loss"] = 0.0

    def _save(self) -> None:
        path = self.latest.save()
        write_text(self.folder / STATE, json.dumps(self.state | {"checkpoint": path}))

    def _restore(self) -> None:
        state = read_state(self.folder)
        if state and state["job"] == self.job:
            restore(self.latest.checkpoint, state.pop("checkpoint"), self.folder).assert_consumed()
            self.state = state
            return
        shutil.rmtree(self.folder, ignore_errors=True)


def _checkpoints(out: Path) -> Path:
    return out.with_name(f".{out.name}.checkpoints")
