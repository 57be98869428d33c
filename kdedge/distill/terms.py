"""Builds the losses that a recipe names, and checks what they need of the teacher."""

from pathlib import Path
from typing import Any

import keras

from kdedge.distill.adversaries import ADVERSARIES
from kdedge.distill.adversaries.adversary import AdversarialLoss, Context
from kdedge.distill.prompts import PROMPTS
from kdedge.errors import KdedgeError
from kdedge.extensions import find, one_of
from kdedge.labels.store import SoftLabels
from kdedge.objectives import LOSSES, objective_of
from kdedge.objectives.losses import AttentionLoss, DistillationLoss, FeatureLoss, HiddenStateLoss
from kdedge.objectives.schedules import Schedule
from kdedge.recipe import Distill
from kdedge.students.architecture import Parts, Preset
from kdedge.students.presets import PRESETS
from kdedge.tasks import TASKS, Task
from kdedge.teachers.bert import BertTeacher, load_teacher
from kdedge.text.decoding import tell_once

Terms = list[tuple[DistillationLoss, float]]

# The teacher's outputs that a store has; others need a live teacher.
STORED = ("logits", "pooled")
ONNX_ONLY = (
    "an ONNX teacher returns logits only. Leave that out, or name the checkpoint that the file was "
    "exported from."
)


def check(settings: Distill, preset: Preset) -> None:
    """Check that everything that the settings name exists and works with the student.

    Raises:
        KdedgeError: it does not.
    """
    if settings.matches_layers and not preset.has_blocks:
        able = " or ".join(name for name, other in PRESETS.items() if other.has_blocks)
        raise KdedgeError(
            "distill: hidden_weight and attention_weight match the layers of a transformer; "
            f"student {settings.student!r} has none: use {able}."
        )
    one_of("distill.prompt", settings.prompt, PROMPTS)
    one_of("distill.adversary", settings.adversary, ADVERSARIES)
    _recipe_losses(settings)


def check_prompts(settings: Distill, task: str, has_pairs: bool) -> None:
    """Check that prompts and adversaries with virtual tokens suit the data.

    Args:
        settings: settings of the distillation.
        task: name of the task.
        has_pairs: whether the texts are pairs.

    Raises:
        KdedgeError: they don't.
    """
    if has_pairs and (settings.prompt != "none" or settings.adversary == "prompt"):
        raise KdedgeError(
            f"distill: prompt = {settings.prompt!r}, adversary = {settings.adversary!r}; virtual "
            "tokens are for single texts, and this data has pairs."
        )
    if settings.prompt == "soft-label" and not TASKS[task].has_confidence:
        raise KdedgeError(
            f"distill.prompt: soft-label needs labels, and {task} has none. Use task or none."
        )


def needs_teacher(settings: Distill) -> bool:
    """Whether the settings need a live teacher in each training step."""
    return bool(that_need_teacher(settings))


def that_need_teacher(settings: Distill) -> list[str]:
    """The settings that need a live teacher in each training step, which reads the same tokens."""
    adversary = ADVERSARIES[settings.adversary]
    needs = {
        "hidden_weight": settings.hidden_weight > 0,
        "attention_weight": settings.attention_weight > 0,
        f"adversary = {settings.adversary!r}": adversary is not None and adversary.needs_teacher,
    }
    losses = zip(settings.losses, _recipe_losses(settings), strict=True)
    return [
        *(name for name, needed in needs.items() if needed),
        *(f"losses: {name}" for name, (loss, _) in losses if loss.teacher_output not in STORED),
    ]


def _that_need_its_parts(settings: Distill, preset: Preset) -> list[str]:
    """The settings that need the teacher's own layers, token ids or outputs beside its logits."""
    student = [f"student = {settings.student!r}"] if preset.needs_teacher else []
    return student + that_need_teacher(settings)


def check_own_vocabulary(settings: Distill, preset: Preset) -> None:
    """Check that a student can have other tokens than its teacher.

    Raises:
        KdedgeError: teacher and student must read the same token ids.
    """
    if named := _that_need_its_parts(settings, preset):
        raise KdedgeError(
            f"distill: {', '.join(named)}: teacher and student would have to read the same tokens. "
            "This teacher's are not BERT's WordPiece, so its student gets word pieces of its own. "
            "Leave that out."
        )


def check_logits_only(settings: Distill, preset: Preset) -> None:
    """Check that a student can learn from logits alone.

    Raises:
        KdedgeError: it needs more of the teacher.
    """
    if named := _that_need_its_parts(settings, preset):
        raise KdedgeError(f"distill: {', '.join(named)}: {ONNX_ONLY}")


def settings_for_store(store: SoftLabels, settings: Distill) -> Distill:
    """The settings, without defaults that need what the soft labels do not have; says so."""
    changed: dict[str, Any] = {}
    if not store.has_features and "feature_weight" not in settings.model_fields_set:
        changed["feature_weight"] = 0.0
    if store.token_vectors() is None and "from_teacher" not in settings.model_fields_set:
        changed["from_teacher"] = False
    for name in changed:
        tell_once(f"{store.folder}: distill.{name} is off: these soft labels are logits only.")
    return settings.model_copy(update=changed)


def needs_pooled(settings: Distill) -> bool:
    """Whether a term needs the teacher's sentence vectors."""
    teacher_outputs = [loss.teacher_output for loss, _ in _recipe_losses(settings)]
    return settings.feature_weight > 0 or "pooled" in teacher_outputs


def load_beside(teacher: Path, settings: Distill) -> BertTeacher:
    """The teacher, with the outputs that the terms need.

    Raises:
        KdedgeError: `teacher` is no teacher's folder.
    """
    teacher_outputs = [loss.teacher_output for loss, _ in _recipe_losses(settings)]

    def asked_for(output: str) -> bool:
        return any(name.startswith(output) for name in teacher_outputs)

    return load_teacher(
        teacher,
        with_hidden_states=settings.hidden_weight > 0 or asked_for("hidden_states"),
        with_attentions=settings.attention_weight > 0 or asked_for("attentions"),
    )


def number_or_schedule(start: float, end: float | None, kind: str) -> float | Schedule:
    """A number, or a schedule from it to `end`."""
    return start if end is None else Schedule(start, end, kind)


def terms_of(
    settings: Distill,
    student: keras.Model,
    task: Task,
    feature_width: int | None,
    teacher: BertTeacher | None,
) -> Terms:
    """The distillation losses with their weights, except the adversary's.

    Args:
        settings: settings of the recipe.
        student: the model in training.
        task: task of its logits.
        feature_width: width of the teacher's sentence vectors, if there are any.
        teacher: live teacher; None if soft labels are enough.
    """
    temperature = number_or_schedule(
        settings.temperature, settings.temperature_end, settings.schedule
    )
    terms: Terms = [(objective_of(task).soft_label_loss(temperature), 1.0)]
    if settings.feature_weight and feature_width:
        terms.append((FeatureLoss(feature_width), settings.feature_weight))
    if teacher is not None and settings.matches_layers:
        terms += _of_layers(settings, student, teacher)
    return terms + _recipe_losses(settings, task)


def adversarial_term(settings: Distill, context: Context) -> Terms:
    """The loss on the adversary's inputs; empty without an adversary.

    Raises:
        KdedgeError: the run lacks something that the adversary needs.
    """
    kind = ADVERSARIES[settings.adversary]
    if kind is None:
        return []
    loss = AdversarialLoss(
        kind.from_settings(settings, context),
        settings.adversarial_every,
        objective_of(context.task).two_sided_loss(),
    )
    return [(loss, settings.adversarial_weight)]


def _of_layers(settings: Distill, student: keras.Model, teacher: BertTeacher) -> Terms:
    shape, blocks = teacher.transformer.shape, Parts(student).blocks
    terms: Terms = []
    for i, block in enumerate(blocks):
        # A last layer that gives only the first token has no states to match.
        if block.output.shape[1] == 1:
            continue
        # Teacher layers at even distances, the last with the last, as in TinyBERT.
        above = (i + 1) * shape.layers // len(blocks)
        if settings.hidden_weight:
            loss = HiddenStateLoss(shape.width, block.last.name, above)
            terms.append((loss, settings.hidden_weight / len(blocks)))
        if settings.attention_weight:
            mean = block.attention.num_heads != shape.heads
            maps = AttentionLoss(block.attention.name, above - 1, mean)
            terms.append((maps, settings.attention_weight / len(blocks)))
    return terms


def _recipe_losses(settings: Distill, task: Task | None = None) -> Terms:
    terms: Terms = []
    for name, weight in settings.losses.items():
        entry = find("distill.losses", name, LOSSES)
        if name in LOSSES:
            loss = entry(objective_of(task))
        else:
            loss = entry() if isinstance(entry, type) else entry
        if not isinstance(loss, DistillationLoss):
            raise KdedgeError(
                f"distill.losses: {name} is a {type(loss).__name__}; a DistillationLoss is needed."
            )
        terms.append((loss, weight))
    return terms
