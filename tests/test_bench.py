import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_parts import (
    BRIEF,
    make_bundle,
    make_report,
    make_subject,
    measurement,
    repeat,
)
from conftest import DATA, ROOT
from rich.console import Console
from typer.testing import CliRunner, Result

from kdedge.bench import agent
from kdedge.bench.devices import Device, DeviceLostError, Kind, MeasuredModel
from kdedge.bench.devices.device import agent_program
from kdedge.bench.devices.local import Local
from kdedge.bench.measure import Run, measure
from kdedge.bench.report.compare import compare
from kdedge.bench.report.figures import size_latency_score_figure, trust_figures
from kdedge.bench.report.model import (
    BenchReport,
    Measurement,
    Repeat,
    Summary,
    TextTimes,
    Value,
    three_digits,
)
from kdedge.bench.report.page import Disagreement, duration, render_page, shaded
from kdedge.bench.report.tables import markdown_table, terminal_table
from kdedge.bench.run import REPORT, Grid, Labelled, bench_bundles
from kdedge.bench.scenario import TIERS, Scenario, scenario
from kdedge.bundle.decision import Bin, Calibration, Coverage, Decision, Margin, Trust, Typical
from kdedge.cli import app
from kdedge.cli.bench import _texts_of
from kdedge.errors import KdedgeError
from kdedge.files import sha256
from kdedge.recipe import Data
from kdedge.runtime import load_bundle
from kdedge.text.corpus import load_corpus
from kdedge.text.encoder import Encoded

SHIPPED = ROOT / "android_demo/app/src/main/assets/bundle"


def run_agent(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    program = Path(request["model"]).with_name("agent.pyz")
    program.write_bytes(agent_program())
    process = subprocess.run(
        [sys.executable, program], input=json.dumps(request), capture_output=True, text=True
    )
    return process.returncode, json.loads(process.stdout)


def request(model: Path, format: str, folder: Path, texts: Encoded) -> dict[str, Any]:
    path = folder / "texts.npz"
    np.savez(path, ids=texts.ids, mask=texts.mask, segment_ids=texts.segment_ids)
    limits = {"warmup_count": 1, "warmup_seconds": 0, "min_count": 7, "min_seconds": 0}
    what = {"kind": "time", "model": str(model), "format": format, "inputs": str(path)}
    return {**what, "threads": 1, "batch": 1, **limits}


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_agent_measures(
    format: str, tflite: Path, onnx_file: Path, tmp_path: Path, encoded: Encoded
) -> None:
    model = {"litert": tflite, "onnx": onnx_file}[format]
    status, answer = run_agent(request(model, format, tmp_path, encoded))
    assert status == 0, answer
    assert len(answer["samples_ns"]) == 7
    assert min(answer["samples_ns"]) > 0
    assert answer["load_ns"] > 0 and answer["first_inference_ns"] > 0
    assert answer["peak_rss_bytes"] > 10e6
    assert answer["runtime"]["name"] == {"litert": "LiteRT", "onnx": "ONNX Runtime"}[format]


def test_agent_measures_until_both_limits_are_reached(
    onnx_file: Path, tmp_path: Path, encoded: Encoded
) -> None:
    long = request(onnx_file, "onnx", tmp_path, encoded) | {"min_seconds": 0.2}
    _, answer = run_agent(long)
    assert len(answer["samples_ns"]) > 7


def test_agent_answers_an_error_as_json(tmp_path: Path, encoded: Encoded) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    status, answer = run_agent(request(broken, "litert", tmp_path, encoded))
    assert status == 1
    assert "EngineError: LiteRT refuses this model: " in answer["error"]


class Scripted(Device):
    """A device that gives the answers it is set up with, or raises them if they are errors."""

    url = "scripted"

    def __init__(self, answers: list[Any], busy: float = 0) -> None:
        self.answers, self.busy = answers, busy
        self.asked: list[str] = []

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def environment(self) -> dict[str, Value]:
        return {"CPU": "scripted"}

    def state(self) -> dict[str, Value]:
        return {"busy, %": self.busy}

    def run(self, subject: MeasuredModel, scenario: Scenario, kind: Kind) -> Any:
        self.asked.append(subject.name)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def answered(median_ns: int) -> dict[str, Any]:
    runtime = {"name": "ONNX Runtime", "version": "1"}
    return repeat([median_ns]).model_dump() | {"runtime": runtime}


@pytest.fixture
def run_on(onnx_file: Path, tmp_path: Path) -> Callable[..., Run]:
    """A function that measures subjects of these names twice, and keeps earlier measurements."""

    def run(device: Device, *names: str) -> Run:
        subjects = [make_subject(name, onnx_file, tmp_path) for name in names]
        return measure(device, subjects, BRIEF, lambda count, /, note="": None, tmp_path / "kept")

    return run


def test_measure_keeps_what_the_others_measured(onnx_file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    subjects = [
        make_subject(name, file, tmp_path)
        for name, file in (("good", onnx_file), ("broken", broken))
    ]
    order: list[str] = []
    run = measure(
        Local(), subjects, BRIEF, lambda done, /, note="": order.append(note), tmp_path / "kept"
    )
    # Alternately an inference and a text for each subject, then the memory of each.
    first, second = ["good"] * 2, ["broken"] * 2
    assert order == [*first, *second, *second, *first, "good", "broken"]
    assert list(run.failures) == ["broken"]
    assert [len(repeat.samples_ns) for repeat in run.repeats["good"]] == [5, 5]
    assert "broken" not in run.repeats
    (text, _), memory = run.texts["good"], run.others["good"]["memory"]
    assert len(text.tokenize_ns) == len(text.end_to_end_ns) == 5
    assert all(0 < a < b for a, b in zip(text.tokenize_ns, text.end_to_end_ns, strict=True))
    assert memory.baseline_bytes > 10e6 and 0 <= memory.load_rise_bytes <= memory.rise_bytes < 50e6
    facts = {"CPU", "cores", "memory, MB", "load before", "load after", "busy before, %"}
    assert facts <= set(run.environment)
    assert "ONNX Runtime" in run.environment


def test_measure_says_when_the_machine_is_busy(run_on: Callable[..., Run]) -> None:
    for busy, reasons in ((25.0, 0), (26.0, 1)):
        run = run_on(Scripted([answered(100), answered(100)], busy), f"busy {busy}")
        assert len(run.reasons) == reasons
        assert all("other programs used 26%" in reason for reason in run.reasons)


def test_measure_says_when_repeats_differ(run_on: Callable[..., Run]) -> None:
    assert run_on(Scripted([answered(100), answered(149)]), "even").reasons == ()
    (reason,) = run_on(Scripted([answered(100), answered(151)]), "uneven").reasons
    assert reason.startswith("uneven: the slowest repeat took 1.51 times as long as the fastest")


def test_measure_says_when_the_device_slows_down(run_on: Callable[..., Run]) -> None:
    def third_by_third(*medians: int) -> dict[str, Any]:
        return answered(1) | {"samples_ns": [ns for median in medians for ns in [median] * 50]}

    assert run_on(Scripted([third_by_third(100, 100, 120)] * 2), "steady").reasons == ()
    (reason,) = run_on(Scripted([third_by_third(100, 100, 121)] * 2), "hot").reasons
    assert reason.startswith("hot: the last third of a repeat was 1.21 times as slow as the first")


def test_a_device_that_goes_away_is_named_and_the_run_goes_on_later(
    run_on: Callable[..., Run],
) -> None:
    # The order is a, b, then b, a. The device is lost in the third measurement.
    gone = Scripted([answered(1), answered(2), DeviceLostError("scripted went away.")], busy=50)
    run = run_on(gone, "a", "b")
    assert run.repeats == {}
    assert list(run.failures) == ["scripted"]
    assert "scripted went away. 2 of 4 runs are kept" in run.failures["scripted"]

    back = Scripted([answered(3), answered(4)])
    run = run_on(back, "a", "b")
    assert back.asked == ["b", "a"]
    assert run.failures == {}
    medians = {name: [r.samples_ns for r in repeats] for name, repeats in run.repeats.items()}
    assert medians == {"a": [(1,), (4,)], "b": [(2,), (3,)]}
    # The first half was measured on a busy machine, which the result still says.
    assert any("other programs used 50%" in reason for reason in run.reasons)


def test_what_was_kept_is_of_no_use_where_anything_differs(run_on: Callable[..., Run]) -> None:
    run_on(Scripted([answered(1), answered(1)]), "a")
    changed, another = (Scripted([answered(2), answered(2)]) for _ in range(2))
    changed.environment = lambda: {"CPU": "changed"}  # type: ignore[method-assign]
    another.url = "another"
    for device in (changed, another):
        run_on(device, "a")
        assert device.asked == ["a", "a"]


@pytest.mark.parametrize("rubbish", [None, [], {}, "text", {"samples_ns": [1]}, {"load_ns": -1}])
def test_rubbish_is_no_measurement(run_on: Callable[..., Run], rubbish: Any) -> None:
    run = run_on(Scripted([rubbish]), "a")
    assert run.repeats == {}
    assert "the program on the device gave no valid measurement" in run.failures["a"]


def test_bench_of_a_bundle(tflite: Path, onnx_file: Path, tmp_path: Path) -> None:
    models = {"litert-float32": tflite, "onnx-float32": onnx_file}
    bundle = make_bundle(tmp_path / "bundle", "nano", models)
    report = bench_bundles([bundle], tmp_path / "report", BRIEF)
    assert [m.name for m in report.measurements] == ["litert-float32", "onnx-float32"]
    # The ONNX model takes any length, so it gets the LiteRT model's.
    assert [m.length for m in report.measurements] == [8, 8]
    assert report.measurements[0].sha256 == sha256(tflite)
    assert report.measurements[0].source == "nano"
    assert all(len(m.repeats) == 2 for m in report.measurements)
    assert BenchReport.load(tmp_path / "report/results.json") == report
    svg = (tmp_path / "report/size_latency_score.svg").read_text()
    assert "litert-float32" in svg


def test_bench_finds_the_accuracy_on_the_device(tmp_path: Path) -> None:
    corpus = load_corpus(DATA, split="split")
    texts = corpus.test.texts[:20]
    true = [corpus.task.output_names[label] for label in corpus.test.labels[:20]]
    predicted = [prediction.label for prediction in load_bundle(SHIPPED).predict(texts)]
    right = sum(a == b for a, b in zip(predicted, true, strict=True))
    labelled = Labelled(texts, tuple(true))
    report = bench_bundles([SHIPPED], tmp_path / "report", BRIEF, labelled=labelled)
    for found in report.measurements:
        assert found.score_texts == 20 and found.score == pytest.approx(right / 20, abs=0.051)
        assert found.reference and found.reference.texts == 20
        assert found.reference.agreement == 1.0
        # ONNX Runtime there gets texts padded, which moves what int8 is scaled by.
        most = 1e-6 if found.format == "litert" else 1e-2
        assert found.reference.max_difference < most
        assert len(found.texts) == 2 and found.memory
    assert report.measurements[0].score == right / 20  # the bundle's default
    assert BenchReport.load(tmp_path / "report" / REPORT) == report
    with pytest.raises(
        KdedgeError, match="labelled, for .*: unknown labels: neutral. Allowed: negative, pos"
    ):
        bench_bundles([SHIPPED], tmp_path / "no", BRIEF, labelled=Labelled(("a",), ("neutral",)))


def test_bench_on_a_grid(tflite: Path, onnx_file: Path, tmp_path: Path) -> None:
    models = {"litert-float32": tflite, "onnx-float32": onnx_file}
    bundle = make_bundle(tmp_path / "bundle", "nano", models)
    grid = Grid(threads=(1, 2), lengths=(4, 8), batches=(1, 3))
    report = bench_bundles([bundle], tmp_path / "report", BRIEF, grid=grid)
    names = [m.name for m in report.measurements]
    # A LiteRT model has one length, 8 here, and takes one text at a time.
    assert names[:2] == [
        "litert-float32, 8 tokens, 1 thread, batch 1",
        "litert-float32, 8 tokens, 2 threads, batch 1",
    ]
    assert len(names) == 2 + 2 * 2 * 2
    last = report.measurements[-1]
    assert (last.length, last.threads, last.batch) == (8, 2, 3)
    assert last.texts_a_second == pytest.approx(3000 / last.p50_ms)
    with pytest.raises(KdedgeError, match="lengths: 17; .* takes at most 16"):
        bench_bundles([bundle], tmp_path / "report", BRIEF, grid=Grid(lengths=(17,)))

    class App(Local):
        own_inputs = True

    for own in (Grid(batches=(1, 3)), Grid(lengths=(8,))):
        with pytest.raises(KdedgeError, match="the app runs one text at a time, at its own length"):
            bench_bundles([bundle], tmp_path / "report", BRIEF, devices=[App()], grid=own)
    only = make_bundle(tmp_path / "only", "nano", {"litert-float32": tflite})
    with pytest.raises(KdedgeError, match="none of the lengths and batches asked for"):
        bench_bundles([only], tmp_path / "report", BRIEF, grid=Grid(batches=(2,)))


def test_the_command_line_has_all_of_it(onnx_file: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", "nano", {"onnx-float32": onnx_file})
    (tmp_path / "data.csv").write_text(
        "text,label\n" + "".join(f"film {i},{('good', 'bad')[i % 2]}\n" for i in range(20))
    )
    gaps = tmp_path / "gaps.csv"
    gaps.write_text("text,label\nfilm,good\n,bad\n")

    def run(*arguments: str) -> Result:
        command = ["bench", str(bundle), "--report", str(tmp_path / "report"), "--tier", "quick"]
        return CliRunner().invoke(app, [*command, *arguments])

    done = run("--scenario", "throughput", "--batches", "2", "--threads", "2", "--lengths", "4")
    assert done.exit_code == 0, done.output
    (found,) = BenchReport.load(tmp_path / "report" / REPORT).measurements
    assert (found.batch, found.threads, found.length) == (2, 2, 4)
    assert "texts a second" in done.output
    for arguments, message in (
        (
            ("--data", str(tmp_path / "data.csv")),
            "unknown labels: bad, good. Allowed: negative, positive",
        ),
        (("--data", str(tmp_path / "data.csv")), "as there is no --split"),
        (("--data", str(gaps), "--empty-texts", "skip"), "empty texts left out: 1"),
        (("--threads", "1,0"), "--threads: Input should be greater than or equal to 1. Got '0'"),
        (("--lengths", "8,8"), "--lengths: (8, 8). Give each number once"),
        (("--batches", "many"), "--batches: Input should be a valid integer"),
        (("--scenario", "warm"), "scenario: there is no 'warm'"),
    ):
        refused = run(*arguments)
        assert refused.exit_code == 2 and message in " ".join(refused.output.split())


@pytest.mark.parametrize(("part", "split"), [("test", "part"), ("train", None)])
def test_a_file_that_is_only_scored(
    part: str, split: str | None, onnx_file: Path, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundle", "nano", {"onnx-float32": onnx_file})
    path = tmp_path / "data.csv"
    path.write_text(f"text,label,part\na film,positive,{part}\nno label,,{part}\n")
    assert _texts_of(Data(path=path, split=split), [bundle]) == (("a film",), ("positive",))
    path.write_text("text,label,part\na film,positive,train\n")
    with pytest.raises(KdedgeError, match="no test text has a label"):
        _texts_of(Data(path=path, split="part"), [bundle])


def test_the_time_of_cold_starts(tflite: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", "nano", {"litert-float32": tflite})
    cold = scenario("quick", "cold-start").model_copy(update={"repeats": 2})
    (found,) = bench_bundles([bundle], tmp_path / "report", cold).measurements
    starts = [(r.load_ns + r.first_inference_ns) / 1e6 for r in found.repeats]
    assert found.cold_start_ms == pytest.approx(sum(starts) / 2)
    assert [len(r.samples_ns) for r in found.repeats] == [1, 1]


def test_scenarios() -> None:
    cold, light = scenario("light", "cold-start"), TIERS["light"]
    assert (cold.repeats, cold.min_count, cold.warmup_count) == (4 * light.repeats, 1, 0)
    sustained = scenario("light", "sustained")
    assert (sustained.min_seconds, sustained.repeats) == (120, 1)
    # 120 s, three times 6.5 s, and 5 s for each of 16 + 64 inferences.
    assert light.limit_seconds == 120 + 19.5 + 400
    with pytest.raises(KdedgeError, match="no 'warm'. Allowed: single-stream, cold-start, sust"):
        scenario("light", "warm")


def test_a_process_that_hangs_is_stopped(
    tmp_path: Path, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scenario, "limit_seconds", 0.01)
    with pytest.raises(KdedgeError, match="not done after 0 s, and was stopped"):
        Local().run(make_subject("a", onnx_file, tmp_path), BRIEF, "time")


def test_energy_counters() -> None:
    counters = {"/sys/class/powercap/intel-rapl:[0-9]/energy_uj": "1000000\n500000\n"}
    assert agent.microjoules(lambda pattern: counters.get(pattern, "")) == 1_500_000
    assert agent.microjoules(lambda pattern: "") is None
    assert agent.joules(1_500_000, 4_000_000) == 2.5
    # Counters that started again; a missing counter is not 0.
    assert agent.joules(4_000_000, 1_500_000) is agent.joules(None, 1) is None
    one = measurement("nano/litert-int8", 1, 1.0, 0.8, 1.0)
    assert one.millijoules is None
    energy = repeat([1000] * 4).model_copy(update={"joules": 0.002})
    facts = one.model_dump() | {"repeats": [energy.model_dump()], "batch": 2}
    assert Measurement.model_validate(facts).millijoules == 0.25


def test_bench_names_what_fails_and_keeps_the_rest(onnx_file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    teacher = make_bundle(tmp_path / "teacher", "teacher", {"onnx-float32": onnx_file})
    student = make_bundle(
        tmp_path / "student", "nano", {"onnx-float32": onnx_file, "onnx-int8": broken}
    )
    with pytest.raises(KdedgeError, match="nano/onnx-int8: .*Protobuf parsing failed"):
        bench_bundles([teacher, student], tmp_path / "report", BRIEF)
    report = BenchReport.load(tmp_path / "report/results.json")
    assert [m.name for m in report.measurements] == ["teacher/onnx-float32", "nano/onnx-float32"]
    assert list(report.failures) == ["nano/onnx-int8"]
    # No LiteRT model says a length: the manifest's max_length.
    assert report.measurements[0].length == 16


def test_bench_refuses_bundles_of_one_name(onnx_file: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", "nano", {"onnx-float32": onnx_file})
    with pytest.raises(KdedgeError, match="names must differ"):
        bench_bundles([bundle, bundle], tmp_path / "report", BRIEF)
    with pytest.raises(KdedgeError, match="none given"):
        bench_bundles([], tmp_path / "report", BRIEF)


def test_bench_refuses_a_changed_bundle(onnx_file: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", "nano", {"onnx-float32": onnx_file})
    (bundle / "tiny.onnx").write_bytes(b"other")
    with pytest.raises(KdedgeError, match="SHA-256 differs"):
        bench_bundles([bundle], tmp_path / "report", BRIEF)


def test_tiers_are_named_in_the_error() -> None:
    assert scenario("full") == TIERS["full"]
    assert (TIERS["full"].min_count, TIERS["full"].min_seconds) == (1024, 60)
    with pytest.raises(KdedgeError, match="no 'fast'. Allowed: quick, light, standard, full"):
        scenario("fast")


def test_figures_of_a_measurement() -> None:
    m = measurement("micro/litert-int8", 4_200_000, 2.0, 0.8, 1.0)
    # Repeats at 1.98, 2.00 and 2.02 ms; the p90 of 0.95, 1, 1.15 is 1 + 0.8 * 0.15 = 1.12.
    assert m.repeats_p50_ms == pytest.approx((1.98, 2.0, 2.02))
    assert m.p50_ms == pytest.approx(2.0)
    assert m.p90_ms == pytest.approx(2.24)
    assert m.load_ms == 20.0
    assert m.first_inference_ms == pytest.approx(2 * 0.95 * 2.0)


@pytest.fixture
def report() -> BenchReport:
    return make_report()


def test_speed_up_is_against_the_teacher_in_the_same_runtime(report: BenchReport) -> None:
    teacher, _, _, best = report.measurements[:4]
    assert report.best == best
    assert report.speed_up(teacher) is None
    speed_up = report.speed_up(best)
    assert speed_up is not None
    assert speed_up.baseline == teacher
    assert speed_up.verdict == "30.0× faster"
    # Both have 3 repeats 1% apart: 30 * exp(+-2.7764 * 0.01 * sqrt(2 / 3)).
    assert speed_up.interval == "29.3 to 30.7"
    assert report.retention(best) == pytest.approx(0.8595 / 0.874)
    nothing = [m.model_copy(update={"score": 0.0}) for m in report.measurements]
    assert report.model_copy(update={"measurements": tuple(nothing)}).retention(best) is None


def test_faster_is_reported_only_where_the_interval_leaves_out_one(report: BenchReport) -> None:
    teacher = report.measurements[0]
    same = measurement("micro/litert-int8", 1, 23.9, 0.8, 1.0)
    slower = measurement("micro/litert-slow", 1, 30.0, 0.8, 1.0)
    report = report.model_copy(update={"measurements": (teacher, same, slower)})
    verdicts = [s.verdict for m in (same, slower) if (s := report.speed_up(m))]
    assert verdicts == ["no different", "1.25× slower"]


def test_what_disturbs_most_inferences_changes_no_verdict(report: BenchReport) -> None:
    def disturbed(r: Repeat) -> Repeat:
        fast, *others = r.samples_ns
        return r.model_copy(update={"samples_ns": (fast, *(2 * ns for ns in others))})

    calm = report.measurements[3]
    other = calm.model_dump() | {"repeats": [disturbed(r).model_dump() for r in calm.repeats]}
    slow = Measurement.model_validate(other)
    assert slow.p50_ms == pytest.approx(2 * calm.p50_ms)
    # Of 0.95 and 2 times 0.8 ms, and a third that is more: a fiftieth of the way.
    assert slow.p1_ms == pytest.approx(0.8 * (0.95 + 0.02 * (2 - 0.95)))
    (change,) = compare(
        report.model_copy(update={"measurements": (calm,)}),
        report.model_copy(update={"measurements": (slow,)}),
    ).changes
    assert change.ratio == pytest.approx(0.971 / 0.951)


def test_short_texts_do_not_decide_how_fast_a_model_is(report: BenchReport) -> None:
    """One artifact takes 1 ms for all texts, the other 0.1 ms for the one short text of five."""
    answers = {
        "teacher/litert-float32": (8, 8, 8, 8, 8),
        "micro/litert-int8": (1, 1, 1, 1, 1),
        "micro/litert-int8-lengths": (0.1, 1, 1, 1, 2),
    }
    measured = []
    for name, ms in answers.items():
        times = TextTimes(tokenize_ns=(1,), end_to_end_ns=tuple(round(1e6 * n) for n in ms))
        one = measurement(name, 1, 1.0, 0.8, 1.0)
        measured.append(one.model_copy(update={"texts": (times,) * 3}))
    report = report.model_copy(update={"measurements": tuple(measured)})
    verdicts = [s.verdict for m in measured if (s := report.text_speed_up(m))]
    assert verdicts == ["8.00× faster", "8.00× faster"]


def test_best_gives_up_at_most_a_point_of_accuracy(report: BenchReport) -> None:
    nano = measurement("nano/litert-int8", 400_000, 0.1, 0.845, 0.99)
    report = report.model_copy(update={"measurements": (*report.measurements, nano)})
    assert report.best is not None
    assert report.best.name == "micro/litert-int8"


def test_report_goes_to_json_and_back(report: BenchReport, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    report.save(path)
    assert BenchReport.load(path) == report
    stored = json.loads(path.read_text())
    assert stored["measurements"][3]["p50_ms"] == pytest.approx(0.8)
    assert len(stored["measurements"][3]["repeats"][0]["samples_ns"]) == 3

    path.write_text(json.dumps(stored | {"format_version": 9}))
    with pytest.raises(KdedgeError, match="format_version is 9 and this kdedge reads 4"):
        BenchReport.load(path)
    path.write_text("{}")
    with pytest.raises(KdedgeError, match="not a readable benchmark report"):
        BenchReport.load(path)


def test_terminal_table(report: BenchReport) -> None:
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(terminal_table(report))
    lines = capture.get().splitlines()
    (row,) = [line for line in lines if "micro/litert-int8" in line]
    for figure in ("4.2", "86.0%", "99.2%", "0.800", "30.0× faster"):
        assert figure in row


def test_a_terminal_of_80_columns_shows_all_figures_and_why_a_run_is_not_valid(
    report: BenchReport,
) -> None:
    reason = "local was busy."
    names = ("teacher/litert-int8-lengths", "micro/litert-int8-lengths")
    ms = tuple(measurement(name, 90_000_000, 12.34, 0.8512, 0.9934) for name in names)
    report = report.model_copy(update={"valid": False, "reasons": (reason,), "measurements": ms})
    console = Console(width=80)
    with console.capture() as capture:
        console.print(terminal_table(report))
    shown = capture.get()
    assert "…" not in shown
    assert all(head in shown for head in ("accuracy", "agrees", "speed-up", "p50, ms"))
    assert all(name in shown for name in names)
    assert reason in shown
    assert "`kdedge bench`" in shown


def test_figure_is_the_same_each_time(report: BenchReport) -> None:
    svg = size_latency_score_figure(report)
    assert svg == size_latency_score_figure(report)
    assert "<dc:date>" not in svg
    for m in report.measurements:
        assert f"{m.name}, {m.size}" in svg


def test_figure_of_nothing_and_of_odd_names(report: BenchReport) -> None:
    odd = measurement("$x^2$ <b>/litert-int8", 10, 1.0, 0.8, 1.0)
    svg = size_latency_score_figure(report.model_copy(update={"measurements": (odd,)}))
    assert "$x^2$ &lt;b&gt;/litert-int8" in svg
    assert "<svg" in size_latency_score_figure(report.model_copy(update={"measurements": ()}))


def make_page(report: BenchReport) -> str:
    student = [
        {
            "epoch": e,
            "loss": 0.9 * 0.8**e + 0.1,
            "val_loss": 0.8 * 0.8**e + 0.18,
            "val_accuracy": 0.862 - 0.1 * 0.6**e,
        }
        for e in range(1, 9)
    ]
    teacher = [
        {"epoch": 1, "loss": 0.45, "val_accuracy": 0.861},
        {"epoch": 2, "loss": 0.27, "val_accuracy": 0.878},
        {"epoch": 3, "loss": 0.16, "val_accuracy": 0.876},
    ]
    texts = (
        ("<script>alert(1)</script> A film so dull that its ending seems relieved.", "negative"),
        ("It should not work at all, and for long stretches it doesn't, yet I left smiling.",
         "positive"),
    )  # fmt: skip
    return render_page(
        report,
        title="Movie reviews <micro>",
        training={"teacher": teacher, "student": student},
        disagreements=[
            Disagreement(text, label, "negative", 0.93, "positive", 0.61) for text, label in texts
        ],
        stages={"fine-tune": 192.0, "soft labels": 64.2, "distil": 3840.0, "bench": 41.0},
        trusts={"micro/litert-int8": make_trust()},
    )


def make_trust() -> Trust:
    half = Coverage(threshold=0.7, coverage=0.5, right=0.9, interval=(0.86, 0.93))
    whole = Coverage(threshold=0.0, coverage=1.0, right=0.8, interval=(0.77, 0.83))
    return Trust(
        decision=Decision(temperature=1.25, thresholds=(0.7,)),
        calibration=Calibration(
            valid_texts=500, test_labels=800, error_before=0.081, error_after=0.014,
            by_chance=0.021,
            bins=(Bin(labels=400, confidence=0.6, right=0.7),
                  Bin(labels=400, confidence=0.8, right=0.9)),
        ),
        answered=half,
        curve=(whole, half),
        typical=Typical(texts=800, unsure=0.5, unknown=0.0, answers=(0.5, 0.5), lengths=(7,) * 9),
    )  # fmt: skip


def test_page_says_when_to_trust_an_answer(report: BenchReport) -> None:
    page = make_page(report)
    shown = page[page.index("When to trust an answer") :]
    row = re.sub(r"<[^>]+>", " ", shown[shown.index("<tbody") : shown.index("</tbody>")])
    assert row.split() == [
        "micro/litert-int8", "1.25", "8.1%", "1.4%", "2.1%", "50.0%", "90.0%", "86.0%", "to",
        "93.0%",
    ]  # fmt: skip
    assert shown[: shown.index("<table")].count("<svg") == 2


def test_page_says_how_far_scores_are_from_labels(report: BenchReport) -> None:
    of_scores = Trust(
        decision=Decision(max_unknown=0.5),
        margin=Margin(share=0.9, margin=0.8125, texts=400, within=0.91, interval=(0.87, 0.93)),
        typical=Typical(
            texts=400, unsure=0, unknown=0, answers=(), scores=(3.0,) * 9, lengths=(7,) * 9
        ),
    )
    page = render_page(
        report, title="Stars", training=None, disagreements=None, stages=None,
        trusts={"litert-int8": of_scores},
    )  # fmt: skip
    shown = page[page.index("When to trust an answer") :]
    shown = shown[: shown.index("</section>")]
    assert "91.0% of the 400 test texts (87.0% to 93.0%)" in shown
    assert "by at most 0.812, which was chosen on the valid split for 90.0%" in shown
    assert "<table" not in shown and "<svg" not in shown


def test_no_figure_is_drawn_of_answers_that_are_never_unsure() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trust_figures({}) == {}


def test_page_needs_no_network(report: BenchReport) -> None:
    page = make_page(report)
    assert page.count("<script") == page.count("<script>") == 1
    assert "@import" not in page and "<link" not in page
    fetched = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert all(target.startswith("#") for target in fetched), fetched


def test_page_escapes_what_it_is_given(report: BenchReport) -> None:
    page = make_page(report)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; A film so dull" in page
    assert "<h1>Movie reviews &lt;micro&gt;</h1>" in page
    # Two pictures; loss and accuracy of teacher and student; two of trust.
    assert page.count("<svg ") == 8
    assert "&lt;svg" not in page


def test_page_shades_what_made_them_decide(report: BenchReport) -> None:
    pieces = [("dull", -0.5), ("mov", 0.25), ("##ies", 2.0), ("<b>", 0.0)]
    assert shaded(pieces) == [
        (" ", "dull", "against", 25),
        (" ", "mov", "for", 12),
        ("", "ies", "for", 100),
        (" ", "<b>", "for", 0),
    ]
    for mark in "Ġ▁":
        own = [(f"{mark}mov", 1.0), ("ies", 0.5), ("##", 0.0)]
        assert [one[:2] for one in shaded(own)] == [(" ", "mov"), ("", "ies"), ("", "")]
    assert shaded([]) == [] and shaded([("a", 0.0)]) == [(" ", "a", "for", 0)]
    disagreement = Disagreement(
        "dull movies", "negative", "negative", 0.9, "positive", 0.6, pieces, pieces[:1]
    )
    page = render_page(report, title="t", training=None, disagreements=[disagreement], stages=None)
    lines = [line.strip() for line in page.splitlines() if 'class="pieces"' in line]
    assert lines == [
        '<p class="pieces"><span class="by">teacher</span>'
        ' <span class="against" style="--much: 25">dull</span>'
        ' <span class="for" style="--much: 12">mov</span>'
        '<span class="for" style="--much: 100">ies</span>'
        ' <span class="for" style="--much: 0">&lt;b&gt;</span></p>',
        '<p class="pieces"><span class="by">student</span>'
        ' <span class="against" style="--much: 100">dull</span></p>',
    ]
    # No legend for shades if there are none.
    assert "integrated gradients" in page and "integrated gradients" not in make_page(report)


def test_page_says_whether_the_run_is_valid(report: BenchReport) -> None:
    assert "This run is valid." in make_page(report)
    bad = report.model_copy(
        update={"valid": False, "reasons": ("It was busy.",), "failures": {"a": "broke"}}
    )
    page = make_page(bad)
    assert "This run is not valid." in page
    assert "It was busy." in page
    assert "a: broke" in page


def test_tables_and_page_of_two_devices(report: BenchReport) -> None:
    by_samples, *_ = report.measurements
    summary = Summary(count=64, mean_ns=3e6)
    by_mean = by_samples.model_copy(
        update={
            "name": "teacher/litert-float32 on adb://1",
            "device": "adb://1",
            "repeats": (
                Repeat(
                    load_ns=1, first_inference_ns=1, samples_ns=(), summary=summary,
                    peak_rss_bytes=None,
                ),
            ),
        }
    )  # fmt: skip
    report = report.model_copy(
        update={
            "measurements": (by_samples, by_mean),
            "environments": {"local": {"CPU": "one"}, "adb://1": {"CPU": "another"}},
        }
    )
    assert (by_mean.p50_ms, by_mean.p90_ms, by_mean.p50_is_mean) == (3.0, None, True)
    # Measured on another device: neither faster nor slower.
    assert report.speed_up(by_mean) is None and report.speed_up(by_samples) is None
    assert "|  | baseline | 3.00 (mean) |" in markdown_table(report)
    page = make_page(report)
    assert "<h3>local</h3>" in page and "<h3>adb://1</h3>" in page
    assert "<small>mean</small>" in page
    assert "<h3>local</h3>" not in make_page(make_report())


def test_page_without_the_optional_parts(report: BenchReport) -> None:
    alone = report.model_copy(update={"measurements": report.measurements[2:4]})
    page = render_page(alone, title="t", training=None, disagreements=None, stages=None)
    assert "Retention" not in page
    assert "Training" not in page
    nothing = report.model_copy(update={"measurements": ()})
    assert "t</h1>" in render_page(
        nothing, title="t", training=None, disagreements=None, stages=None
    )


def test_numbers_for_people() -> None:
    assert [duration(s) for s in (0.4, 59.4, 192, 3840)] == [
        "0 s",
        "59 s",
        "3 min 12 s",
        "1 h 4 min",
    ]
    assert [three_digits(v) for v in (0.0512, 1.2, 99.94, 1234.5)] == [
        "0.0512", "1.20", "99.9", "1234",
    ]  # fmt: skip
