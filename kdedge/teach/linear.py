"""Linear models: the TF-IDF baseline, and the probe that a teacher's head starts from."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from kdedge.tasks import Labels, Logits, Task
from kdedge.text.augment import UNSPACED
from kdedge.text.pairs import Text, parts_of

# scikit-learn's C, the inverse of the regularization strength, for features of length 1. On the
# valid splits of four data sets, 1 and 100 were not better, except 1 for movie reviews with few
# labels.
STRENGTH = 10.0
# Smallest scale that vectors are divided by. If a model gives nearly the same vector for all texts,
# a smaller one would only amplify noise.
SMALLEST_SCALE = 0.1
# Tolerance of the fit. A smaller one changed no accuracy.
TOLERANCE, MOST_STEPS = 1e-3, 300
WORD = re.compile(f"[{UNSPACED}]|[^\\W{UNSPACED}]{{2,}}")


@dataclass(frozen=True)
class Linear:
    """logits = features @ kernel + bias.

    Attributes:
        kernel: float64 [features, width].
        bias: float64 [width].
    """

    kernel: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]

    def logits(self, features: Any) -> Logits:
        """Logits float32 [texts, width] of features, dense or sparse, [texts, features]."""
        return np.asarray(features @ self.kernel + self.bias, np.float32)


Weights = npt.NDArray[np.float32]
Fit = Callable[[Task, Any, Labels, Weights], Linear]


def logistic_regression(task: Task, features: Any, labels: Labels, weights: Weights) -> Linear:
    """Fit multinomial logistic regression; weights float32 [texts]."""
    fitted = LogisticRegression(C=STRENGTH, tol=TOLERANCE, max_iter=MOST_STEPS)
    fitted.fit(features, labels, weights)
    kernel, bias = fitted.coef_, fitted.intercept_
    if len(kernel) == 1:
        # For two classes scikit-learn returns the log odds of the second one.
        kernel, bias = np.stack([-kernel[0], kernel[0]]) / 2, np.array([-bias[0], bias[0]]) / 2
    return Linear(kernel.T, bias)


def one_against_the_rest(task: Task, features: Any, labels: Labels, weights: Weights) -> Linear:
    """Fit logistic regression for each label; a constant for a label that all or no texts have."""
    kernel, bias = np.zeros((features.shape[1], task.width)), np.zeros(task.width)
    for place, has in enumerate(labels.T):
        if 0 < has.sum() < len(has):
            fitted = LogisticRegression(C=STRENGTH, tol=TOLERANCE, max_iter=MOST_STEPS)
            fitted.fit(features, has, weights)
            kernel[:, place], bias[place] = fitted.coef_[0], fitted.intercept_[0]
        else:
            bias[place] = task.logits(np.full(task.width, has.mean()), "share of a label")[place]
    return Linear(kernel, bias)


def ridge_regression(task: Task, features: Any, labels: Labels, weights: Weights) -> Linear:
    """Fit ridge regression of the standardised scores."""
    fitted = Ridge(alpha=1.0)
    fitted.fit(features, task.logits(labels, "scores"), weights)
    return Linear(fitted.coef_[:, None].astype(np.float64), np.array([fitted.intercept_]))


# The linear model of each task; a task without one has no probe.
FITS: dict[str, Fit] = {
    "classification": logistic_regression,
    "multi-label": one_against_the_rest,
    "regression": ridge_regression,
}


def fit_vectors(
    task: Task,
    vectors: npt.NDArray[np.float32],
    labels: Labels,
    weights: Weights,
) -> Linear:
    """The probe: a linear model on sentence vectors of length 1.

    It is fitted on vectors whose mean is 0 and whose mean squared length is 1, so that one strength
    suits all pretrained models: many have vectors that nearly point in one direction.

    Args:
        task: a task in `FITS`.
        vectors: float32 [texts, hidden], each of length 1.
        labels: labels of the task, one row for each text.
        weights: weights of the texts.
    """
    mean = vectors.mean(0, dtype=np.float64)
    centred = vectors - mean
    scale = max(SMALLEST_SCALE, float(np.sqrt(np.square(centred).sum(1).mean())))
    fitted = FITS[task.name](task, centred / scale, labels, weights)
    kernel = fitted.kernel / scale
    return Linear(kernel, fitted.bias - mean @ kernel)


def tfidf_words(text: str) -> list[str]:
    """Split a text into words for `fit_tfidf`; at spaces if there are no words.

    >>> tfidf_words("I am at the bank 银行")
    ['am', 'at', 'the', 'bank', '银', '行']
    """
    return WORD.findall(text.lower()) or text.split()


def fit_tfidf(
    task: Task, texts: Sequence[Text], labels: Labels
) -> Callable[[Sequence[Text]], Logits]:
    """Fit a linear model on TF-IDF of words and word pairs; returns a function texts -> logits.

    Features of a pair u, v are u, v, |u - v| and u * v.
    """
    vectorizer = TfidfVectorizer(
        analyzer="word", tokenizer=tfidf_words, token_pattern=None, lowercase=False,
        ngram_range=(1, 2), sublinear_tf=True,
    )  # fmt: skip
    vectorizer.fit([part for text in texts for part in parts_of(text)])

    def features(texts: Sequence[Text]) -> Any:
        # The first texts, and of pairs the second ones.
        places = zip(*map(parts_of, texts), strict=True)
        u, *second = (vectorizer.transform(place) for place in places)
        return hstack([u, *(x for v in second for x in (v, abs(u - v), u.multiply(v)))], "csr")

    fitted = FITS[task.name](task, features(texts), labels, np.ones(len(texts), np.float32))
    return lambda others: fitted.logits(features(others))
