"""Fine-tunes a pretrained BERT on a corpus: a linear probe first, then all weights.

The head starts as logistic regression on the pretrained vectors (Kumar et al. 2022, arXiv
2202.10054); the rest is as in Devlin et al. 2018, arXiv 1810.04805.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras

from kdedge.check import full_teaching
from kdedge.defaults import FullTeach
from kdedge.errors import KdedgeError
from kdedge.files import new_folder, require_space
from kdedge.memory import keep_freed_memory
from kdedge.progress import console
from kdedge.recipe import CLASS_WEIGHTS, Teach, fingerprint
from kdedge.tasks import format_metric
from kdedge.teach.linear import FITS
from kdedge.teach.probe import POOLINGS, Probe, declared_pooling, probe_of, weights_of
from kdedge.teach.tuning import FineTuning
from kdedge.teachers.bert import BertTeacher, NewHead, has_head, load_teacher, write_notes
from kdedge.teachers.checkpoints import find_pretrained, revision_of
from kdedge.teachers.heads import LinearHead
from kdedge.teachers.precision import fast_dtype
from kdedge.text.corpus import Corpus
from kdedge.training.averaging import MeanOfEpochs
from kdedge.training.resumable import Resumable, remove_checkpoints

# The argument `head` of `load_teacher` for each value of `Teach.start`.
HEADS: dict[str, NewHead | None] = {"checkpoint": None, "probe": "mean", "random": "own"}


def finetune(
    corpus: Corpus,
    settings: Teach,
    out: Path,
    seed: int,
    names: Mapping[str, str] = MappingProxyType({}),
) -> BertTeacher:
    """Fine-tune `settings.pretrained` and write the weights that do best on the valid split.

    Settings that are None follow from the corpus (`kdedge.defaults`). The initial weights count as
    epoch 0: on the valid split, a teacher is never worse than the probe or the checkpoint that it
    starts from. A run that was stopped continues from its last checkpoint and ends with the same
    result.

    Args:
        corpus: texts and labels.
        settings: the recipe's section `teach`.
        out: folder to write the teacher to.
        seed: seed of the order of the texts and of dropout.
        names: the data's name for each class that the pretrained model calls something else.

    Raises:
        KdedgeError: the pretrained model can't be used, `out` exists, or the disk is full.
    """
    if out.exists():
        raise KdedgeError(f"{out} exists already. Remove it or name another folder.")
    keep_freed_memory()
    keras.utils.set_random_seed(seed)
    full = full_teaching(corpus, settings)
    start = _start(corpus, settings)
    teacher = load_teacher(
        full.pretrained,
        task=corpus.task,
        names=names,
        head=HEADS[start],
        max_length=full.max_length,
        dtype=fast_dtype(),
    )
    # Weights, two moments and the best epoch, twice while a new checkpoint is written.
    require_space(out.parent, 8 * 4 * teacher.count_params())
    key = fingerprint(full, teacher.fingerprint, corpus.fingerprint(), str(seed), str(dict(names)))
    training = Resumable(out, key)
    probe = _fit_probe(teacher, corpus, full) if start == "probe" else None
    rule = probe.class_weights if probe else full.class_weights or "none"
    full = full.model_copy(update={"class_weights": rule})
    weights = weights_of(corpus.task, corpus.train.labels, rule)
    tuning = FineTuning(teacher, corpus, full, weights, seed)
    kept = _train(training, tuning, first=1 if start == "random" else 0)
    with new_folder(out) as folder:
        teacher.save_pretrained(folder)
        notes = {
            "history": training.history,
            "kept": kept,
            "seed": seed,
            "revision": revision_of(find_pretrained(settings.pretrained)),
            "settings": full.model_dump(),
            "start": start,
            **({"probe": probe.notes()} if probe else {}),
        }
        write_notes(folder, notes)
    remove_checkpoints(out)
    console.print(summary(notes))
    return load_teacher(out)


def summary(notes: Mapping[str, Any]) -> str:
    """One line: the epoch that was kept, with its score and that of the start."""
    measure = f"val_{notes['settings']['metric']}"
    kept = notes["kept"]
    start = {"probe": "the probe", "checkpoint": "the checkpoint"}.get(notes["start"])
    first = notes["history"][0]

    def figure(epoch: Mapping[str, float]) -> str:
        return format_metric(notes["settings"]["metric"], epoch[measure], 1)

    if kept["epoch"] == 0:
        return (
            f"teacher: {start} ({measure} {figure(kept)}); fine-tuning did not improve it on "
            "the valid split"
        )
    before = f", {start} {figure(first)}" if start else ""
    return f"teacher: epoch {kept['epoch']} ({measure} {figure(kept)}{before})"


def _start(corpus: Corpus, settings: Teach) -> str:
    """The head's initial weights: `checkpoint`, `probe` or `random`; see `Teach.start`."""
    if settings.start:
        if settings.start == "probe" and corpus.task.name not in FITS:
            raise KdedgeError(
                f"teach.start: no probe for {corpus.task.name}. Set start = 'random'."
            )
        return settings.start
    if has_head(settings.pretrained):
        return "checkpoint"
    return "probe" if corpus.task.name in FITS else "random"


def _fit_probe(teacher: BertTeacher, corpus: Corpus, settings: FullTeach) -> Probe:
    """Fit a probe and put its weights into the teacher's head."""
    declared = settings.pooling or declared_pooling(settings.pretrained)
    poolings = [declared] if declared else POOLINGS
    rules = [settings.class_weights] if settings.class_weights else CLASS_WEIGHTS
    probe = probe_of(teacher, corpus, poolings, rules, settings.metric)
    head = teacher.head
    assert isinstance(head, LinearHead)
    head.pooling = probe.pooling
    head.kernel.assign(probe.linear.kernel)
    head.bias.assign(probe.linear.bias)
    return probe


def _train(training: Resumable, tuning: FineTuning, first: int) -> dict[str, float]:
    """Train until the valid split shows no improvement, and give the teacher its best weights.

    After each epoch, the mean of the weights so far is evaluated; it is also what is kept.

    Args:
        training: stores the state, so that a run can be resumed.
        tuning: runs the steps.
        first: 0 to evaluate the initial weights as epoch 0, 1 to begin with the first epoch.

    Returns:
        The metrics of the epoch that was kept.
    """
    settings, steps = tuning.settings, tuning.steps_an_epoch
    measure = f"val_{settings.metric}"
    # TensorFlow's checkpoints don't see into a list of layers.
    weights = [variable.value for variable in tuning.teacher.weights]
    mean = MeanOfEpochs([v.value for v in tuning.teacher.trainable_variables])
    state = {"weights": weights, "optimizer": tuning.optimizer, "mean": mean}

    def best(history: Sequence[Mapping[str, float]]) -> int:
        return kept_epoch([row[measure] for row in history], len(tuning.corpus.valid))

    training.track(state, mean.values, best)
    with training.progress("fine-tuning the teacher", steps, settings.epochs) as advance:
        for number in training.epochs_left(settings.epochs + 1 - first):
            epoch = number + first
            if has_stalled([row[measure] for row in training.history], settings.patience):
                break
            losses = {}
            if epoch:
                for batch in tuning.batches(epoch - 1, training.step):
                    loss = tuning.step((epoch - 1) * steps + training.step, *batch)
                    training.end_step(loss)
                    advance(1, f"epoch {epoch}, loss {training.loss / training.step:.3f}")
                losses = {"loss": training.loss / steps}
                mean.add(epoch)
            with mean.in_place():
                measures = {f"val_{name}": value for name, value in tuning.measures().items()}
            training.end_epoch({"epoch": epoch, **losses, **measures})
    training.restore_best()
    mean.put()
    return training.history[best(training.history)]


def kept_epoch(values: Sequence[float], texts: int) -> int:
    """The index of the epoch to keep: the last one that is about as good as the best.

    That is one within a standard error of the best value, for a share of this many texts, and not
    below the first value. Weights of later epochs are means over more epochs, and a difference that
    can be chance should not decide.

    >>> kept_epoch([0.80, 0.89, 0.88, 0.81], texts=100), kept_epoch([0.89, 0.88], texts=100)
    (2, 0)
    """
    best = max(values)
    chance = math.sqrt(max(0.0, best * (1 - best)) / texts)
    return max(i for i, value in enumerate(values) if value >= max(best - chance, values[0]))


def has_stalled(values: Sequence[float], patience: int) -> bool:
    """Whether none of the last `patience` values is above all earlier values.

    >>> has_stalled([0.7, 0.8, 0.8, 0.7], 2), has_stalled([0.7, 0.8, 0.8], 2)
    (True, False)
    """
    return len(values) > patience and max(values[-patience:]) <= max(values[:-patience])
