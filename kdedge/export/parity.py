"""Computes the parity of a converted model from its outputs."""

import numpy as np

from kdedge.bundle.manifest import Parity
from kdedge.tasks import Outputs, Task


def parity(task: Task, outputs: Outputs, reference: Outputs) -> Parity:
    """Compare the outputs of a converted model with those of its source, float32 [texts, width]."""
    difference = np.abs(outputs - reference)
    return Parity(
        texts=len(reference),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        agreement=task.agreement(outputs, reference),
    )
