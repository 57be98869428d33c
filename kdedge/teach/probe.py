"""The probe: a linear model on a pretrained encoder's vectors, which a teacher starts from."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdedge.progress import Advance, progress
from kdedge.recipe import ClassWeights
from kdedge.tasks import Labels, Task
from kdedge.teach.linear import Linear, fit_vectors
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.checkpoints import find_pretrained
from kdedge.teachers.heads import Pooling, vector_of
from kdedge.teachers.label import batches_by_length
from kdedge.text.corpus import Corpus
from kdedge.text.encoder import TextEncoder

POOLINGS: tuple[Pooling, ...] = ("mean", "first")
Vectors = npt.NDArray[np.float32]
# Texts that the pretrained model takes at a time.
BATCH = 64


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        pooling: of the vectors.
        linear: logits of vectors of length 1.
        notes: what was tried, and how good it is, for the teacher's notes.
    """

    pooling: Pooling
    linear: Linear
    notes: dict[str, Any]


def probe_of(
    teacher: BertTeacher,
    corpus: Corpus,
    poolings: Sequence[Pooling],
    weights: npt.NDArray[np.float32],
    metric: str,
) -> Probe:
    """Fit a probe for each pooling, and keep the one that is best on the valid split.

    Args:
        teacher: gives the vectors.
        corpus: fitted on its train split.
        poolings: to try; of equally good ones the first is kept.
        weights: of the training texts.
        metric: the task's measure that decides.
    """
    task, splits = corpus.task, (corpus.train, corpus.valid, corpus.test)
    total = sum(map(len, splits))
    run = pooled_by(teacher, poolings)
    with progress("running the pretrained model", total, "texts") as advance:
        train, valid, test = (
            sentence_vectors(teacher.encoder, run, split.texts, poolings, advance)
            for split in splits
        )
    found = []
    for pooling in poolings:
        linear = fit_vectors(task, train[pooling], corpus.train.labels, weights)
        notes = {
            name: task.measures(linear.logits(of[pooling]), split.labels)
            for name, of, split in (("valid", valid, corpus.valid), ("test", test, corpus.test))
        }
        found.append(Probe(pooling, linear, {"pooling": pooling, **notes}))
    best = max(found, key=lambda probe: float(probe.notes["valid"][metric]))
    tried = {probe.pooling: probe.notes["valid"][metric] for probe in found}
    return replace(best, notes={**best.notes, "tried": tried})


def pooled_by(teacher: BertTeacher, poolings: Sequence[Pooling]) -> Any:
    """A graph: a batch's inputs -> its vectors of length 1, [batch, hidden], by each pooling."""
    rows = tf.TensorSpec([None, None], tf.int32)

    @tf.function(input_signature=[{"ids": rows, "mask": rows, "segment_ids": rows}])
    def run(inputs: Any) -> Any:
        states, _ = teacher.transformer(inputs["ids"], inputs["mask"], inputs["segment_ids"])
        last = tf.cast(states[-1], tf.float32)
        vectors = [vector_of(pooling, last, inputs["mask"]) for pooling in poolings]
        return [tf.math.l2_normalize(vector, -1) for vector in vectors]

    return run


def sentence_vectors(
    encoder: TextEncoder,
    run: Callable[[Any], Any],
    texts: Sequence[str],
    poolings: Sequence[Pooling],
    advance: Advance,
) -> dict[Pooling, Vectors]:
    """The vectors of texts, float32 [texts, hidden], by each pooling; `run` is of `pooled_by`."""
    found: dict[Pooling, list[Vectors]] = {pooling: [] for pooling in poolings}
    batches = batches_by_length(encoder, texts, BATCH)
    for batch in batches:
        vectors = run(encoder.encode([texts[i] for i in batch]).inputs)
        for pooling, some in zip(poolings, vectors, strict=True):
            found[pooling].append(some.numpy())
        advance(len(batch))
    order = np.argsort(np.concatenate(batches))
    return {pooling: np.concatenate(parts)[order] for pooling, parts in found.items()}


def declared_pooling(pretrained: str | Path) -> Pooling | None:
    """How a sentence-transformers folder says that the model was trained; None if it does not."""
    config = find_pretrained(pretrained) / "1_Pooling" / "config.json"
    try:
        said = json.loads(config.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(said, dict):
        return None
    if said.get("pooling_mode_cls_token"):
        return "first"
    return "mean" if said.get("pooling_mode_mean_tokens") else None


def class_weights(task: Task, labels: Labels, rule: ClassWeights) -> npt.NDArray[np.float32]:
    """A weight for each text by how rare its class is, float32 [texts], 1 in the mean.

    Args:
        task: says which class a label is.
        labels: of the training texts.
        rule: `none`, `root` or `balanced`: 1, 1 / sqrt(count) or 1 / count of the class.
    """
    strata = task.strata(labels)
    _, place, counts = np.unique(strata, return_inverse=True, return_counts=True)
    power = {"none": 0.0, "root": 0.5, "balanced": 1.0}[rule]
    weights = counts[place] ** -power
    return np.asarray(weights / weights.mean(), np.float32)
