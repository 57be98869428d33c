"""Computes parity and score of a converted model from its outputs."""

import numpy as np

from kdedge.bundle.manifest import Parity, Score
from kdedge.tasks import Labels, Outputs, Task


def parity(task: Task, outputs: Outputs, reference: Outputs) -> Parity:
    """Compare the outputs of a converted model with those of its source, float32 [texts, width]."""
    difference = np.abs(outputs - reference)
    return Parity(
        texts=len(reference),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        agreement=task.agreement(outputs, reference),
    )


def score(task: Task, outputs: Outputs, labels: Labels) -> Score:
    """Compute the task's metric from outputs float32 [texts, width]."""
    return Score(metric=task.metric, texts=len(labels), value=task.score(outputs, labels))
