"""Drift: whether texts from the field are like those of the test split."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_parts import TYPICAL, of_release_0_1, with_decision
from conftest import ROOT
from typer.testing import CliRunner

from kdedge import KdedgeError, load_bundle
from kdedge.cli import app
from kdedge.drift import (
    Log,
    drift_of,
    log_of_answers,
    log_of_texts,
    next_to_label,
    stability_index,
)
from kdedge.tasks import Classification, Regression, Task

DEMO = ROOT / "android_demo" / "app" / "src" / "main" / "assets" / "bundle"
NAMES = ("negative", "positive")


def log(unsure: float, positive: float, count: int = 500, **others: Any) -> Log:
    """A log of answers with these shares."""
    return Log((round(1 - positive, 6), positive), np.arange(count) / count < unsure, **others)


@pytest.mark.parametrize(
    ("seen", "advice", "changed"),
    [
        (log(0.2, 0.5), "no need", []),
        # Three standard errors, which occur by chance among many logs, and less than five points.
        (log(0.24, 0.5), "no need", []),
        (log(0.35, 0.5), "train again", ["unsure answers"]),
        # Twice as many, but the log is too short to be sure.
        (log(0.4, 0.5, 30), "no need", []),
        (log(0.05, 0.5), "look at it", ["unsure answers"]),
        (log(0.2, 0.8), "look at it", ["classes"]),
    ],
)
def test_what_has_changed(seen: Log, advice: str, changed: list[str]) -> None:
    found = drift_of(TYPICAL, seen, NAMES)
    assert found.advice == advice
    assert [change.name for change in found.changes if change.changed] == changed


def test_the_stability_index_by_hand() -> None:
    # 0.3 ln(0.8 / 0.5) - 0.3 ln(0.2 / 0.5) = 0.3 ln 4
    index = stability_index(np.array([0.5, 0.5]), np.array([0.2, 0.8]))
    assert index == pytest.approx(0.3 * np.log(4))
    found = drift_of(TYPICAL, log(0.2, 0.8), NAMES).changes[1]
    assert found.now == pytest.approx(index)
    assert "most of all positive: 80.0%, and 50.0% on the test split" in found.words


def test_a_large_index_of_few_texts_can_be_chance() -> None:
    # (1 / 20 + 1 / 30) (1 + 4 sqrt 2) = 0.55, more than the index of 0.42.
    few = TYPICAL.model_copy(update={"texts": 20})
    classes = drift_of(few, log(0.2, 0.8, 30), NAMES).changes[1]
    assert not classes.changed
    assert classes.words.endswith("with so few texts, up to 0.55 can be chance")


def test_lengths_and_unknown_tokens() -> None:
    # A tenth of the texts in each of the deciles.
    lengths = np.tile([5, 8, 11, 14, 18, 22, 27, 33, 42, 60], 50)
    same = log(0.2, 0.5, unknown=np.full(500, 0.01), lengths=lengths)
    assert drift_of(TYPICAL, same, NAMES).advice == "no need"
    longer = same._replace(lengths=lengths * 2)
    found = drift_of(TYPICAL, longer, NAMES)
    assert found.advice == "look at it"
    assert found.changes[-1].changed and "more than 42 tokens: 50.0%" in found.changes[-1].words
    unlike = same._replace(unknown=np.full(500, 0.4))
    assert drift_of(TYPICAL, unlike, NAMES).advice == "train again"


@pytest.mark.parametrize(
    "task", [Classification(label_names=NAMES), Regression(mean=0.0, deviation=1.0)]
)
def test_a_log_that_lacks_an_answer(task: Task, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({task.field: None, "unsure": False}))
    with pytest.raises(KdedgeError, match=f"line 1: {{'{task.field}': None"):
        log_of_answers(path, task)


def test_too_few_texts() -> None:
    with pytest.raises(KdedgeError, match="the log has 29 texts. At least 30 are needed"):
        drift_of(TYPICAL, log(0.2, 0.5, 29), NAMES)


def test_what_to_label_next() -> None:
    texts = ("sure", "Half  so", "half so", "unread", "quite")
    confidence = np.array([0.99, 0.51, 0.52, 0.5, 0.8], np.float32)
    seen = Log(
        (1, 0), np.zeros(5, bool), texts=texts, confidence=confidence,
        unknown=np.array([0, 0, 0, 1, 0.0]), lengths=np.full(5, 2),
    )  # fmt: skip
    # Without the text of unknown tokens, and equal texts only once.
    assert next_to_label(seen, 0.5, 2) == [1, 4]
    with pytest.raises(KdedgeError, match="a log of answers has no texts"):
        next_to_label(log(0.2, 0.5), 0.5, 2)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_decision(DEMO, tmp_path_factory.mktemp("drift") / "bundle")


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_release_0_1(DEMO, tmp_path_factory.mktemp("drift") / "older")


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


def test_a_bundle_with_a_decision(bundle: Path, older: Path) -> None:
    model, before = load_bundle(bundle, "litert-int8"), load_bundle(older)
    texts = ["a moving, funny film", "the plot of the film", "好 好 film 好"]
    raw = before.outputs(texts)
    np.testing.assert_array_equal(model.outputs(texts), raw)
    assert [answer.unsure for answer in before.predict(texts)] == [False] * 3
    roots = np.sqrt(raw)
    answers = model.predict(texts)
    found = [[*answer.probabilities.values()] for answer in answers]
    np.testing.assert_allclose(found, roots / roots.sum(1, keepdims=True), atol=1e-5)
    assert answers[0].label == "positive" and not answers[0].unsure
    assert answers[2].unsure and answers[2].line().startswith("unsure\t")
    assert answers[2].fields()["label"] in NAMES and answers[2].fields()["unsure"] is True


def test_drift_by_command(bundle: Path, tmp_path: Path) -> None:
    texts = (DEMO / "sample_texts.txt").read_text(encoding="utf-8").splitlines()[:100]
    path, out = tmp_path / "log.txt", tmp_path / "next.csv"
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    status, output = run("report", "drift", bundle, path, "--label-next", 5, "--out", out)
    assert status == 0, output
    assert "100 texts, 2,000 test texts" in output
    with out.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    seen = log_of_texts(load_bundle(bundle), texts)
    assert seen.confidence is not None
    assert [row["text"] for row in rows] == [texts[i] for i in np.argsort(seen.confidence)[:5]]
    assert {row["label"] for row in rows} == {""}

    # The same from the answers that predict wrote, without what needs the texts.
    answers = run("predict", bundle, "--file", path, "--json")[1].splitlines()
    stripped = [
        {k: v for k, v in json.loads(a).items() if k != "text"} for a in answers if a[0] == "{"
    ]
    log_file = tmp_path / "log.jsonl"
    # A line separator within a text does not end the line.
    stripped[0]["note"] = "one\u2028two"
    log_file.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in stripped), encoding="utf-8"
    )
    by_texts = json.loads(run("report", "drift", bundle, path, "--json")[1])
    by_answers = json.loads(run("report", "drift", bundle, log_file, "--json")[1])
    assert by_answers["changes"] == by_texts["changes"][:2]
    assert len(by_texts["changes"]) == 4
    packed = tmp_path / "log.json.gz"
    packed.write_bytes(gzip.compress(log_file.read_bytes()))
    assert json.loads(run("report", "drift", bundle, packed, "--json")[1]) == by_answers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("OLDER", "log.txt"), "its manifest does not have statistics of the test texts"),
        (("BUNDLE", "log.txt", "--label-next", "5"), "each needs the other"),
        (("BUNDLE", "log.jsonl"), "line 2: {'label': 1}; needed is a JSON object"),
        (("BUNDLE", "log_of_1252.jsonl"), "not UTF-8"),
    ],
)
def test_what_drift_refuses(
    arguments: tuple[str, ...], message: str, bundle: Path, older: Path, tmp_path: Path
) -> None:
    (tmp_path / "log.txt").write_text("a film\n" * 40)
    (tmp_path / "log.jsonl").write_text('{"label": "positive", "unsure": false}\n{"label": 1}\n')
    (tmp_path / "log_of_1252.jsonl").write_bytes('{"label": "é"}\n'.encode("cp1252"))
    named = {"OLDER": older, "BUNDLE": bundle}
    where = [named.get(a, tmp_path / a if a.startswith("log") else a) for a in arguments]
    status, output = run("report", "drift", *where)
    assert status == 2
    assert message in " ".join(output.split())
