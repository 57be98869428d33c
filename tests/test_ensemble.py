"""Several teachers as one."""

from pathlib import Path

import numpy as np
import pytest
from test_losses import LABELS, X, evaluate, fixed_model
from typer.testing import CliRunner

from kdedge import Distiller, KdedgeError, SoftLabelLoss, SoftLabels, TextEncoder
from kdedge.cli import app
from kdedge.labels.average import ensemble_soft_labels as ensemble
from kdedge.tasks import Classification, Regression
from kdedge.teachers.ensemble import Ensemble

NAMES = ("bad", "good")


def store(folder: Path, tiny_bert: Path, rows: dict[str, list[float]], names=NAMES) -> SoftLabels:
    made = SoftLabels.create(
        folder, folder.name, Classification(label_names=names), has_features=False
    )
    made.add(list(rows), np.array(list(rows.values()), np.float32))
    made.keep(TextEncoder.from_pretrained(tiny_bert, 16), None)
    return made


def test_stores_are_averaged_by_weight(tiny_bert: Path, tmp_path: Path) -> None:
    a = store(tmp_path / "a", tiny_bert, {"x": [1.0, -1.0], "y": [0.0, 2.0]})
    b = store(tmp_path / "b", tiny_bert, {"y": [4.0, 0.0], "x": [-1.0, 1.0], "z": [9.0, 9.0]})
    a.keep(a.encoder(), np.ones((3, 2), np.float16))
    even = ensemble([a, b], tmp_path / "even")
    np.testing.assert_allclose(even.lookup(["x", "y"])[0], [[0.0, 0.0], [2.0, 1.0]])
    # 3/4 and 1/4: 0.75 * (1, -1) + 0.25 * (-1, 1) and 0.75 * (0, 2) + 0.25 * (4, 0)
    mine = ensemble([a, b], tmp_path / "mine", weights=[3, 1])
    np.testing.assert_allclose(mine.lookup(["x", "y"])[0], [[0.5, -0.5], [1.0, 1.5]])
    assert mine.texts == ("x", "y")
    assert mine.teacher != even.teacher
    assert mine.token_vectors().shape == (3, 2)
    assert mine.encoder().max_length == 16
    # The same again is there already.
    assert ensemble([a, b], tmp_path / "mine", weights=[3, 1]).texts == mine.texts


def test_texts_that_are_not_averaged_are_counted(tiny_bert: Path, tmp_path: Path) -> None:
    store(tmp_path / "a", tiny_bert, {"x": [1.0, -1.0]})
    store(tmp_path / "b", tiny_bert, {"x": [1.0, -1.0], "z": [9.0, 9.0]})
    words = ["average-labels", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "ab"]
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    assert f"b: 1 texts are left out, as {tmp_path / 'a'} lacks them." in result.stderr


def test_labels_in_another_order_and_scores_of_other_splits(
    tiny_bert: Path, tmp_path: Path
) -> None:
    a = store(tmp_path / "a", tiny_bert, {"x": [1.0, -1.0]})
    b = store(tmp_path / "b", tiny_bert, {"x": [5.0, 3.0]}, names=("good", "bad"))
    np.testing.assert_allclose(ensemble([a, b], tmp_path / "ab").lookup(["x"])[0], [[2.0, 2.0]])
    stores = []
    for name, mean, deviation in (("c", 3.0, 1.0), ("d", 4.0, 2.0)):
        task = Regression(mean=mean, deviation=deviation)
        made = SoftLabels.create(tmp_path / name, name, task, has_features=False)
        made.add(["x"], np.array([[0.5]], np.float32))
        made.keep(TextEncoder.from_pretrained(tiny_bert, 16), None)
        stores.append(made)
    # 3.5 and 5, on average 4.25, which is 1.25 deviations above the first mean.
    assert ensemble(stores, tmp_path / "cd").lookup(["x"])[0] == 1.25


def test_live_teachers_are_averaged_by_weight() -> None:
    # ln .7 and ln .5, a half each: logits 0.5 (ln .7 + ln .5), 0.5 (ln .3 + ln .5), that is
    # probabilities sqrt .35 and sqrt .15 over their sum: 0.604356, 0.395644.
    teacher = Ensemble([fixed_model([0.7, 0.3]), fixed_model([0.5, 0.5])])
    distiller = Distiller(teacher, fixed_model([0.6, 0.4]), SoftLabelLoss(), None, 0.0)
    # 0.604356 ln (0.604356 / 0.6) + 0.395644 ln (0.395644 / 0.4) = 0.004372 - 0.004333
    assert evaluate(distiller, X, LABELS)["soft_label_loss"] == pytest.approx(3.95e-5, abs=1e-6)
    alone = Ensemble([fixed_model([0.7, 0.3]), fixed_model([0.5, 0.5])], weights=[1e9, 1])
    distiller = Distiller(alone, fixed_model([0.6, 0.4]), SoftLabelLoss(), None, 0.0)
    assert evaluate(distiller, X, LABELS)["soft_label_loss"] == pytest.approx(0.021601, abs=1e-5)


def test_what_ensembles_refuse(tiny_bert: Path, tmp_path: Path) -> None:
    a = store(tmp_path / "a", tiny_bert, {"x": [1.0, -1.0]})
    with pytest.raises(KdedgeError, match="1 of 1 texts have no soft label, first 'x'"):
        ensemble([a, store(tmp_path / "b", tiny_bert, {"y": [1.0, -1.0]})], tmp_path / "ab")
    with pytest.raises(KdedgeError, match="for no, yes; those in .*a are for bad, good"):
        ensemble(
            [a, store(tmp_path / "c", tiny_bert, {"x": [1.0, 0.0]}, ("no", "yes"))], tmp_path / "ac"
        )
    with pytest.raises(KdedgeError, match=r"weights: \[1.0, 0\] for 2 stores"):
        ensemble([a, a], tmp_path / "aa", weights=[1.0, 0])
    with pytest.raises(KdedgeError, match=r"weights: \[1, nan\] for 2 stores"):
        ensemble([a, a], tmp_path / "aa", weights=[1, float("nan")])
    with pytest.raises(KdedgeError, match=r"weights: \[\] for 0 teachers"):
        Ensemble([])
