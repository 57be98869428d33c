"""The tables of benchmarks/, of figures that were made up so that they can be worked out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import Cell, done, results
from distillation import ablation_table, curve_table, difference, few_table, main_table, spread


def keep(work: Path, right: str, **arguments: Any) -> Cell:
    """Write a cell's result: of 4 texts in each split, which were labelled right."""
    cell = Cell(**arguments)
    share = right.count("1") / len(right)
    split = {"accuracy": share, "retention": share / 0.8, "agreement": 0.9, "right": right}
    split["teacher_accuracy"] = 0.8
    result = {"valid": split, "test": split, "transfer_texts": 1990, "seconds": 60.0}
    path = cell.path(work)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"job": cell.job, "commit": "abc", "result": result}))
    return cell


def test_a_cell_is_done_if_its_result_is_there_and_of_the_same_settings(tmp_path: Path) -> None:
    cell = keep(tmp_path, "1111", name="a cell", seed=1, distill={"alpha": 0.5})
    assert cell.path(tmp_path).name == "a-cell-seed1.json"
    assert done(cell, tmp_path)
    assert not done(cell.model_copy(update={"distill": {"alpha": 0.6}}), tmp_path)
    assert not done(cell.model_copy(update={"seed": 2}), tmp_path)
    # The bundle that it is to leave is not there.
    wanted = cell.model_copy(update={"bundle": True})
    assert not done(wanted, tmp_path)
    wanted.folder(tmp_path, "bundles").mkdir(parents=True)
    assert done(wanted, tmp_path)
    # Alpha as it is by default is no other setting than none.
    default = keep(tmp_path, "1111", name="default", seed=1)
    assert done(default.model_copy(update={"distill": {"alpha": default.settings.alpha}}), tmp_path)


def test_a_difference_has_an_interval_over_seeds_and_texts() -> None:
    base = np.zeros((3, 4))
    # The same text in each seed: drawn anew, none to all of the 4 are that one.
    other = np.tile([1.0, 0, 0, 0], (3, 1))
    mean, low, high = difference(base, other)
    assert mean == 25.0
    # 4 draws of a chance of 1/4: none 32%, 3 or more 5%: the 97.5th percentile is 3 of 4.
    assert (low, high) == (0.0, 75.0)
    assert difference(base, base + 1) == (100.0, 100.0, 100.0)
    # All texts in one seed of 3: of the means over 3 draws 0 has 30% and 1 has 4%.
    seeds = np.array([[1.0] * 4, [0.0] * 4, [0.0] * 4])
    assert difference(base, seeds) == pytest.approx((100 / 3, 0.0, 100.0))


def test_spread() -> None:
    assert spread([81.0]) == "81.00"
    assert spread([80.0, 81.0, 82.0]) == "81.00 ± 1.00"


def test_tables_of_the_cells_that_are_there(tmp_path: Path) -> None:
    for seed, right in ((1, "1110"), (2, "1100")):
        keep(tmp_path, right, name="base", seed=seed)
        keep(tmp_path, right, name="nano", seed=seed, distill={"student": "nano"})
        keep(tmp_path, "1111", name="curve 2000", seed=seed, distill={"epochs": 96})
    # A seed that the base lacks does not count for the difference.
    keep(tmp_path, "1110", name="alpha 0.5", seed=1, distill={"alpha": 0.5})
    keep(tmp_path, "1100", name="alpha 0.5", seed=2, distill={"alpha": 0.5})
    keep(tmp_path, "1111", name="alpha 0.5", seed=3, distill={"alpha": 0.5})
    cells = results(tmp_path)
    assert [one["job"]["seed"] for one in cells["alpha 0.5"]] == [1, 2, 3]

    rows = ablation_table(cells, "base", ["alpha 0.5", "no such"]).splitlines()
    assert rows[-1] == (
        "| alpha 0.5 | 3 | 75.00 ± 25.00 | +0.00 (+0.00 to +0.00) | +0.00 (+0.00 to +0.00) "
        "| no difference shown |"
    )
    assert "has 62.50 ± 17.68% on the test split" in rows[2]
    assert ablation_table(cells, "mini base", ["hidden states"]) == ""
    # Retention 93.75 and 62.5, 78.125 in the mean, and nothing was measured.
    assert main_table(cells, None).splitlines()[-1] == (
        "| nano | 2 | 62.50 ± 17.68 | 78.12 ± 22.10 ✗ 94.0 |  |  |  |"
    )
    # The curve ends with what all texts give.
    assert curve_table(cells) == ""
    keep(tmp_path, "1110", name="micro", seed=1, distill={"epochs": 6})
    assert curve_table(results(tmp_path)).splitlines()[-2:] == [
        "| 1990 | 96 | 100.00 ± 0.00 | 125.00 ± 0.00 | 90.00 ± 0.00 |",
        "| 1990 | 6 | 75.00 | 93.75 | 90.00 |",
    ]
    assert few_table(cells) == ""


def test_a_change_helps_where_the_interval_leaves_out_nothing(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        keep(tmp_path, "0000", name="base", seed=seed)
        keep(tmp_path, "1111", name="better", seed=seed)
    cells = results(tmp_path)
    assert ablation_table(cells, "base", ["better"]).endswith("| helps |\n")
    assert ablation_table(cells, "better", ["base"]).endswith("| harms |\n")


def test_static_embeddings_are_longer_the_rarer_they_are() -> None:
    from trainings import SIF, static_table

    # Two axes, the second of them the stronger; mean 0.
    vectors = np.array([[1, 0], [-1, 0], [0, 3], [0, -3]], np.float16)
    table = static_table(vectors, ["[PAD]", "a", "b", "c"])
    chance = np.array([1 / 2, 1 / 3, 1 / 4, 1 / 5]) / (1 / 2 + 1 / 3 + 1 / 4 + 1 / 5)
    weight = SIF / (SIF + chance)
    np.testing.assert_allclose(
        np.abs(table),
        [[0, 0], [0, weight[1]], [3 * weight[2], 0], [3 * weight[3], 0]],
        rtol=1e-4,
        atol=1e-9,
    )


def test_table_of_robustness() -> None:
    from robustness import BASE, table

    plain = [{"clean": 0.80, "keyboard": 0.70, "ocr": 0.74, "random": 0.70, "attack": 0.50}]
    typos = [{"clean": 0.796, "keyboard": 0.746, "ocr": 0.74, "random": 0.7, "attack": 0.6}]
    teacher = {"clean": 0.85, "keyboard": 0.75, "ocr": 0.8, "random": 0.75}
    students = {BASE: plain, "typos too": typos}
    made = table({"teacher": teacher, "students": students, "epochs": 4, "made": 16_000})
    assert "| teacher | 85.00 | 75.00 | 80.00 | 75.00 |  |\n" in made
    assert "| base | 80.00 | 70.00 | 74.00 | 70.00 | 50.00 |\n" in made
    # Lost: 5 instead of 10 points, 5.6 instead of 6, 9.6 instead of 10, 19.6 instead of 30.
    assert made.endswith("| typos too | +0.40 ✓ | 50% ✓ | 7% ✗ | 4% ✗ | 35% ✓ |\n")


def test_typos_are_made_once_and_line_by_line(tmp_path: Path) -> None:
    from robustness import perturbed, read

    from kdedge.text.corpus import Split

    test = Split(("a moving and funny film", "never quite comes together"), np.zeros(2, np.int32))
    path = perturbed("keyboard", test, tmp_path)
    texts = read(path)
    assert len(texts) == 2 and texts != test.texts
    assert [len(text) for text in texts] == [len(text) for text in test.texts]
    path.write_text("kept\nas it is\n")
    assert read(perturbed("keyboard", test, tmp_path)) == ("kept", "as it is")


def test_table_of_training_speed() -> None:
    from training_speed import table

    runs = {
        "kdedge": [{"texts_a_second": r, "peak_memory_mb": 900.0} for r in (1000, 1100, 1200)],
        "keras": [{"texts_a_second": r, "peak_memory_mb": 1500.0} for r in (99, 100, 101)],
    }
    made = table({"command": "c", "machine": "m", "runs": runs})
    assert "| kdedge, stored soft labels | 1100 | 1000 to 1200 | 900 |" in made
    # The interval holds 10, which is the target.
    assert "The ratio is 11.0 (8.8 to 13.7, 95%); at least 10 is the target: not met." in made
