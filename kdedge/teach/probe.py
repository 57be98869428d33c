"""The linear probe on a pretrained encoder's vectors, from which fine-tuning starts."""

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
from kdedge.text.pairs import Text, parts_of

POOLINGS: tuple[Pooling, ...] = ("mean", "first")
Vectors = npt.NDArray[np.float32]
# By the split, `valid` and `test`, and the metric.
Measures = dict[str, dict[str, float]]
# Texts in each batch of the pretrained model.
BATCH = 64


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        pooling: pooling of the vectors.
        class_weights: class weights of the fit.
        linear: the linear model on normalised vectors.
        valid: metrics on the valid split.
        test: metrics on the test split.
        apart: for pairs, a baseline: the metrics on both splits of a linear model on the vectors of
            the two texts, which the pretrained model reads separately.
    """

    pooling: Pooling
    class_weights: ClassWeights
    linear: Linear
    valid: dict[str, float]
    test: dict[str, float]
    apart: Measures | None = None

    def notes(self) -> dict[str, Any]:
        """The notes about the probe that are stored with the teacher."""
        return {
            "pooling": self.pooling,
            "class_weights": self.class_weights,
            "valid": self.valid,
            "test": self.test,
            **({"apart": self.apart} if self.apart else {}),
        }


def probe_of(
    teacher: BertTeacher,
    corpus: Corpus,
    poolings: Sequence[Pooling],
    rules: Sequence[ClassWeights],
    metric: str,
) -> Probe:
    """Fit a probe with the best pooling, then with the best class weights, on the valid split.

    The pooling is chosen by `metric`; the weights by the mean of the task's metrics, or by `metric`
    if it is not the task's default. The first of several equally good ones is kept.

    Args:
        teacher: computes the vectors.
        corpus: the probe is fitted on its train split.
        poolings: poolings to try.
        rules: class weights to try; poolings are tried with the first.
        metric: a metric of the task.
    """
    task, splits = corpus.task, (corpus.train, corpus.valid, corpus.test)
    run = pooled_by(teacher, poolings)
    with progress("running the pretrained model", sum(map(len, splits)), "texts") as advance:
        train, valid, test = (
            sentence_vectors(teacher.encoder, run, split.texts, poolings, advance)
            for split in splits
        )

    def fitted(pooling: Pooling, rule: ClassWeights) -> Probe:
        labels = corpus.train.labels
        linear = fit_vectors(task, train[pooling], labels, weights_of(task, labels, rule))
        on_valid, on_test = (task.outputs(linear.logits(of[pooling])) for of in (valid, test))
        tuned = task.tuned(on_valid, corpus.valid.labels)
        return Probe(
            pooling,
            rule,
            linear,
            tuned.measures(on_valid, corpus.valid.labels),
            tuned.measures(on_test, corpus.test.labels),
        )

    def balance(probe: Probe) -> float:
        values = probe.valid if metric == task.metric else {metric: probe.valid[metric]}
        return sum(values.values()) / len(values)

    first = max((fitted(one, rules[0]) for one in poolings), key=lambda one: one.valid[metric])
    best = max([first, *(fitted(first.pooling, rule) for rule in rules[1:])], key=balance)
    if not corpus.has_pairs:
        return best
    apart = _separate_metrics(teacher, corpus, best.pooling, best.class_weights)
    return replace(best, apart=apart)


def _separate_metrics(
    teacher: BertTeacher, corpus: Corpus, pooling: Pooling, rule: ClassWeights
) -> Measures:
    """Metrics of a linear model on u, v, |u - v| and u * v, from the vectors u, v of both texts."""
    task, run = corpus.task, pooled_by(teacher, [pooling])
    splits = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    count = 2 * sum(map(len, splits.values()))
    features = {}
    with progress("running the pretrained model on each text", count, "texts") as advance:
        for name, split in splits.items():
            u, v = (
                sentence_vectors(teacher.encoder, run, texts, [pooling], advance)[pooling]
                for texts in zip(*map(parts_of, split.texts), strict=True)
            )
            features[name] = np.concatenate([u, v, abs(u - v), u * v], axis=1)
    labels = corpus.train.labels
    linear = fit_vectors(task, features["train"], labels, weights_of(task, labels, rule))
    outputs = {name: task.outputs(linear.logits(features[name])) for name in ("valid", "test")}
    tuned = task.tuned(outputs["valid"], corpus.valid.labels)
    return {name: tuned.measures(of, splits[name].labels) for name, of in outputs.items()}


def pooled_by(teacher: BertTeacher, poolings: Sequence[Pooling]) -> Any:
    """Make a graph: the inputs of a batch -> vectors of length 1, [batch, hidden], by pooling."""
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
    texts: Sequence[Text],
    poolings: Sequence[Pooling],
    advance: Advance,
) -> dict[Pooling, Vectors]:
    """Sentence vectors of texts, float32 [texts, hidden], by pooling; `pooled_by` makes `run`."""
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
    """The pooling that a sentence-transformers folder declares, or None."""
    config = find_pretrained(pretrained) / "1_Pooling" / "config.json"
    try:
        declared = json.loads(config.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(declared, dict):
        return None
    if declared.get("pooling_mode_cls_token"):
        return "first"
    return "mean" if declared.get("pooling_mode_mean_tokens") else None


def weights_of(task: Task, labels: Labels, rule: ClassWeights) -> npt.NDArray[np.float32]:
    """A weight for each text by the frequency of its class, float32 [texts], with mean 1.

    Args:
        task: task of the labels.
        labels: labels of the training texts.
        rule: `none`, `root` or `balanced`: 1, 1 / sqrt(count) or 1 / count of the class.
    """
    strata = task.strata(labels)
    _, place, counts = np.unique(strata, return_inverse=True, return_counts=True)
    power = {"none": 0.0, "root": 0.5, "balanced": 1.0}[rule]
    weights = counts[place] ** -power
    return np.asarray(weights / weights.mean(), np.float32)
