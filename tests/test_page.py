"""The page in a real browser, and its pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_parts import make_report, measurement

from kdedge.bench.devices.browser import ARGUMENTS, chromium
from kdedge.bench.page import render_page
from kdedge.bench.report import Repeat, Summary

playwright = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = chromium()
    if program is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=program, args=ARGUMENTS)


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    """Of four artifacts: two of equal accuracy, and one that has no p90."""
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
    # 0.9, 9, 10.4 and 90 MB, and 3, 20 and 100 ms, would lie otherwise as text.
    assert sort(".artifacts", "Size") == "a d c b"
    assert sort(".artifacts", "Size") == "b c d a"
    # The one without p90 comes last both ways.
    assert sort(".artifacts", "p90") == "b c a d"
    assert sort(".artifacts", "p90") == "a c b d"
    # Equal ones stay in the order that they had, both ways.
    assert sort(".artifacts", "Accuracy") == "d c b a"
    assert sort(".artifacts", "Accuracy") == "a c b d"
    sorted_by = page.locator(".artifacts thead th[aria-sort]")
    assert [header.get_attribute("aria-sort") for header in sorted_by.all()] == ["descending"]

    # Without a mouse.
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
