"""How far a converted model is from its source, in its own runtime, on real text."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kdedge.bundle.manifest import Accuracy, Parity


def parity(probabilities: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> Parity:
    """Compare two models' probabilities, each float32 [texts, classes]."""
    difference = np.abs(probabilities - reference)
    return Parity(
        texts=len(reference),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        agreement=float(np.mean(probabilities.argmax(1) == reference.argmax(1))),
    )


def accuracy(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int32] | Sequence[int]
) -> Accuracy:
    """Share of texts whose most probable label, of float32 [texts, classes], is the true one."""
    return Accuracy(
        texts=len(labels), value=float(np.mean(probabilities.argmax(1) == np.asarray(labels)))
    )
