"""Measures time and memory of `kdedge check` for files of increasing size.

    python benchmarks/checking.py
    python benchmarks/checking.py --sizes 10000 100000

Repeats the texts of the corpus, with a number after each, until a CSV file in runs/checking has
enough rows. Each file is checked in a new process.
"""

import csv
import json
import os
import time
from itertools import cycle, islice
from pathlib import Path

from benchmarks.common import (
    Figures,
    Setup,
    cli,
    in_own_process,
    machine,
    memory_mb,
    read_command_line,
)
from kdedge.bench.report.tables import markdown
from kdedge.files import new_file, write_text

SIZES = (100_000, 1_000_000)


def main() -> None:
    """Write the files, check each, and write the results."""
    setup, options = read_command_line("checking", __doc__, sizes=SIZES)
    setup.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for size in options.sizes:
        recipe, data = setup.work / f"{size}.toml", setup.work / f"{size}.csv"
        in_own_process(write_rows, setup, size, data)
        write_text(recipe, f'name = "check"\nseed = 1\n[data]\npath = {json.dumps(str(data))}\n')
        about = {"rows": size, "MB of the file": data.stat().st_size / 1e6}
        rows.append(about | in_own_process(measure_check, recipe))
    figures = {"machine": machine(), "load": os.getloadavg()[1], "rows": rows}
    setup.keep(setup.about() | figures, page)


def measure_check(recipe: Path) -> Figures:
    """Measure time and memory of a check, imports included."""
    wall, cpu = time.perf_counter(), time.process_time()
    from kdedge.check import check_recipe
    from kdedge.recipe import load_recipe

    report = check_recipe(load_recipe(recipe))
    return {
        "seconds": time.perf_counter() - wall,
        "CPU seconds": time.process_time() - cpu,
        "MB of memory": memory_mb("VmHWM"),
        "verdict": report.verdict,
        "findings": [finding.kind for finding in report.findings],
    }


def write_rows(setup: Setup, size: int, path: Path) -> None:
    """Write this many rows of text and label, all different."""
    corpus = setup.corpus()
    parts = (corpus.train, corpus.valid, corpus.test)
    texts = [text for part in parts for text in part.texts]
    labels = [corpus.task.label_of(label) for part in parts for label in part.labels]
    rows = enumerate(islice(cycle(zip(texts, labels, strict=True)), size))
    with new_file(path) as new, new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((f"{text} {number}", label) for number, (text, label) in rows)


def page(result: Figures) -> str:
    """One row for each size."""
    rows = [
        (
            f"{row['rows']:,}", f"{row['MB of the file']:.0f}", f"{row['seconds']:.0f}",
            f"{row['CPU seconds']:.0f}", f"{row['MB of memory']:,.0f}", row["verdict"],
        )
        for row in result["rows"]
    ]  # fmt: skip
    head = ("rows", "MB of the file", "seconds", "CPU seconds", "MB of memory", "verdict")
    return (
        "# How long `kdedge check` takes\n\n"
        f"{result['machine']}; average load in the last five minutes: {result['load']:.1f}. If it "
        f"is high, compare the CPU seconds.\n\n{markdown(head, rows)}"
    )


if __name__ == "__main__":
    cli(main)
