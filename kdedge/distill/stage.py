"""The distillation stage: stored soft labels in, a student's folder out."""

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdedge.distill.adversaries.adversary import AdversarialLoss
from kdedge.distill.distiller import UNLABELLED, Distiller
from kdedge.distill.prompts.soft_label import SoftLabelPrompt
from kdedge.distill.prompts.task import with_task_prompt
from kdedge.distill.terms import adversary_of, losses_of, toward
from kdedge.distill.transfer_set import TokenIds, TransferSet
from kdedge.errors import KdedgeError
from kdedge.files import require_space, write_text
from kdedge.labels.store import SoftLabels
from kdedge.memory import keep_freed_memory
from kdedge.objectives.schedules import LearningRate
from kdedge.progress import Advance, progress
from kdedge.recipe import Distill, fingerprint
from kdedge.students.cut import Importance, taylor_importance
from kdedge.students.initial import set_token_embeddings
from kdedge.students.presets import build_student
from kdedge.students.trained import Evaluation, Student, measures, predict_logits
from kdedge.teachers.bert import BertTeacher, load_teacher
from kdedge.text.augment import some_with_typos
from kdedge.text.batches import shuffled_batches
from kdedge.text.corpus import Corpus
from kdedge.text.encoder import TextEncoder, padded
from kdedge.training.resumable import STATE, read_state, restore

EVALUATION_BATCH = 256
# Of the train split, that say which parts of a teacher count most.
IMPORTANCE_TEXTS = 1024


def distill_student(
    corpus: Corpus,
    store: SoftLabels,
    encoder: TextEncoder,
    settings: Distill,
    out: Path,
    seed: int,
    teacher: Path | None = None,
) -> Student:
    """Train a student on everything in the store but the valid and test texts.

    Keeps the epoch with the lowest loss on the valid split. Goes on from the last whole epoch of
    an interrupted run, with the same result as an undisturbed one.

    Args:
        corpus: gives the labels, and the valid and test splits.
        store: soft labels of at least its training and valid texts.
        encoder: the teacher's.
        settings: of the recipe.
        out: the student's folder, to be made.
        seed: of weights, order and dropout.
        teacher: a teacher's folder, for students that are cut from it and for settings that need
            one beside the student.

    Raises:
        KdedgeError: the parts don't fit together, or `out` exists.
    """
    if out.exists():
        raise KdedgeError(f"{out} exists already. Remove it or name another folder.")
    if store.task != corpus.task:
        raise KdedgeError(
            f"{store.folder}: the soft labels are for {store.task}, the data has {corpus.task}."
        )
    if settings.max_length > encoder.max_length:
        raise KdedgeError(
            f"distill.max_length is {settings.max_length}, more than the teacher's "
            f"{encoder.max_length} (teach.max_length)."
        )
    if settings.needs_teacher and teacher is None:
        raise KdedgeError(
            "teacher: None; hidden_weight, attention_weight and adversary need one that runs "
            "beside the student: --teacher DIR."
        )
    if settings.devices > len(corpus.valid):
        raise KdedgeError(
            f"distill.devices: {settings.devices}; each takes a part of the valid split, which has "
            f"{len(corpus.valid)} texts."
        )
    transfer = TransferSet(store, {*corpus.valid.texts, *corpus.test.texts})
    encoder = TextEncoder(encoder.tokenizer, settings.max_length)
    kept = list(range(len(encoder.vocabulary)))
    if settings.most_pieces < len(kept):
        if settings.needs_teacher:
            raise KdedgeError(
                f"distill.vocabulary: {settings.most_pieces} gives the student word pieces of its "
                "own; hidden_weight, attention_weight and this adversary need all of the "
                f"teacher's: set vocabulary = {len(kept)}."
            )
        encoder, kept = encoder.pruned(transfer, min_count=0, most=settings.most_pieces)
    strategy = _strategy(settings.devices)
    keras.utils.set_random_seed(seed)
    live = (
        load_teacher(
            teacher,
            with_hidden_states=settings.hidden_weight > 0,
            with_attentions=settings.attention_weight > 0,
        )
        if teacher
        else None
    )
    cut = settings.student == "mini-cut"
    importance = _importance(live, corpus, seed) if live and cut else None
    with strategy.scope():
        model = build_student(
            settings.student,
            vocabulary=len(kept),
            classes=corpus.task.width,
            max_length=settings.max_length,
            transformer=live.transformer if live else None,
            importance=importance,
            kept=kept,
        )
    vectors = store.token_vectors()
    if settings.from_teacher and not cut:
        if vectors is None:
            raise KdedgeError(
                f"{store.folder}: no token vectors of a teacher to start the student from. "
                "Set from_teacher = false in the recipe's [distill] section."
            )
        set_token_embeddings(model, vectors[kept])
    if settings.prompt == "task":
        with strategy.scope():
            model = with_task_prompt(model, settings.prompt_tokens)
    # An epoch's are written before the last one's are gone.
    token_ids = len(transfer.rows) * settings.max_length * (2 if settings.typos else 1)
    require_space(out.parent, 4 * (6 * model.count_params() + token_ids))
    job = fingerprint(settings, store.teacher, corpus.fingerprint(), str(len(store)), str(seed))
    beside = live if settings.needs_teacher else None
    with strategy.scope():
        training = _Training(model, corpus, transfer, encoder, settings, out, seed, job, beside)
    history = training.run()

    valid, test = (
        Evaluation(
            split.texts,
            split.labels,
            predict_logits(model, encoder, split.texts),
            None if store.missing(split.texts) else store.lookup(split.texts)[0],
        )
        for split in (corpus.valid, corpus.test)
    )
    notes = {
        "preset": settings.student,
        "seed": seed,
        "settings": settings.model_dump(),
        "teacher": store.teacher,
        "transfer_texts": len(transfer.rows),
        "parameters": model.count_params(),
        "vocabulary": len(kept),
        "history": history,
        **measures(corpus.task, test),
    }
    student = Student(model, encoder, corpus.task, valid, test, notes)
    student.save(out)
    shutil.rmtree(training.folder, ignore_errors=True)
    return student


class _Training:
    def __init__(
        self,
        model: keras.Model,
        corpus: Corpus,
        transfer: TransferSet,
        encoder: TextEncoder,
        settings: Distill,
        out: Path,
        seed: int,
        job: str,
        teacher: BertTeacher | None,
    ) -> None:
        store = transfer.store
        labels = np.full(len(store), UNLABELLED, np.int32)
        labels[store.rows(corpus.train.texts)] = corpus.train.labels
        self.labels = labels[transfer.rows]
        self.folder = out.with_name(f".{out.name}.checkpoints")
        left = read_state(self.folder)
        self.stopped = left if left and left["job"] == job else None
        if not self.stopped:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.transfer, self.encoder = transfer, encoder
        self.ids = self._token_ids(transfer)
        self.logits, self.pooled = store.at(transfer.rows, self.folder / "pooled.npy")
        self.settings, self.seed, self.job = settings, seed, job
        # Each device must have a part of every batch, of the last one too.
        size = len(corpus.valid) // settings.devices * settings.devices
        self.valid = (encoder.encode(corpus.valid.texts[:size]), corpus.valid.labels[:size])
        self.valid_soft = store.lookup(corpus.valid.texts[:size])

        losses = losses_of(settings, model, self.pooled, teacher)
        if settings.adversary != "none":
            adversary = adversary_of(settings, model, store, encoder, teacher, seed)
            loss = AdversarialLoss(adversary, settings.adversarial_every)
            losses.append((loss, settings.adversarial_weight))
        if "feature_loss" not in [loss.name for loss, _ in losses]:
            self.pooled = None
        self.steps = -(-len(self.ids) // settings.batch_size)
        steps = self.steps * settings.epochs
        self.distiller = Distiller(
            # Where it is the adversary that needs the teacher, what is stored is enough.
            teacher if settings.matches_layers else None,
            model,
            [loss for loss, _ in losses],
            [weight for _, weight in losses],
            toward(
                1 - settings.alpha,
                None if settings.alpha_end is None else 1 - settings.alpha_end,
                settings.schedule,
            ),
            schedule_steps=steps,
            adaptive_weights=settings.adaptive_weights,
            prompt=SoftLabelPrompt(self.logits.shape[1], settings.prompt_tokens, seed=seed)
            if settings.prompt == "soft-label"
            else None,
        )
        rate = LearningRate(
            settings.highest_rate,
            steps,
            min(round(settings.warmup_fraction * steps), steps - 1),
            settings.learning_rate_decay,
        )
        self.distiller.compile(keras.optimizers.Adam(rate, clipnorm=1.0), metrics=["accuracy"])
        self.distiller.optimizer.build(self.distiller.trainable_variables)
        # All that a step changes; the teacher, which is not the Distiller's own, is not in it.
        state = [*self.distiller.variables, *self.distiller.optimizer.variables]
        for loss, _ in losses:
            state += loss.adversary.variables if loss.adversary else ()
        checkpoint = tf.train.Checkpoint(state=[variable.value for variable in state])
        self.latest = tf.train.CheckpointManager(checkpoint, self.folder / "latest", 2)
        self.best = tf.train.CheckpointManager(
            tf.train.Checkpoint(student=model), self.folder / "best", 1
        )

    def run(self) -> list[dict[str, float]]:
        history: list[dict[str, float]] = []
        if self.stopped:
            kept = self.stopped["checkpoint"]
            restore(self.latest.checkpoint, kept, self.folder).assert_consumed()
            history += self.stopped["history"]
        total, done = self.steps * self.settings.epochs, self.steps * len(history)
        with progress("distilling the student", total, "steps", done) as advance:
            for epoch in range(len(history), self.settings.epochs):
                result = self.distiller.fit(
                    self._epoch(epoch),
                    initial_epoch=epoch,
                    epochs=epoch + 1,
                    steps_per_epoch=self.steps,
                    shuffle=False,
                    verbose=0,
                    callbacks=[_Report(advance, epoch)],
                ).history
                measures = {name: float(values[0]) for name, values in result.items()}
                valid = self.distiller.evaluate(
                    self.valid[0].inputs,
                    self._targets(self.valid[1], *self.valid_soft),
                    batch_size=EVALUATION_BATCH,
                    verbose=0,
                    return_dict=True,
                )
                measures |= {f"val_{name}": float(value) for name, value in valid.items()}
                if measures["val_loss"] < min((h["val_loss"] for h in history), default=np.inf):
                    self.best.save()
                history.append({"epoch": epoch + 1, **measures})
                path = self.latest.save()
                state = {"job": self.job, "checkpoint": path, "history": history}
                write_text(self.folder / STATE, json.dumps(state))
        restore(self.best.checkpoint, self.best.latest_checkpoint, self.folder).expect_partial()
        return history

    def _token_ids(self, texts: Iterable[str]) -> TokenIds:
        return TokenIds(self.encoder, texts, self.folder / "token_ids.int32")

    def _targets(self, labels: Any, logits: Any, pooled: Any) -> dict[str, Any]:
        targets = {"label": labels, "teacher_logits": logits}
        if self.pooled is not None:
            targets["teacher_pooled"] = pooled.astype(np.float32)
        return targets

    def _epoch(self, epoch: int) -> tf.data.Dataset:
        devices, seed = self.settings.devices, [self.seed, epoch]
        if self.settings.typos:
            texts = some_with_typos(self.transfer, self.settings.typos, seed)
            self.ids = self._token_ids(texts)
        chosen = shuffled_batches(self.ids.lengths, self.settings.batch_size, seed)

        def batches() -> Iterator[tuple[Any, Any]]:
            # On Python 3.11 TensorFlow asks for the contrary when it makes a dataset of a generator
            # (ApplyPython311MemoryPatch), before the generator runs.
            keep_freed_memory()
            for rows in chosen:
                # As many for each device: some of the last batch twice.
                rows = np.resize(rows, -(-len(rows) // devices) * devices)
                inputs = padded([self.ids.of(i) for i in rows.tolist()]).inputs
                pooled = None if self.pooled is None else self.pooled[rows]
                yield inputs, self._targets(self.labels[rows], self.logits[rows], pooled)

        signature = tf.nest.map_structure(
            lambda array: tf.TensorSpec([None, *([None] * (array.ndim - 1))], array.dtype),
            next(batches()),
        )
        for name, spec in signature[1].items():
            if name != "label":
                width = self.logits.shape[1] if name == "teacher_logits" else self.pooled.shape[1]  # type: ignore[union-attr]
                signature[1][name] = tf.TensorSpec([None, width], spec.dtype)
        return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(8)


def _importance(teacher: BertTeacher, corpus: Corpus, seed: int) -> Importance:
    train = corpus.subset(min(IMPORTANCE_TEXTS, len(corpus.train)), None, seed).train
    return taylor_importance(teacher.transformer, teacher.encoder, train.texts, train.labels)


def _strategy(devices: int) -> tf.distribute.Strategy:
    if devices == 1:
        return tf.distribute.get_strategy()
    there = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if devices > len(there):
        raise KdedgeError(
            f"distill.devices: {devices}; TensorFlow sees {len(there)} here: "
            f"{', '.join(device.name for device in there)}."
        )
    return tf.distribute.MirroredStrategy([device.name for device in there[:devices]])


class _Report(keras.callbacks.Callback):
    def __init__(self, advance: Advance, epoch: int) -> None:
        super().__init__()
        self.advance, self.epoch = advance, epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        loss = (logs or {}).get("loss", float("nan"))
        self.advance(1, f"epoch {self.epoch + 1}, loss {loss:.3f}")
