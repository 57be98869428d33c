"""The report page in a real browser, and its figures."""

import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
from bench_parts import make_report, measurement, repeat

from kdedge.bench.report.figures import (
    curve_figures,
    latency_distribution_figure,
    size_latency_score_figure,
)
from kdedge.bench.report.model import Measurement, Repeat, Summary
from kdedge.bench.report.page import render_page


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    """A page of four artifacts: two have equal accuracy, and one has no p90."""
    without = measurement("d/litert-int8", 9_000_000, 3.0, 0.7, 1.0)
    mean = Repeat(
        load_ns=1, first_inference_ns=1, samples_ns=(), summary=Summary(count=64, mean_ns=3e6),
        peak_rss_bytes=None,
    )  # fmt: skip
    report = make_report().model_copy(
        update={
            "measurements": (
                measurement("c/litert-int8", 10_400_000, 20.0, 0.85, 1.0),
                measurement("a/litert-int8", 900_000, 100.0, 0.9, 1.0),
                measurement("b/litert-int8", 90_000_000, 3.0, 0.85, 1.0),
                without.model_copy(update={"repeats": (mean,)}),
            )
        }
    )
    path = tmp_path / "report.html"
    stages = {"teach": 70.0, "distil": 9.0}
    page = render_page(report, title="t", training=None, disagreements=None, stages=stages)
    path.write_text(page, encoding="utf-8")
    return path


def test_tables_sort(browser: Any, page_file: Path) -> None:
    page = browser.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())

    def order(table: str) -> str:
        names = page.locator(f"{table} tbody th").all_inner_texts()
        return " ".join(name.split("/")[0] for name in names)

    def sort(table: str, header: str) -> str:
        page.locator(f"{table} thead button", has_text=header).click()
        return order(table)

    assert order(".artifacts") == "c a b d"
    # 0.9, 9, 10.4 and 90 MB, and 3, 20 and 100 ms, would be in another order as text.
    assert sort(".artifacts", "Size") == "a d c b"
    assert sort(".artifacts", "Size") == "b c d a"
    # The one without p90 comes last both ways.
    assert sort(".artifacts", "p90") == "b c a d"
    assert sort(".artifacts", "p90") == "a c b d"
    # Equal values keep their order in both directions.
    assert sort(".artifacts", "Accuracy") == "d c b a"
    assert sort(".artifacts", "Accuracy") == "a c b d"
    sorted_by = page.locator(".artifacts thead th[aria-sort]")
    assert [header.get_attribute("aria-sort") for header in sorted_by.all()] == ["descending"]

    # With the keyboard.
    page.locator(".artifacts thead button").first.focus()
    page.keyboard.press("Enter")
    assert order(".artifacts") == "a b c d"

    assert sort(".stages", "Time") == "distil teach"
    assert sort(".facts", "Value") == "load before LiteRT cores CPU"  # 0.1, "2.3.0", 8, a text
    assert requests == [page_file.as_uri()]


def test_tables_without_scripts(browser: Any, page_file: Path) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(page_file.as_uri())
    assert page.locator("button").count() == 0
    assert page.locator(".artifacts tbody tr").count() == 4


def test_labels_do_not_overlap(browser: Any, tmp_path: Path) -> None:
    crowd = [
        measurement(f"micro/litert-v{i}", 4_000_000, 1 + 0.01 * (i % 5), 0.85 + 1e-4 * i, 1.0)
        for i in range(24)
    ]
    report = make_report()
    report = report.model_copy(update={"measurements": (*report.measurements, *crowd)})
    (tmp_path / "picture.svg").write_text(size_latency_score_figure(report))
    page = browser.new_page()
    page.goto((tmp_path / "picture.svg").as_uri())
    boxes = page.locator("text").evaluate_all(
        """texts => texts.map(text => {
            const { left, top, right, bottom } = text.getBoundingClientRect();
            return [text.textContent, left, top, right, bottom];
        })"""
    )
    labels = [box[0] for box in boxes if box[0].endswith(" MB")]
    assert sorted(labels) == sorted(f"{m.name}, {m.size}" for m in report.measurements)
    for a, b in itertools.combinations([box for box in boxes if box[0].strip()], 2):
        apart = a[3] <= b[1] or b[3] <= a[1] or a[4] <= b[2] or b[4] <= a[2]
        assert apart, (a, b)
    width = page.locator("svg").first.bounding_box()["width"]
    assert max(box[3] for box in boxes) <= width


def test_distribution_marks_percentiles() -> None:
    """Of 1 to 1,001 ns, p50 is 501, p90 is 901 and p99 is 991."""
    many = measurement("micro/litert-int8", 1, 1.0, 0.8, 1.0)
    many = many.model_copy(update={"repeats": (repeat(list(range(1, 1002))),)})
    few = measurement("micro/onnx-int8", 1, 1e-4, 0.8, 1.0)
    unsampled = measurement("micro/onnx-float32", 1, 1.0, 0.8, 1.0)
    summary = Repeat(
        load_ns=1, first_inference_ns=1, samples_ns=(), summary=Summary(count=64, mean_ns=3e6),
        peak_rss_bytes=None,
    )  # fmt: skip
    unsampled = unsampled.model_copy(update={"repeats": (summary,)})
    report = make_report().model_copy(update={"measurements": (many, few, unsampled)})
    svg = latency_distribution_figure(report)
    assert svg == latency_distribution_figure(report)
    assert "micro/litert-int8" in svg and "micro/onnx-int8" in svg
    assert "micro/onnx-float32" not in svg

    marks = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: #20252d; stroke', svg)
    axis = max(float(y) for _, y in marks)
    # First the rows', then the legend's; the axis's own stand lower.
    xs = [float(x) for x, y in marks if float(y) < axis]
    assert len(xs) == 3 + 2 + 3  # the row of few samples has no p99
    p50, p90, p99 = xs[:3]
    assert (p99 - p50) / (p90 - p50) == pytest.approx(
        math.log(991 / 501) / math.log(901 / 501), rel=1e-3
    )
    assert "<svg" in latency_distribution_figure(report.model_copy(update={"measurements": ()}))


def test_curves_show_what_was_varied() -> None:
    assert curve_figures(make_report()) == {}

    def varied(name: str, ms: float, **settings: int) -> Measurement:
        return measurement(name, 1, ms, 0.8, 1.0).model_copy(update=settings)

    report = make_report().model_copy(
        update={
            "measurements": (
                varied("micro/litert-int8", 8.0, threads=1),
                varied("micro/litert-int8", 2.0, threads=4),
                varied("micro/litert-int8", 4.0, threads=2),
                varied("micro/onnx-int8", 8.0, threads=1),
                varied("micro/onnx-int8", 9.0, threads=1, length=16),
                # Nothing to compare with: both differ.
                varied("nano/onnx-int8", 9.0, threads=1, length=16),
                varied("nano/onnx-int8", 9.0, threads=2, length=32),
            )
        }
    )
    figures = curve_figures(report)
    assert list(figures) == ["threads", "length"]
    assert figures == curve_figures(report)
    assert "micro/litert-int8" in figures["threads"] and "onnx" not in figures["threads"]
    assert "micro/onnx-int8" in figures["length"] and "litert" not in figures["length"]
    assert "nano" not in figures["length"]

    # In the order of the threads, at equal distances: each time half as long.
    point = r"([\d.]+) ([\d.]+) \n"
    line = rf'd="M {point}L {point}L {point}" clip-path[^>]*stroke: #0072b2'
    points = re.search(line, figures["threads"])
    assert points is not None
    x1, y1, x2, y2, x4, y4 = map(float, points.groups())
    assert 0 < x2 - x1 == pytest.approx(x4 - x2, rel=1e-3)
    assert 0 < y2 - y1 == pytest.approx(y4 - y2, rel=1e-3)


def test_page_shows_curves_where_there_are_any() -> None:
    report = make_report()
    one = report.measurements[2]
    two = one.model_copy(update={"name": "two", "threads": 2})
    several = report.model_copy(update={"measurements": (one, two)})
    for shown, asked in ((False, report), (True, several)):
        page = render_page(asked, title="t", training=None, disagreements=None, stages=None)
        assert ('<h2 id="curves">' in page) is shown
