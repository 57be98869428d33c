"""Linear models, compared with scikit-learn."""

import numpy as np
import pytest
from conftest import classes
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, precision_recall_fscore_support

from kdedge.tasks import Classification, MultiLabel, Regression
from kdedge.teach.linear import FITS, STRENGTH, fit_tfidf, fit_vectors, tfidf_words
from kdedge.teach.probe import weights_of


def vectors(count: int, labels: np.ndarray, width: int = 8) -> np.ndarray:
    rng = np.random.default_rng(3)
    centres = rng.normal(0, 1, (labels.max() + 1, width))
    # Vectors far from the origin, as those of many pretrained models.
    found = 4 + centres[labels] + rng.normal(0, 1, (count, width))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("count", [2, 5])
def test_the_probe_is_scikit_learns_regression_on_scaled_vectors(count: int) -> None:
    labels = np.arange(60, dtype=np.int32) % count
    x, weights = vectors(60, labels), np.linspace(0.5, 1.5, 60).astype(np.float32)
    probe = fit_vectors(classes(count), x, labels, weights)

    scaled = (x - x.mean(0)) / np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean())
    expected = LogisticRegression(C=STRENGTH, tol=1e-3, max_iter=300)
    expected.fit(scaled.astype(np.float64), labels, weights)
    outputs = probe.logits(x)
    assert outputs.shape == (60, count)
    decisions = expected.decision_function(scaled)
    if count == 2:
        np.testing.assert_allclose(outputs[:, 1] - outputs[:, 0], decisions, atol=1e-3)
    else:
        np.testing.assert_allclose(outputs, decisions, atol=1e-3)
    np.testing.assert_allclose(
        classes(count).outputs(outputs), expected.predict_proba(scaled), atol=1e-3
    )


def test_tfidf_is_scikit_learns() -> None:
    texts = ["good film", "a bad film", "good plot", "bad bad plot", "good", "bad actor"]
    labels = np.array([1, 0, 1, 0, 1, 0], np.int32)
    logits_of = fit_tfidf(classes(2), texts, labels)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    expected = LogisticRegression(C=STRENGTH, tol=1e-3, max_iter=300)
    expected.fit(vectorizer.fit_transform(texts), labels)
    outputs = logits_of(["a good actor", "bad"])
    decisions = expected.decision_function(vectorizer.transform(["a good actor", "bad"]))
    np.testing.assert_allclose(outputs[:, 1] - outputs[:, 0], decisions, atol=1e-6)


def test_texts_without_words() -> None:
    assert tfidf_words("银行 a 👍") == ["银", "行"]
    assert tfidf_words("👍 👎") == ["👍", "👎"]
    logits_of = fit_tfidf(classes(2), ["👍", "👎", "👍 👍", "👎 👎"], np.array([0, 1, 0, 1]))
    assert logits_of(["👎"]).argmax() == 1


def test_weights_of_the_classes() -> None:
    # 4, 1 and 1 texts: 1 / sqrt(count) is 0.5, 1, 1, whose mean over the texts is 4 / 6.
    labels = np.array([0, 0, 0, 0, 1, 2], np.int32)
    assert weights_of(classes(3), labels, "none").tolist() == [1] * 6
    np.testing.assert_allclose(
        weights_of(classes(3), labels, "root"), [0.75] * 4 + [1.5] * 2, atol=1e-6
    )
    # 1 / count: 0.25, 1, 1; their mean is 0.5.
    np.testing.assert_allclose(
        weights_of(classes(3), labels, "balanced"), [0.5] * 4 + [2.0] * 2, atol=1e-6
    )


def test_measures_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    task: Classification = classes(5)
    labels = rng.integers(0, 4, 50).astype(np.int32)
    outputs = rng.random((50, 5)).astype(np.float32)
    answers = outputs.argmax(1)
    measures = task.measures(outputs, labels)
    assert measures["accuracy"] == pytest.approx((answers == labels).mean())
    assert measures["macro_f1"] == pytest.approx(
        f1_score(labels, answers, average="macro", zero_division=0)
    )
    expected = precision_recall_fscore_support(labels, answers, labels=range(5), zero_division=0)
    found = task.by_class(outputs, labels)
    ours = (found.precision, found.recall, found.f1, found.texts)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs)


def test_confusions_worked_out_by_hand() -> None:
    outputs = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    # Of class 0 one is right and one is called 1; of class 2 one is called 1.
    assert classes(3).confusion(outputs, np.array([0, 0, 2, 2])).tolist() == [
        [1, 1, 0], [0, 0, 0], [0, 1, 1],
    ]  # fmt: skip


def test_a_regression_for_each_label() -> None:
    task = MultiLabel(label_names=("left", "never", "right"))
    features = np.repeat([[1.0, 0.0], [0.0, 1.0]], 20, axis=0)
    labels = np.repeat([[1, 0, 0], [0, 0, 1]], 20, axis=0).astype(np.int8)
    linear = FITS["multi-label"](task, features, labels, np.ones(40, np.float32))
    outputs = task.outputs(linear.logits(np.eye(2)))
    # A label that no text has is as improbable as a finite logit can say.
    np.testing.assert_allclose(outputs[:, 1], 1e-7, rtol=1e-3)
    assert (outputs[0, 0], outputs[1, 2]) == pytest.approx((1, 1), abs=0.1)
    assert (outputs[0, 2], outputs[1, 0]) == pytest.approx((0, 0), abs=0.1)


def test_least_squares_of_standardised_scores() -> None:
    task = Regression(mean=3.0, deviation=2.0)
    x = np.arange(100.0)[:, None] - 49.5
    # Scores of 3 + x / 10, standardised x / 20; the sum of squares is 83,325, so a strength of 1
    # changes the slope by 1 in 83,326.
    linear = FITS["regression"](task, x, 3 + x[:, 0] / 10, np.ones(100, np.float32))
    assert linear.kernel[0, 0] == pytest.approx(0.05 * 83_325 / 83_326, rel=1e-6)
    np.testing.assert_allclose(task.outputs(linear.logits(x[:1])), [[3 - 4.95]], atol=1e-3)
