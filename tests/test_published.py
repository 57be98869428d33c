"""The published pages are equal to those that the programs make from the stored figures."""

from conftest import ROOT

from benchmarks.pages import page_texts

RESULTS = ROOT / "benchmarks" / "results"


def test_pages_and_pictures() -> None:
    for name, text in page_texts().items():
        assert text == (RESULTS / name).read_text(encoding="utf-8"), name
