"""The distillation stage: trains a student on stored soft labels and saves it."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kdedge.distill.adversaries.adversary import Context
from kdedge.distill.distiller import Distiller
from kdedge.distill.examples import Examples
from kdedge.distill.plan import Plan, plan_of
from kdedge.distill.prompts import PROMPTS
from kdedge.distill.terms import (
    STORED,
    adversarial_term,
    load_beside,
    needs_teacher,
    number_or_schedule,
    terms_of,
)
from kdedge.errors import KdedgeError
from kdedge.labels.store import SoftLabels
from kdedge.objectives import objective_of
from kdedge.objectives.schedules import LearningRate
from kdedge.progress import Advance
from kdedge.recipe import Distill
from kdedge.students.architecture import Request
from kdedge.students.initial import set_token_embeddings
from kdedge.students.presets import built
from kdedge.students.trained import Evaluation, Student, measures, predict_logits
from kdedge.teachers.bert import BertTeacher
from kdedge.text.corpus import Corpus
from kdedge.text.encoder import TextEncoder
from kdedge.text.familiarity import familiarity_of
from kdedge.text.splits import Split
from kdedge.training.averaging import MeanOfEpochs
from kdedge.training.resumable import Resumable, lowest, remove_checkpoints

EVALUATION_BATCH = 256


def distill_student(
    corpus: Corpus,
    store: SoftLabels,
    encoder: TextEncoder,
    settings: Distill,
    out: Path,
    seed: int,
    teacher: Path | None = None,
) -> Student:
    """Train a student on all soft labels of the store except those of valid and test texts.

    Keeps the mean of the epochs' weights that has the lowest loss on the valid split. A run that
    was stopped continues after its last finished epoch and ends with the same result.

    Args:
        corpus: labels, and the valid and test splits.
        store: soft labels of at least the training and valid texts.
        encoder: text encoder of the store.
        settings: the recipe's section `distill`.
        out: folder of the new student.
        seed: seed of weights, order and dropout.
        teacher: folder of the teacher, for presets and settings that need a live teacher.

    Raises:
        KdedgeError: the parts don't fit together, or `out` exists.
    """
    if out.exists():
        raise KdedgeError(f"{out} exists already. Remove it or name another folder.")
    plan = plan_of(corpus, store, encoder, settings, seed, teacher)
    settings = plan.settings
    keras.utils.set_random_seed(seed)
    live = load_beside(plan.teacher, settings) if plan.teacher else None
    model = _untrained(plan, live)
    plan.require_space(out, model.count_params())
    training = Resumable(out, plan.fingerprint)
    examples = Examples(plan, training.folder)
    with plan.strategy.scope():
        distiller = _distiller(plan, model, examples, live if needs_teacher(settings) else None)
    _train(training, distiller, examples, plan.settings.epochs)
    student = _trained(plan, model, training.history)
    student.save(out)
    remove_checkpoints(out)
    return student


def _untrained(plan: Plan, teacher: BertTeacher | None) -> keras.Model:
    """The student that the settings name, with weights from the teacher where it takes some."""
    settings, corpus = plan.settings, plan.corpus
    with plan.strategy.scope():
        model = built(
            plan.preset,
            Request(
                corpus.task,
                len(plan.teacher_ids),
                settings.max_length,
                teacher,
                corpus,
                plan.teacher_ids,
                plan.seed,
                corpus.has_pairs,
            ),
        )
    if settings.from_teacher and not plan.preset.needs_teacher:
        vectors = plan.store.token_vectors()
        assert vectors is not None  # checked by plan_of
        set_token_embeddings(model, vectors[list(plan.teacher_ids)])
    if into := PROMPTS[settings.prompt].into:
        with plan.strategy.scope():
            model = into(model, settings)
    return model


def _distiller(
    plan: Plan, model: keras.Model, examples: Examples, teacher: BertTeacher | None
) -> Distiller:
    """The student's losses, their weights and the optimizer, as the settings say."""
    settings, task = plan.settings, plan.corpus.task
    steps = examples.steps * settings.epochs
    width = None if examples.pooled is None else examples.pooled.shape[1]
    terms = terms_of(settings, model, task, width, teacher)
    terms += adversarial_term(
        settings, Context(model, task, plan.store, plan.encoder, teacher, plan.seed)
    )
    losses = [loss for loss, _ in terms]
    prompt = PROMPTS[settings.prompt].beside
    hard_end = None if settings.alpha_end is None else 1 - settings.alpha_end
    distiller = Distiller(
        # If only the adversary needs the teacher, the losses use the stored soft labels.
        teacher if any(loss.teacher_output not in STORED for loss in losses) else None,
        model,
        losses,
        [weight for _, weight in terms],
        number_or_schedule(1 - settings.alpha, hard_end, settings.schedule),
        schedule_steps=steps,
        adaptive_weights=settings.adaptive_weights,
        prompt=prompt(settings, task, plan.seed) if prompt else None,
        task=task,
    )
    rate = LearningRate(
        settings.learning_rate or plan.preset.learning_rate,
        steps,
        min(round(settings.warmup_fraction * steps), steps - 1),
        settings.learning_rate_decay,
    )
    distiller.compile(
        keras.optimizers.Adam(rate, clipnorm=1.0), metrics=objective_of(task).metrics()
    )
    distiller.optimizer.build(distiller.trainable_variables)
    return distiller


def _train(training: Resumable, distiller: Distiller, examples: Examples, epochs: int) -> None:
    """Train to the end and leave in the student the best of its means over the epochs."""
    weights = [weight.value for weight in distiller.student.weights]
    mean = MeanOfEpochs([weight for weight in weights if weight.dtype.is_floating])
    state = {"changed": _changed_by_a_step(distiller), "mean": mean}
    training.track(state, mean.values, lowest("val_loss"))
    inputs, targets = examples.valid()
    with training.progress("distilling the student", examples.steps, epochs) as advance:
        for epoch in training.epochs_left(epochs):
            learned = distiller.fit(
                examples.epoch(epoch),
                initial_epoch=epoch,
                epochs=epoch + 1,
                steps_per_epoch=examples.steps,
                shuffle=False,
                verbose=0,
                callbacks=[_report(advance, epoch)],
            ).history
            mean.add(epoch + 1)
            with mean.in_place():
                valid = distiller.evaluate(
                    inputs, targets, batch_size=EVALUATION_BATCH, verbose=0, return_dict=True
                )
            training.end_epoch(
                {name: float(values[0]) for name, values in learned.items()}
                | {f"val_{name}": float(value) for name, value in valid.items()}
            )
    training.restore_best()
    mean.put()


def _report(advance: Advance, epoch: int) -> keras.callbacks.Callback:
    def report(batch: int, logs: dict[str, float]) -> None:
        advance(1, f"epoch {epoch + 1}, loss {logs['loss']:.3f}")

    return keras.callbacks.LambdaCallback(on_train_batch_end=report)


def _changed_by_a_step(distiller: Distiller) -> list[tf.Variable]:
    """All variables that a training step changes; the teacher's are not among them."""
    variables: list[Any] = [*distiller.variables, *distiller.optimizer.variables]
    for loss in distiller.distillation_losses:
        variables += loss.variables
    return [variable.value for variable in variables]


def _trained(plan: Plan, model: keras.Model, history: list[dict[str, float]]) -> Student:
    """The trained student with its measurements."""
    store, task = plan.store, plan.corpus.task

    def evaluated(split: Split) -> Evaluation:
        logits = predict_logits(model, plan.encoder, split.texts)
        teacher = None if store.missing(split.texts) else store.lookup(split.texts)[0]
        return Evaluation(split.texts, split.labels, logits, teacher)

    valid, test = evaluated(plan.corpus.valid), evaluated(plan.corpus.test)
    task = task.tuned(task.outputs(valid.logits), valid.labels)
    notes = {
        "preset": plan.preset.name,
        "seed": plan.seed,
        "settings": plan.settings.model_dump(),
        "teacher": store.teacher,
        "transfer_texts": len(plan.transfer),
        "parameters": model.count_params(),
        "vocabulary": len(plan.teacher_ids),
        "history": history,
        **measures(task, test, valid),
    }
    familiarity = familiarity_of(plan.encoder, plan.corpus)
    return Student(model, plan.encoder, task, valid, test, notes, familiarity)
