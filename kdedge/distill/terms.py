"""The terms of the loss that a recipe asks for, and its adversary."""

from typing import Any

import keras

from kdedge.distill.adversaries.adversary import Adversary
from kdedge.distill.adversaries.generator import Generator
from kdedge.distill.adversaries.prompt import AdversarialPrompt
from kdedge.distill.adversaries.substitution import Substitution
from kdedge.errors import KdedgeError
from kdedge.labels.store import SoftLabels
from kdedge.objectives.classification import SoftLabelLoss
from kdedge.objectives.losses import AttentionLoss, DistillationLoss, FeatureLoss, HiddenStateLoss
from kdedge.objectives.schedules import Schedule
from kdedge.recipe import Distill
from kdedge.teachers.bert import BertTeacher
from kdedge.text.encoder import TextEncoder


def toward(start: float, end: float | None, kind: str) -> float | Schedule:
    """A number, or a schedule from it to `end`."""
    return start if end is None else Schedule(start, end, kind)


def losses_of(
    settings: Distill, student: keras.Model, pooled: Any, teacher: BertTeacher | None
) -> list[tuple[DistillationLoss, float]]:
    """The distillation losses with their weights."""
    temperature = toward(settings.temperature, settings.temperature_end, settings.schedule)
    losses: list[tuple[DistillationLoss, float]] = [(SoftLabelLoss(temperature), 1.0)]
    if settings.feature_weight and pooled is not None:
        losses.append((FeatureLoss(pooled.shape[1]), settings.feature_weight))
    if teacher is None or not settings.matches_layers:
        return losses
    config = teacher.transformer.config
    layers = [la for la in student.layers if isinstance(la, keras.layers.MultiHeadAttention)]
    for i, layer in enumerate(layers):
        # A last layer that gives one token has nothing to match: the pooler makes it that.
        if student.get_layer(f"dense_norm_{i}").output.shape[1] == 1:
            continue
        # Of the teacher's layers every so manieth, the last with the last, as in TinyBERT.
        above = (i + 1) * config.num_hidden_layers // len(layers)
        if settings.hidden_weight:
            loss = HiddenStateLoss(config.hidden_size, f"dense_norm_{i}", above)
            losses.append((loss, settings.hidden_weight / len(layers)))
        if settings.attention_weight:
            mean = layer.num_heads != config.num_attention_heads
            losses.append(
                (
                    AttentionLoss(layer.name, above - 1, mean),
                    settings.attention_weight / len(layers),
                )
            )
    return losses


def adversary_of(
    settings: Distill,
    student: keras.Model,
    store: SoftLabels,
    encoder: TextEncoder,
    teacher: BertTeacher | None,
    seed: int,
) -> Adversary:
    """The adversary that the settings name.

    Raises:
        KdedgeError: it needs what the store lacks.
    """
    if settings.adversary == "prompt":
        return AdversarialPrompt(student, settings.prompt_tokens, settings.adversarial_radius)
    vocabulary = encoder.vocabulary
    if settings.adversary == "generator" and teacher:
        share = settings.adversarial_share
        return Generator(student, teacher, vocabulary, masked_share=share, seed=seed)
    vectors = store.token_vectors()
    if vectors is None:
        raise KdedgeError(
            f"{store.folder}: no token vectors of a teacher, by which adversary = "
            '"substitution" finds words.'
        )
    return Substitution(student, vectors, vocabulary, teacher, swaps=settings.adversarial_swaps)
