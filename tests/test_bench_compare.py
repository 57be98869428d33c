"""Comparisons of two reports, made by hand: the repeats are 0.99, 1 and 1.01 times a latency."""

import json
from pathlib import Path

import jsonschema
import pytest
from bench_parts import make_report, measurement
from typer.testing import CliRunner, Result

from kdedge.bench.report import model as report_module
from kdedge.bench.report.compare import compare
from kdedge.bench.report.model import BenchReport, Measurement, Placement, report_schema
from kdedge.bench.report.tables import markdown_table
from kdedge.cli import app


def report_of(*ms: tuple[str, int, float, float]) -> BenchReport:
    """A report of artifacts, each a name, a size in bytes, a latency in ms and an accuracy."""
    made = [measurement(name, size, time, accuracy, 1.0) for name, size, time, accuracy in ms]
    return make_report().model_copy(update={"measurements": tuple(made)})


def placed(measured: Measurement, placement: Placement) -> Measurement:
    """The measurement, from an app that says where it ran."""
    repeats = tuple(r.model_copy(update={"placement": placement}) for r in measured.repeats)
    return measured.model_copy(update={"repeats": repeats})


def run(folder: Path, old: BenchReport, new: BenchReport, *more: str) -> Result:
    old.save(folder / "old.json")
    new.save(folder / "new.json")
    files = [str(folder / "old.json"), str(folder / "new.json")]
    return CliRunner().invoke(app, ["bench", "--compare", *files, *more])


OLD = report_of(("nano/onnx-int8", 1000, 1.0, 0.8), ("nano/litert-int8", 1000, 2.0, 0.8))


def test_slower_faster_and_unchanged() -> None:
    new = report_of(
        ("nano/onnx-int8", 1000, 1.1, 0.8), ("nano/litert-int8", 1000, 1.5, 0.8)
    )  # fmt: skip
    slower, faster = compare(OLD, new).changes
    assert (slower.verdict, faster.verdict) == ("slower", "faster")
    assert slower.ratio == pytest.approx(1.1)
    # Both have 3 repeats 1% apart: 1.1 * exp(+-2.7764 * 0.01 * sqrt(2 / 3)).
    assert (slower.low, slower.high) == pytest.approx((1.0753, 1.1252), abs=1e-4)
    assert faster.ratio == pytest.approx(0.75)
    same = compare(OLD, report_of(("nano/onnx-int8", 1000, 1.005, 0.8))).changes[0]
    assert same.low < 1 < same.high
    assert same.verdict == "unchanged"


def test_regressions_are_past_the_threshold_in_speed_size_or_accuracy() -> None:
    def worse(size: int, ms: float, accuracy: float, threshold: float) -> list[str]:
        old = report_of(("nano/onnx-int8", 1000, 1.0, 0.8))
        new = report_of(("nano/onnx-int8", size, ms, accuracy))
        return compare(old, new).regressions(threshold)

    assert worse(1000, 1.1, 0.8, 0.15) == []
    assert worse(1000, 1.1, 0.8, 0.05) == ["nano/onnx-int8: 10.0% slower"]
    assert worse(1060, 1.0, 0.8, 0.05) == ["nano/onnx-int8: 6.0% larger"]
    # 0.74 of 0.8 is 7.5% less, and six points.
    assert worse(1000, 1.0, 0.74, 0.05) == ["nano/onnx-int8: accuracy down by 6.0 points"]
    assert worse(900, 0.5, 0.9, 0.0) == []
    # Above the threshold of 0, but within the differences between repeats.
    assert worse(1000, 1.005, 0.8, 0.0) == []


def test_correlations_can_be_negative() -> None:
    def worse(before: float, after: float) -> list[str]:
        old, new = (report_of(("nano/onnx-int8", 1000, 1.0, score)) for score in (before, after))
        return compare(old, new).regressions(0.05)

    assert worse(-0.1, 0.2) == [] and worse(-0.1, -0.14) == [] and worse(0.0, 0.1) == []
    assert worse(-0.1, -0.2) == ["nano/onnx-int8: accuracy down by 10.0 points"]
    assert worse(0.1, -0.1) == ["nano/onnx-int8: accuracy down by 20.0 points"]


def test_artifacts_that_only_one_report_has() -> None:
    new = report_of(("nano/onnx-int8", 1000, 1.0, 0.8), ("nano/onnx-float32", 4000, 1.0, 0.8))
    found = compare(OLD, new)
    assert (found.gone, found.added) == (("nano/litert-int8",), ("nano/onnx-float32",))
    assert found.regressions(0.05) == ["nano/litert-int8: not in the new report"]


def test_doubts() -> None:
    assert compare(OLD, OLD).doubts == ()
    other = OLD.model_copy(
        update={"valid": False, "environments": {"local": {"CPU": "another", "cores": 8}}}
    )
    assert compare(OLD, other).doubts == (
        "The new run is not valid.",
        "local had another CPU: a made-up CPU, now another.",
    )


def test_command_line(tmp_path: Path) -> None:
    new = report_of(
        ("nano/onnx-int8", 1000, 1.1, 0.79), ("nano/litert-int8", 500, 1.5, 0.8)
    )  # fmt: skip
    same = run(tmp_path, OLD, OLD)
    assert same.exit_code == 0, same.output
    slower = run(tmp_path, OLD, new)
    assert slower.exit_code == 1
    (row,) = [line for line in slower.stdout.splitlines() if "nano/onnx-int8" in line]
    for figure in ("1.00", "1.10", "1.100", "slower", "-1.0 points", "+0.0%"):
        assert figure in row
    assert "worse: nano/onnx-int8: 10.0% slower" in slower.output
    assert run(tmp_path, OLD, new, "--threshold", "15").exit_code == 0
    table = run(tmp_path, OLD, new, "--threshold", "15", "--markdown").stdout
    assert table.startswith("| artifact | old p50, ms | new p50, ms |")
    assert "| nano/litert-int8 | 2.00 | 1.50 | 0.750 |" in table


def test_command_line_refuses(tmp_path: Path) -> None:
    OLD.save(tmp_path / "good.json")
    stored = json.loads((tmp_path / "good.json").read_text())
    # A report of another version, with none of the other keys of today.
    (tmp_path / "other.json").write_text('{"format_version": 1, "kdedge": "0.0.9"}')
    (tmp_path / "rubbish.json").write_text("rubbish")
    (tmp_path / "half.json").write_text(json.dumps(stored | {"measurements": [{}]}))
    for name, message in (
        ("other", "format_version is 1 and this kdedge reads 4. Install the kdedge that wrote it"),
        ("rubbish", "not a readable benchmark report"),
        ("half", "not a readable benchmark report"),
        ("missing", "not a readable benchmark report"),
    ):
        files = [str(tmp_path / f"{name}.json"), str(tmp_path / "good.json")]
        refused = CliRunner().invoke(app, ["bench", "--compare", *files])
        assert refused.exit_code == 2
        assert message in " ".join(refused.output.split()) and files[0] in refused.output
    refused = CliRunner().invoke(app, ["bench", "some", "--compare", *files])
    assert refused.exit_code == 2 and "--compare" in refused.output
    refused = CliRunner().invoke(app, ["bench", "some"])
    assert refused.exit_code == 2 and "--report" in refused.output


def test_the_published_schema_is_the_reports() -> None:
    published = Path(report_module.__file__).with_name("report.schema.json")
    program = 'from kdedge.bench.report.model import report_schema; print(report_schema(), end="")'
    command = f"python -c '{program}' > {published.name}"
    assert published.read_text() == report_schema(), command


def test_a_report_obeys_the_published_schema(tmp_path: Path) -> None:
    OLD.save(tmp_path / "results.json")
    stored = json.loads((tmp_path / "results.json").read_text())
    jsonschema.validate(stored, json.loads(report_schema()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(stored | {"format_version": 1}, json.loads(report_schema()))


def test_processors_are_told_and_not_mixed() -> None:
    slow, fast, fallen = report_of(
        ("nano/litert-float32", 1, 4.0, 0.8), ("nano/litert-int8", 1, 2.0, 0.8),
        ("nano/litert-int4", 1, 1.0, 0.8),
    ).measurements  # fmt: skip
    gpu = Placement(asked="gpu", used="gpu", share=0.5)
    cpu = Placement(asked="gpu", used="cpu", reason="it is too old")
    parts = (placed(slow, gpu), placed(fast, gpu), placed(fallen, cpu))
    report = make_report().model_copy(update={"measurements": parts})
    of_gpu, of_cpu = report.speed_up(parts[1]), report.speed_up(parts[2])
    assert of_gpu and of_gpu.ratio == pytest.approx(2)
    assert of_cpu is None
    lines = markdown_table(report).splitlines()
    assert lines[3].startswith(
        "| nano/litert-int8 (on the GPU, which took 50.0% of the operators) |"
    )
    assert lines[4].startswith(
        "| nano/litert-int4 (on the CPU instead of the GPU: it is too old) |"
    )
    # The CPU of an app is that of reports from before there was a choice.
    before = report_of(("nano/litert-int8", 1, 2.0, 0.8), ("nano/litert-int4", 1, 1.0, 0.8))
    (doubt,) = compare(before, report).doubts
    assert doubt.startswith("nano/litert-int8 was measured in another way")


def test_markdown() -> None:
    lines = markdown_table(report_of(("a|b/onnx-int8", 1_000_000, 1.0, 0.8))).splitlines()
    assert lines[0] == "| artifact | MB | accuracy | agrees | text, ms | speed-up | p50, ms |"
    assert lines[1] == "| --- |" + " ---: |" * 6
    assert lines[2] == "| a\\|b/onnx-int8 | 1.0 | 80.0% | 100.0% |  | baseline | 1.00 |"
