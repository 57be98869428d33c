"""Compares teacher and student with the baselines on the test split."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from kdedge.bench.report.model import ByClass, Confusion, Quality, Scored
from kdedge.students.trained import Student
from kdedge.tasks import Classification, MultiLabel, format_metric
from kdedge.teach.baselines import PROBE, TFIDF, Baseline
from kdedge.text.corpus import Corpus
from kdedge.text.rules import Finding

# Number of pairs of classes in the report's table.
MOST_CONFUSIONS = 12
# Fewer texts of a class, or a larger share of odd texts or tokens, are shown first as the likely
# reason.
FEW_TEXTS, MANY_ODD = 20, 0.02


def quality_of(
    student: Student,
    corpus: Corpus,
    notes: Mapping[str, Any],
    baselines: Sequence[Baseline],
    findings: Sequence[Finding] = (),
) -> Quality:
    """Compare the models on the test split.

    Args:
        student: the student, with its teacher's logits on the test texts if there is a teacher.
        corpus: corpus of the student.
        notes: notes of the teacher.
        baselines: baselines on the same corpus.
        findings: problems of the data with the pretrained model.
    """
    task, test = student.task, student.test
    intervals = []
    models = [Scored(name=one.name, measures=one.test) for one in baselines]
    if test.teacher_logits is not None:
        own_task = student.teacher_task
        outputs = own_task.outputs(test.teacher_logits)
        measures = own_task.measures(outputs, test.labels)
        models.append(Scored(name="teacher", measures=measures))
        intervals.append(own_task.interval(outputs, test.labels))
    name = str(student.notes["preset"])
    outputs = task.outputs(test.logits)
    models.append(Scored(name=name, measures=task.measures(outputs, test.labels)))
    intervals.append(task.interval(outputs, test.labels))
    own_models, rivals = models[len(baselines) :], models[: len(baselines)]
    best, best_name = max(
        ((one.measures[task.metric], one.name) for one in rivals), default=(0, "")
    )
    reason = partial(likely_reason, corpus, notes, findings, best_baseline=best_name)
    reasons = [reason()]
    if len(own_models) == 2:
        of_teacher, of_student = (one.measures[task.metric] for one in own_models)
        is_better = of_teacher >= best and of_teacher > of_student
        reasons.append(reason(teacher_is_better=is_better))
    classes, confusions = _by_class(student)
    return Quality(
        texts=len(test.texts),
        models=tuple(models),
        verdicts=tuple(
            verdict(one, rivals, task.metric, why, interval)
            for one, why, interval in zip(own_models, reasons, intervals, strict=True)
            if rivals
        ),
        classes=classes,
        confusions=confusions,
    )


def verdict(
    model: Scored,
    baselines: Sequence[Scored],
    metric: str,
    why: str,
    interval: tuple[float, float],
) -> str:
    """Say in one line whether a model is better than the baselines.

    Args:
        model: the teacher or the student.
        baselines: models to compare with.
        metric: metric to compare by.
        why: likely reason if it is not better.
        interval: 95% interval of the model's metric, over the test texts.
    """
    score, (low, high) = model.measures[metric], interval
    ends = f"{format_metric(metric, low, 1).rstrip('%')} to {format_metric(metric, high, 1)}"
    chance = f"; the difference can be chance: the 95% interval of {model.name} is {ends}"
    better = [one for one in baselines if one.measures[metric] >= score]
    if not better:
        names = (
            f"{one.name} ({format_metric(metric, one.measures[metric], 1)})" for one in baselines
        )
        is_close = max(one.measures[metric] for one in baselines) >= low
        return (
            f"{model.name} ({format_metric(metric, score, 1)} {metric}) is better than "
            f"{' and than '.join(names)}{chance if is_close else ''}"
        )
    best = max(better, key=lambda one: one.measures[metric])
    large = " Those need the whole pretrained model." if best.name == PROBE else ""
    if score >= 1:
        why = "No answer is wrong, so these test texts are too easy to compare the models."
    return (
        f"{model.name} ({format_metric(metric, score, 1)} {metric}) is NOT better than {best.name} "
        f"({format_metric(metric, best.measures[metric], 1)})"
        f"{chance if score < best.measures[metric] <= high else ''}.{large} {why}"
    )


def likely_reason(
    corpus: Corpus,
    notes: Mapping[str, Any],
    findings: Sequence[Finding],
    teacher_is_better: bool = False,
    best_baseline: str = TFIDF,
) -> str:
    """The likely reason why a model is no better than the baselines, and what to do.

    Args:
        corpus: corpus of the models.
        notes: notes of the teacher.
        findings: problems of the data with the pretrained model.
        teacher_is_better: whether the model is a student, and its teacher is better than it and not
            worse than the baselines.
        best_baseline: name of the best baseline.
    """
    # Its teacher has the same labels and the same tokens, so they are not the reason.
    if teacher_is_better:
        return (
            "The likely reason: the student is too small, or has too few texts or epochs to learn "
            "from its teacher. Name texts without labels (unlabelled in [data]), set augmented in "
            "[label] or epochs in [distill] higher, or take a larger student."
        )
    by_kind = {one.kind: one for one in findings}
    if unknown := by_kind.get("unknown tokens"):
        return (
            f"The likely reason: the pretrained model does not know {unknown.count}% of the "
            "tokens. Take one that knows them (pretrained in [teach])."
        )
    if pieces := by_kind.get("words in pieces"):
        return (
            f"The likely reason: {pieces.count}% of the tokens continue a word that the pretrained "
            "model does not have whole. Take a model for their language (pretrained in [teach])."
        )
    texts = len(corpus.train)
    for finding in corpus.findings:
        doubtful = finding.kind == "contradictions" or finding.kind.startswith("copies in")
        if doubtful and finding.count > MANY_ODD * texts:
            return f"The likely reason: {finding.what}, {finding.count:,}."
    counts = corpus.task.counts(corpus.train.labels).values()
    few = sum(count < FEW_TEXTS for count in counts)
    if few:
        return (
            f"The likely reason: {few} of {len(counts)} classes have fewer than {FEW_TEXTS} "
            "training texts. Label more, or name texts without labels (unlabelled in [data])."
        )
    history = notes.get("history") or []
    metric = f"val_{notes.get('settings', {}).get('metric') or corpus.task.metric}"
    values = [epoch.get(metric, 0.0) for epoch in history]
    # A mean of more epochs is often better by a trifle.
    chance = math.sqrt(max(0.0, values[-1] * (1 - values[-1])) / len(corpus.valid)) if values else 0
    if len(values) > 1 and values[-1] > max(values[:-1]) + chance:
        return "The likely reason: too few epochs, the last was the best. Set more in [teach]."
    if best_baseline == PROBE:
        return (
            "The likely reason: too few labelled texts, or too few epochs, for fine-tuning to "
            "improve on them. Label more, or set epochs in [teach] higher."
        )
    return (
        "The likely reason: single words tell these classes apart. More labelled or unlabelled "
        "texts help more than more training."
    )


def quality_table(quality: Quality) -> Table:
    """The models' measures for a terminal."""
    names = list(dict.fromkeys(name for one in quality.models for name in one.measures))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"{quality.texts:,} test texts")
    table.add_column("model")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for one in quality.models:
        cells = (format_metric(n, one.measures[n], 1) if n in one.measures else "" for n in names)
        table.add_row(one.name, *cells)
    return table


def _by_class(student: Student) -> tuple[tuple[ByClass, ...], tuple[Confusion, ...]]:
    """How the student does by class, the worst first, and what it confuses most often."""
    task, test = student.task, student.test
    if not isinstance(task, Classification | MultiLabel):
        return (), ()
    found = task.by_class(task.outputs(test.logits), test.labels)
    classes = tuple(
        ByClass(
            name=task.label_names[i],
            texts=int(found.texts[i]),
            precision=float(found.precision[i]),
            recall=float(found.recall[i]),
            f1=float(found.f1[i]),
        )
        for i in np.argsort(found.f1, kind="stable")
    )
    if not isinstance(task, Classification):
        return classes, ()
    counts = task.confusion(test.logits, test.labels)
    np.fill_diagonal(counts, 0)
    most = np.argsort(-counts, axis=None, kind="stable")[:MOST_CONFUSIONS]
    confusions = tuple(
        Confusion(label=task.label_names[label], answer=task.label_names[answer], texts=texts)
        for label, answer in zip(*np.unravel_index(most, counts.shape), strict=True)
        if (texts := int(counts[label, answer]))
    )
    return classes, confusions
