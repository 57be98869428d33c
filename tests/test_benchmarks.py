"""The figures and pages of the programs in benchmarks/."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_parts import make_report
from conftest import ROOT

from benchmarks import ablation, clients, demo_time, known_results, peers, teaching, unsure
from benchmarks.common import Setup, page_text
from kdedge import Corpus, build_student, export_bundle
from kdedge.bundle.manifest import verify
from kdedge.export.litert.convert import to_litert
from kdedge.export.litert.flatbuffer import parsed
from kdedge.recipe import Export
from kdedge.tasks import Classification
from kdedge.teachers.encoder import Shape
from kdedge.text.encoder import Encoded
from kdedge.text.splits import Split

TASK = Classification(label_names=("bad", "good"))


def result() -> dict[str, Any]:
    """The content of peers.json, with a shape with random weights in place of micro."""
    report = make_report()
    artifacts = {m.name: peers.figures(report, m) for m in report.measurements}
    for one in artifacts.values():
        if one["model"] == "micro":
            one["accuracy"] = None
    return {
        "command": "python benchmarks/peers.py",
        "scenario": report.scenario.model_dump(),
        "environment": {"CPU": "a processor"},
        "valid": False,
        "reasons": ["local was busy"],
        "artifacts": artifacts,
    }


def test_the_fastest_of_each_model_and_runtime_is_shown() -> None:
    best = peers.fastest(result()["artifacts"].values())
    assert [(a["model"], a["runtime"], a["quantization"]) for a in best] == [
        ("teacher", "LiteRT", "float32"),
        ("teacher", "ONNX Runtime", "float32"),
        ("micro", "LiteRT", "int8"),  # 0.8 ms, in float32 1.6
        ("micro", "ONNX Runtime", "int8"),  # 1.0 ms, in float32 1.5
    ]


def test_peers_table() -> None:
    table = page_text("peers", result(), peers.page)
    # Repeats are 0.99, 1 and 1.01 times 0.8 ms; the teacher's 24 ms are 30 times 0.8.
    row = "| micro (random weights) | LiteRT | int8 | 4.20 | 0.800 | 0.792 to 0.808 | 30.0× |"
    assert row in table
    assert "| teacher | LiteRT | float32 | 90.40 | 24.0 | 23.8 to 24.2 |  |  | 87.40 |" in table
    (micro,) = (line for line in table.splitlines() if "LiteRT | int8" in line)
    assert micro.endswith("|  |")
    assert "- local was busy" in table


def test_clients_page() -> None:
    same = {"texts": "100", "same label": "99", "max difference": "0.00123"}
    names = {"client": "a 1.0", "language": "Swift", "runtime": "LiteRT", "artifact": "onnx-int8"}
    small = {"archive": "b.aar", "used": "yes", "library": "jni/b.so", "bytes": 1_230_000}
    page = clients.page({
        "clients": [
            names | {"outcome": "passed"} | same,
            {"client": "tests.test_arm64::x", "outcome": "skipped"},
        ],
        "libraries": [
            small | {"problem": ""},
            {"archive": "c.aar", "used": "no", "problem": "NOT RUN: why"},
        ],
    })  # fmt: skip
    assert "| a 1.0 | Swift | LiteRT | onnx-int8 | passed | 99 of 100 | 1.2e-03 |" in page
    assert "| tests.test_arm64::x |  |  |  | skipped |  |  |" in page
    assert "| b.aar | jni/b.so | 1.23 | yes | yes |" in page
    assert "| c.aar |  |  | no | NOT RUN: why |" in page


def test_demo_time_page() -> None:
    stages = demo_time.STAGES
    seconds = {
        "0.1.0": [dict.fromkeys(stages, 120.0), dict.fromkeys(stages, 240.0)],
        "present": [dict.fromkeys((*stages, "baselines"), 90.0)] * 2,
    }
    page = demo_time.page({"machine": "a computer", "seconds": seconds})
    assert "a computer. Runs of each: 2. 0.1.0 trains" in page
    for shown in stages.values():
        assert f"| {shown} | 3.00 | 1.50 | 0.50 |" in page
    assert "| all stages | 18.0 | 10.5 | 0.58 |" in page


def test_teaching_page() -> None:
    speeds = {"0.1.0": [99.0, 100.0, 101.0], "present": [198.0, 200.0, 202.0]}
    page = teaching.page({"machine": "a computer", "texts_a_second": {"labelling": speeds}})
    # The logarithms of both deviate by 0.01: Welch's interval with 4 degrees of freedom.
    assert "| labelling | 100 | 200 | 2.00 | 1.96 to 2.05 |" in page


def test_differences_of_the_ablation() -> None:
    base = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], float)
    better = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], float)
    middle, low, high = ablation.difference(base, better)
    # 2 of 8 answers more are right.
    assert middle == 25
    assert low <= middle <= high
    assert ablation.difference(base, base) == (0, 0, 0)
    found = ablation.comparison(
        {"valid": base, "test": base}, {"valid": better, "test": np.ones((2, 4))}
    )
    assert (found["base_accuracy"], found["accuracy"]) == ([50, 25], [100, 100])
    page = ablation.page({"epochs": 4, "changes": {"alpha 0.5": found}})
    assert "| alpha 0.5 | 2 | 37.50 ± 17.68 | 100.00 ± 0.00 | +25.00" in page
    assert ablation.page({"dated": "Old.", "epochs": 4, "changes": {}}).splitlines()[2] == "Old."


def test_precision_of_a_model_that_is_right_where_it_is_sure() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=400).astype(np.int32)
    # Sure and right in one half, undecided and right by chance in the other.
    sure = np.arange(400) % 2 == 0
    logits = np.where(sure, 4.0, 0.0)[:, None] * np.eye(2)[labels]
    logits[~sure, 1] += rng.normal(0, 0.1, 200)
    split = Split(tuple(map(str, range(400))), labels)
    model = unsure.Model(
        "reviews", "half", Corpus(TASK, split, split, split), None,
        lambda texts: (logits[[int(text) for text in texts]].astype(np.float32), logits),
    )  # fmt: skip
    found = unsure.precision_of(model)
    assert (found["valid_texts"], found["draws"]) == (400, unsure.DRAWS)
    assert found["held"] > 0.9
    assert 0.5 <= found["coverage"] < 0.6


def test_comparisons_are_counted_by_the_rule_of_the_report() -> None:
    def comparison(a: list[float], b: list[float]) -> dict[str, list[float]]:
        return {"a_ms": a, "b_ms": b}

    same = comparison([1.0, 1.1, 0.9], [1.1, 0.9, 1.0])
    b_slower = comparison([1.0, 1.01, 0.99], [2.0, 2.02, 1.98])
    b_faster = comparison([2.0, 2.02, 1.98], [1.0, 1.01, 0.99])
    assert known_results.count_verdicts([same, b_slower, b_slower, b_faster, same, same]) == {
        "slower": 2, "faster": 1, "no different": 3,
    }  # fmt: skip


def test_no_op_cost() -> None:
    # 512 no-ops make 1 ms into 1.0512 ms: 0.1 microseconds each.
    calibration = {"a_ms": [1.0, 1.0, 9.0], "b_ms": [1.0512, 1.0512, 1.0]}
    assert known_results.no_op_ms(calibration) == pytest.approx(1e-4)


def test_no_ops_are_all_there_and_change_nothing(encoded: Encoded) -> None:
    student = build_student("nano", vocabulary=100, task=TASK, max_length=16)
    slowed = known_results.Slowed(student, 7)
    assert np.array_equal(slowed(encoded.inputs), student(encoded.inputs))
    counts = [
        len(parsed(to_litert(model, TASK, 16, variables=student)).subgraphs[0].operators)
        for model in (student, slowed)
    ]
    assert counts[1] == counts[0] + 7


def test_known_results_page() -> None:
    # Logarithms of p50 0.1 apart, of p1 0.01.
    repeats = {"a_p50_ms": np.exp([0, 0.1, 0.2]), "a_ms": np.exp([0, 0.01, 0.02])}
    same = [
        {"environment": {"busy before, %": busy}, **repeats, "b_ms": repeats["a_ms"]}
        for busy in (60, 70, 100)
    ]
    slower = [{**one, "b_ms": [2.0, 2.02, 1.98]} for one in same]
    row = known_results.ratio([(1.0, 1.0), (1.02, 1.0), (1.01, 1.0)])
    page = known_results.page({
        "same": {"tier": "quick", "comparisons": same},
        "slower": {"tier": "light", "known_ratio": 1.05, "comparisons": slower},
        "others": {"tier": "light", "files": {"onnx-int8": {"p50": row, "p5": row}}},
    })  # fmt: skip
    assert "Of 3 comparisons in the tier `quick`: 0 called slower, 0 faster, 3 no diff" in page
    assert "Of 3 comparisons in the tier `light`: 3 called slower, 0 faster, 0 no diff" in page
    assert "against one that is 5.0% slower" in page
    assert "Other programs used 70% of the machine (median)" in page
    assert "the p50 of a file varied by 10.0% and its p1, which decides, by 1.0%" in page
    assert "| onnx-int8 | p50 | 1.01 | 1.00 | 1.010 | 0.985 to 1.035 |" in page
    assert "3 rounds in turn" in page


@pytest.mark.slow
def test_a_shape_with_random_weights(
    quick_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(peers.SHAPES, "TinyBERT", Shape(0, 512, 2, 16, 16, 1, 2, 16))
    setup = Setup("peers", ROOT / "recipes" / "quick.toml", run=quick_run)
    subject = peers.random_weights(setup, "TinyBERT")
    artifacts = Export(artifacts=peers.ARTIFACTS, lengths=(32,), max_accuracy_drop=100)
    export_bundle(subject, artifacts, tmp_path / "bundle")
    found = {a.name: a.score.value for a in verify(tmp_path / "bundle").artifacts}
    assert {*found} == {*peers.ARTIFACTS}
    # Its own answers are the labels, so its float32 files are always right.
    assert found["litert-float32"] == found["onnx-float32"] == 1.0
