"""Checks that data, soft labels, settings and teacher fit together, before any long work."""

from dataclasses import dataclass, replace
from pathlib import Path

import tensorflow as tf

from kdedge.defaults import FullDistill, full_distill
from kdedge.distill.terms import (
    check,
    check_own_vocabulary,
    check_prompts,
    needs_teacher,
    that_need_teacher,
)
from kdedge.distill.transfer_set import TransferSet
from kdedge.errors import KdedgeError
from kdedge.files import require_space
from kdedge.labels.store import SoftLabels
from kdedge.recipe import Distill, fingerprint
from kdedge.students.architecture import Preset
from kdedge.students.presets import find_preset
from kdedge.tasks import Regression, Task
from kdedge.text.corpus import Corpus
from kdedge.text.decoding import tell_once
from kdedge.text.encoder import TextEncoder

# Scores of which one deviation is more than this times the other are probably in other units.
MANY_TIMES = 3


@dataclass(frozen=True)
class Plan:
    """The checked parts of a distillation; `plan_of` makes one.

    Attributes:
        corpus: task, labels, and the valid and test splits.
        store: soft labels of at least its training and valid texts.
        transfer: the texts that the student learns from.
        encoder: text encoder of the student.
        teacher_ids: the teacher's id of each of the student's tokens.
        settings: the recipe's section `distill`.
        preset: preset of the student.
        seed: seed of weights, order and dropout.
        teacher: folder of a teacher, or None if soft labels are enough.
        strategy: distributes batches over the devices.
    """

    corpus: Corpus
    store: SoftLabels
    transfer: TransferSet
    encoder: TextEncoder
    teacher_ids: tuple[int, ...]
    settings: FullDistill
    preset: Preset
    seed: int
    teacher: Path | None
    strategy: tf.distribute.Strategy

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the student is made from."""
        of_texts = (self.corpus.fingerprint(), str(len(self.store)))
        return fingerprint(self.settings, self.store.teacher, *of_texts, str(self.seed))

    def require_space(self, out: Path, parameters: int) -> None:
        """Check that the files of the training fit on the disk of `out`.

        Raises:
            KdedgeError: it does not.
        """
        # An epoch's token ids are written before the last one's are gone.
        written = 2 if self.settings.typos else 1
        token_ids = len(self.transfer) * self.settings.max_length * written
        require_space(out.parent, 4 * (6 * parameters + token_ids))


def tell_other_units(data: Task, store: SoftLabels) -> None:
    """Say it if the scores of the data and of a store look as if they were in other units."""
    theirs = store.task
    if not (isinstance(data, Regression) and isinstance(theirs, Regression)):
        return
    small, large = sorted((data.deviation, theirs.deviation))
    if large > MANY_TIMES * small or abs(data.mean - theirs.mean) > MANY_TIMES * large:
        tell_once(
            f"{store.folder}: {theirs}, but the data has {data}. A student learns both: if these "
            "are different units, change the numbers of one of them."
        )


def plan_of(
    corpus: Corpus,
    store: SoftLabels,
    encoder: TextEncoder,
    settings: Distill,
    seed: int,
    teacher: Path | None,
) -> Plan:
    """Check that settings, soft labels, data and teacher fit together.

    Args:
        corpus: see `Plan`.
        store: see `Plan`.
        encoder: text encoder of the store.
        settings: see `Plan`.
        seed: see `Plan`.
        teacher: see `Plan`.

    Raises:
        KdedgeError: they don't.
    """
    tell_other_units(corpus.task, store)
    try:
        corpus = replace(corpus, task=corpus.task.with_logits_of(store.task))
    except KdedgeError as error:
        raise KdedgeError(f"{store.folder}: {error}") from None
    if (settings.max_length or 0) > encoder.max_length:
        raise KdedgeError(
            f"distill.max_length is {settings.max_length}, more than the teacher's "
            f"{encoder.max_length} (teach.max_length). Lower it, or label again with a larger "
            "length."
        )
    preset = find_preset(settings.student)
    check(settings, preset)
    check_prompts(settings, corpus.task.name, corpus.has_pairs)
    if not store.shares_tokens:
        check_own_vocabulary(settings, preset)
    beside = needs_teacher(settings)
    if beside and teacher is None:
        raise KdedgeError(
            "teacher: None; hidden_weight, attention_weight, adversary and some losses need one "
            "that runs beside the student: --teacher DIR."
        )
    if not (beside or preset.needs_teacher):
        teacher = None
    strategy = _strategy(settings.devices, corpus)
    teacher_ids = list(range(len(encoder.vocabulary)))
    # Beside a teacher the student reads the same token ids.
    most = settings.vocabulary or (len(teacher_ids) if beside else preset.vocabulary)
    own_pieces = most < len(teacher_ids)
    if own_pieces and beside:
        raise KdedgeError(
            f"distill.vocabulary: {most} gives the student word pieces of its own; "
            f"{', '.join(that_need_teacher(settings))} needs all of the teacher's "
            f"{len(teacher_ids)}. Leave vocabulary out."
        )
    # A student that is cut from the teacher has its token vectors from there.
    if settings.from_teacher and not preset.needs_teacher and store.token_vectors() is None:
        raise KdedgeError(
            f"{store.folder}: no token vectors of a teacher to start the student from. "
            "Set from_teacher = false in the recipe's [distill] section."
        )
    # `TransferSet` checks the texts of the train split.
    store.rows(corpus.valid.texts)
    transfer = TransferSet(store, corpus)
    full = full_distill(settings, corpus, len(transfer), encoder.max_length)
    encoder = TextEncoder(encoder.tokenizer, full.max_length, encoder.pad_id)
    if own_pieces:
        encoder, teacher_ids = encoder.pruned(transfer, min_count=0, most=most)
    return Plan(
        corpus, store, transfer, encoder, tuple(teacher_ids), full, preset, seed, teacher, strategy
    )


def _strategy(devices: int, corpus: Corpus) -> tf.distribute.Strategy:
    if devices > len(corpus.valid):
        raise KdedgeError(
            f"distill.devices: {devices}; at most {len(corpus.valid)} are allowed, because each "
            "evaluates at least one text of the valid split."
        )
    if devices == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy(need_devices(devices))


def need_devices(count: int) -> list[str]:
    """The names of the first GPUs, or of CPUs if there is no GPU.

    Raises:
        KdedgeError: there are fewer than `count`.
    """
    there = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if count > len(there):
        raise KdedgeError(
            f"distill.devices: {count}; TensorFlow sees {len(there)} here: "
            f"{', '.join(device.name for device in there)}."
        )
    return [device.name for device in there[:count]]
