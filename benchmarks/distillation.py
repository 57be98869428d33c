"""What the students keep of the teacher, beside what a user would pick instead, and what earns it.

    make demo                        # the teacher and its soft labels
    python benchmarks/unlabelled.py
    python benchmarks/distillation.py

Trains the cells of study/grid.py, each in a process of its own, and keeps what it makes in
runs/distillation; what is there of the same settings, data and code is not done again. Then it
measures the bundles. What is new takes the place of what results/distillation.json had of the same
name and seed, or of the same machine and models. Some parts alone: name them; `tables` does no
more than write the page.
"""

from typing import Any

from benchmarks.common import Setup, asked, cli, of_report
from benchmarks.study.grid import SEEDS, Grid, do, grid_of, kept
from benchmarks.study.statistics import by_name, changes
from benchmarks.study.tables import page
from kdedge import KdedgeError
from kdedge.bench.report.model import BenchReport
from kdedge.bench.run import bench_bundles
from kdedge.bench.scenario import scenario

PARTS = ("main", "peers", "ablation", "tasks", "layers", "curve", "few")
ALL = [*PARTS, "bench"]


def main() -> None:
    """Do the parts that were asked for, then write what is there."""
    setup, given = asked("distillation", __doc__, "parts", seeds=SEEDS, tier="light")
    wanted = given.parts or ALL
    if unknown := {*wanted} - {*ALL, "tables"}:
        raise KdedgeError(f"parts: {', '.join(unknown)}. Allowed: {', '.join(ALL)}, tables.")
    grid = grid_of(setup.recipe)
    failed = do(grid.cells([part for part in PARTS if part in wanted], given.seeds), setup)
    report = None
    if "bench" in wanted:
        bundles = [setup.made("teacher_bundle"), *sorted((setup.work / "bundles").iterdir())]
        report = bench_bundles(bundles, setup.work, scenario(given.tier))
    found = merged(setup.stored(), kept(setup.work), grid, report and latencies(report, setup))
    setup.keep(found, lambda stored: page(stored, grid))
    if failed:
        raise KdedgeError(f"these cells failed: {'; '.join(failed)}.")


def merged(
    stored: dict[str, Any], new: list[Any], grid: Grid, latency: dict[str, Any] | None
) -> dict[str, Any]:
    """What is stored, with what is new in the place of what it replaces."""
    cells = {_key(one): one for one in [*stored.get("cells", ()), *map(brief, new)]}
    found, measured = dict(stored.get("changes", {})), list(stored.get("latency", ()))
    for rows in (grid.ablation, grid.tasks, grid.layers):
        found |= changes(by_name(new), rows)
    if latency:
        measured = [*(one for one in measured if not _again(one, latency)), latency]
    return {
        "command": "python benchmarks/distillation.py",
        "cells": [cells[key] for key in sorted(cells)],
        "changes": found,
        "latency": measured,
    }


def page_of_movie_reviews(stored: dict[str, Any]) -> str:
    """The published page."""
    return page(stored, grid_of(Setup("distillation").recipe))


def _key(cell: dict[str, Any]) -> tuple[str, int]:
    return cell["job"]["name"], cell["job"]["seed"]


def _again(one: dict[str, Any], last: dict[str, Any]) -> bool:
    """Whether a later run has all that an earlier one measured on such a machine."""
    return bool(one["machine"] == last["machine"] and {*one["models"]} <= {*last["models"]})


def brief(value: Any) -> Any:
    """A result without what was said of each text."""
    if not isinstance(value, dict):
        return value
    return {k: brief(v) for k, v in value.items() if k not in ("right", "history")}


def latencies(report: BenchReport, setup: Setup) -> dict[str, Any]:
    """Of each model the fastest LiteRT file, against the teacher's fastest."""
    rows = {}
    for source in dict.fromkeys(m.source for m in report.measurements):
        own = [m for m in report.measurements if m.source == source and m.format == "litert"]
        fastest = min(own, key=lambda m: m.p1_ms)
        faster = report.speed_up(fastest)
        rows[source] = {
            "quantization": fastest.quantization,
            "p50_ms": fastest.p50_ms,
            "repeats_p50_ms": fastest.repeats_p50_ms,
            "times_faster": faster and [faster.ratio, faster.low, faster.high],
            "accuracy": fastest.score,
            "int8_bytes": next((m.bytes for m in own if m.quantization == "int8"), None),
        }
    environment = report.environments["local"]
    name = f"{environment['CPU']}, {environment['CPU features']}"
    about = setup.about("distillation latency")
    return {"machine": name} | about | of_report(report) | {"models": rows}


if __name__ == "__main__":
    cli(main)
