"""What the programs in benchmarks/ make of their figures."""

from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import transformers
from bench_parts import make_encoder, make_report

from benchmarks import peers, trust
from benchmarks.common import written
from kdedge import Corpus, Subject, TextEncoder, build_student
from kdedge.bundle.manifest import verify
from kdedge.export.litert.convert import to_litert
from kdedge.export.litert.flatbuffer import parsed
from kdedge.tasks import Classification
from kdedge.text.encoder import Encoded
from kdedge.text.splits import Split

TASK = Classification(label_names=("bad", "good"))


def result() -> dict[str, Any]:
    """As in peers.json, with no accuracy for what is called micro, and one failed export."""
    report = make_report()
    return {
        "command": "python benchmarks/peers.py",
        "scenario": report.scenario.model_dump(),
        "valid": False,
        "reasons": ["local was busy"],
        "failed": {"Mobile-BERT-onnx": "tf2onnx refuses this model: an op\nand more"},
        "artifacts": {m.name: peers.figures(report, m, {"micro"}) for m in report.measurements},
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
    table = written("peers", result(), peers.page)
    # Repeats are 0.99, 1 and 1.01 times 0.8 ms; the teacher's 24 ms are 30 times 0.8.
    assert "| micro | LiteRT | int8 | 4.2 | 0.800 | 0.792 to 0.808 | 30.0× |" in table
    assert (
        "| teacher | LiteRT | float32 | 90.4 | 24.0 | 23.8 to 24.2 | 1.00× | - | 87.4% |" in table
    )
    failed = "| Mobile-BERT | ONNX Runtime | no export: tf2onnx refuses this model: an op | - |"
    assert failed in table and "and more" not in table
    (micro,) = (line for line in table.splitlines() if "micro | LiteRT" in line)
    assert micro.endswith("| - |")
    assert "- local was busy" in table


def test_peers_picture() -> None:
    picture = peers.picture(result())
    words = [
        "".join(e.itertext())
        for e in ElementTree.fromstring(picture).iter()
        if e.tag.endswith("}text")
    ]
    assert "4.2 and 4.4 MB, random weights" in words
    assert "90.4 and 90.9 MB, 87.4%" in words
    assert picture == peers.picture(result())


def test_comparisons_are_counted_by_the_rule_of_the_report() -> None:
    def comparison(a: list[float], b: list[float]) -> dict[str, list[float]]:
        return {"a_ms": a, "b_ms": b}

    same = comparison([1.0, 1.1, 0.9], [1.1, 0.9, 1.0])
    b_slower = comparison([1.0, 1.01, 0.99], [2.0, 2.02, 1.98])
    b_faster = comparison([2.0, 2.02, 1.98], [1.0, 1.01, 0.99])
    assert trust.counted([same, b_slower, b_slower, b_faster, same, same]) == {
        "slower": 2, "faster": 1, "no different": 3,
    }  # fmt: skip


def test_no_op_cost() -> None:
    # 512 no-ops make 1 ms into 1.0512 ms: 0.1 microseconds each.
    calibration = {"a_ms": [1.0, 1.0, 9.0], "b_ms": [1.0512, 1.0512, 1.0]}
    assert trust.no_op_ms(calibration) == pytest.approx(1e-4)


def test_no_ops_are_all_there_and_change_nothing(encoded: Encoded) -> None:
    student = build_student("nano", vocabulary=100, task=TASK, max_length=16)
    slowed = trust.Slowed(student, 7)
    assert np.array_equal(slowed(encoded.inputs), student(encoded.inputs))
    counts = [
        len(parsed(to_litert(model, TASK, 16, variables=student)).subgraphs[0].operators)
        for model in (student, slowed)
    ]
    assert counts[1] == counts[0] + 7


def test_paired_overhead_calls_as_often_bare_as_measured() -> None:
    calls: list[int] = []
    found = trust.paired_overhead(calls.append, [0, 1, 2], blocks=2)
    # Two pairs of blocks to warm up and two that count.
    assert len(calls) == 4 * 2 * trust.BLOCK
    assert {*calls} == {0, 1, 2}
    assert found["takes_more_interval_ns"][0] <= found["takes_more_ns"]


def test_load_is_gone_afterwards() -> None:
    with trust.busy(2) as processes:
        assert [process.poll() for process in processes] == [None, None]
    assert None not in [process.poll() for process in processes]


def test_trust_page_has_the_parts_that_were_run() -> None:
    command = "python benchmarks/trust.py"
    row = trust.ratio([(1.0, 1.0), (1.02, 1.0), (1.01, 1.0)])
    files = {"micro/onnx-int8": {"p50": row, "p5": row}}
    told: dict[str, Any] = {
        "tier": "quick",
        "load": 2,
        "slower": 2,
        "faster": 1,
        "no different": 97,
    }
    # Logarithms of p50 0.1 apart, of p1 0.01.
    repeats = {"a_p50_ms": np.exp([0, 0.1, 0.2]), "a_ms": np.exp([0, 0.01, 0.02])}
    told["comparisons"] = [
        {"environment": {"busy before, %": busy}, **repeats} for busy in (60, 70, 100)
    ]
    page = trust.page({
        "others": {"command": f"{command} others", "tier": "light", "rounds": 3, "files": files},
        "same": {"command": f"{command} same", **told},
    })  # fmt: skip
    assert "Of 100 comparisons in the tier `quick`" in page
    assert "2 called slower, 1 faster, 97 no different. Other programs used 70%" in page
    assert "of the machine (median), 2 of them started here to keep it busy." in page
    assert "varied by 10.0%, and its p1, by which files are compared, by 1.0%" in page
    assert "| micro/onnx-int8 | p50 | 1.01 | 1.00 | 1.010 | 0.985 to 1.035 |" in page
    assert page.index(f"`{command} same`") < page.index(f"`{command} others`")
    assert "What measuring costs" not in page


@pytest.mark.slow
def test_a_shape_is_exported_once(tmp_path: Path) -> None:
    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(**tiny, intermediate_size=16)
    TextEncoder(make_encoder().tokenizer, peers.LENGTH).save(tmp_path)
    split = Split(("good film", "bad film"), np.array([1, 0], np.int32))
    corpus = Corpus(Classification(label_names=("bad", "good")), split, split, split)
    bundles = tmp_path / "bundles"
    load_random = partial(peers.random, "TinyBERT", config, tmp_path, corpus)
    assert not peers.export("TinyBERT", load_random, bundles)
    said = {a.name: a.score.value for name in ("litert", "onnx")
            for a in verify(bundles / f"TinyBERT-{name}").artifacts}  # fmt: skip
    # What the random model said is the truth, so its float32 exports are always right.
    assert said["litert-float32"] == said["onnx-float32"] == 1.0
    assert {*said} == {f"{r}-{q}" for r in ("litert", "onnx") for q in ("float32", "int8")}

    def load() -> Subject:
        raise AssertionError("loaded again")

    assert not peers.export("TinyBERT", load, bundles)
    (bundles / "MiniLM-litert").mkdir()
    (bundles / "MiniLM-onnx.txt").write_text("an op that ONNX lacks\n")
    assert peers.export("MiniLM", load, bundles) == {"MiniLM-onnx": "an op that ONNX lacks"}
