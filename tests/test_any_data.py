"""The benchmark of the defaults on other data: which rows it takes, and its table."""

from collections import Counter
from pathlib import Path

from conftest import ROOT
from pytest import MonkeyPatch

from benchmarks import any_data
from benchmarks.any_data import megabytes, page, rows, with_others


def test_so_many_labels_of_each_class() -> None:
    found = list(rows(ROOT / "data", "movie_reviews", 3, 1))
    assert Counter((split, label) for _, label, split in found if split != "test") == {
        ("train", "negative"): 3, ("train", "positive"): 3,
    }  # fmt: skip
    assert Counter(split for *_, split in found)["test"] == 2000
    assert found == list(rows(ROOT / "data", "movie_reviews", 3, 1))
    assert found != list(rows(ROOT / "data", "movie_reviews", 3, 2))


def test_the_page_has_mean_and_spread() -> None:
    def row(seed: int, accuracy: float) -> dict[str, object]:
        measures = {"accuracy": accuracy, "macro_f1": 0.5}
        return {
            "data": "banking77:8", "seed": seed, "test_texts": 3080, "student": "micro",
            "models": dict.fromkeys(("TF-IDF", "teacher", "micro"), measures),
            "bytes": {"teacher": 23_000_000, "student": 1_400_000},
            "seconds": {"teach": 60.0, "label": 30.0}, "cpu_seconds": 120.0,
            "teach": {"epochs": 20, "batch_size": 16, "max_length": 32}, "best_epoch": seed,
            "transfer_texts": 10_000, "student_epochs": 30,
            "text_ms": {"teacher/litert-int8": 5.0, "micro/litert-int8": 0.0412,
                        "micro/onnx-int8": 0.2},
        }  # fmt: skip

    output = page({"machine": "x86_64, 2 cores", "rows": [row(1, 0.8), row(2, 0.9)]})
    assert "## banking77, 8 labelled texts per class" in output
    assert "2 seeds, 3,080 test texts. At most 20 epochs of the teacher (best: 1, 2)" in output
    assert "1.5 minutes (2.0 CPU minutes)" in output
    # The interval is Wilson's, of 3,080 texts.
    assert "| teacher | 85.0 ± 7.1 | 83.7 to 86.2 | 50.0 ± 0.0 | 23.0 | 5 |" in output
    assert "| TF-IDF | 85.0 ± 7.1 | 83.7 to 86.2 | 50.0 ± 0.0 |  |  |" in output


def test_a_row_gets_the_figures_of_other_libraries(
    tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(any_data, "ROOT", tmp_path)
    row = {"data": "banking77:8", "seed": 1, "models": {"teacher": {"accuracy": 0.8}}}
    assert with_others(row) == row
    folder = tmp_path / "runs" / "any_data" / "banking77-8-1"
    folder.mkdir(parents=True)
    (folder / "others.json").write_text('{"SetFit": {"accuracy": 0.7}}', encoding="utf-8")
    assert list(with_others(row)["models"]) == ["SetFit", "teacher"]
    assert row["models"] == {"teacher": {"accuracy": 0.8}}


def test_sizes_of_seeds_that_differ() -> None:
    assert megabytes([1_440_000, 4_470_000, 1_350_000]) == "1.4 to 4.5"
    assert megabytes([1_440_000, 1_439_000]) == "1.4"
