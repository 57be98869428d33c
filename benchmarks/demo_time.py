"""Measures the minutes of `make demo`, from the data to the report, beside release 0.1.0.

    python benchmarks/demo_time.py --baseline ../kdedge-0.1.0

Each release runs its own recipe for movie reviews with the present packages: the same data, the
same pretrained model, 40,000 augmented texts, 8 epochs of `micro`. `--baseline` is the folder of a
checkout of 0.1.0 (commit 9809e561b361). Each run is a new process, and the runs of the two
releases alternate. A run takes 10 to 25 minutes with 2 cores; the machine should be quiet.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import ROOT, Figures, cli, machine, read_command_line
from benchmarks.text_to_answer import RELEASE
from kdedge.bench.report.model import three_digits
from kdedge.bench.report.tables import markdown
from kdedge.errors import KdedgeError

PRESENT, WHOLE = "present", "whole run"
# Columns of the stages, by their names in stages.json; 0.1.0 has the same.
STAGES = {
    "teach": "teacher",
    "label": "labelling",
    "distill": "student",
    "export": "export of the student",
    "export teacher": "export of the teacher",
    "bench": "measuring",
}


def main() -> None:
    """Run both releases in turn, and write the results."""
    setup, options = read_command_line("demo_time", __doc__, repeats=1, baseline="")
    if not (Path(options.baseline) / "kdedge").is_dir() or not options.baseline:
        raise KdedgeError("--baseline: name the folder of a checkout of release 0.1.0.")
    sources = {RELEASE: Path(options.baseline).resolve(), PRESENT: ROOT}
    seconds: dict[str, list[dict[str, float]]] = {release: [] for release in sources}
    for number in range(options.repeats):
        for release in [*sources][:: -1 if number % 2 else 1]:
            seconds[release].append(demo(sources[release]))
    setup.keep(setup.about() | {"machine": machine(), "seconds": seconds}, page)


def demo(source: Path) -> dict[str, float]:
    """Seconds of each stage and of the whole run of a release."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        program = "from kdedge.cli import app; app()"
        recipe = source / "recipes" / "movie_reviews.toml"
        start = time.monotonic()
        subprocess.run(
            [sys.executable, "-c", program, "run", recipe, "--out", out],
            cwd=source,
            env=os.environ | {"PYTHONPATH": str(source)},
            check=True,
        )
        whole = time.monotonic() - start
        stages = json.loads((out / "stages.json").read_text(encoding="utf-8"))
        return {name: stages[name]["seconds"] for name in STAGES} | {WHOLE: whole}


def page(result: Figures) -> str:
    """The table as Markdown."""
    seconds = result["seconds"]
    rows = []
    for name, shown in (*STAGES.items(), (WHOLE, WHOLE)):
        old, new = (
            statistics.median(one[name] for one in seconds[release])
            for release in (RELEASE, PRESENT)
        )
        rows.append((shown, three_digits(old / 60), three_digits(new / 60), f"{new / old:.2f}"))
    head = ("", f"{RELEASE}, minutes", f"{PRESENT}, minutes", f"{PRESENT} / {RELEASE}")
    runs = len(seconds[PRESENT])
    return f"{result['machine']}. Medians of {runs} runs each.\n\n" + markdown(head, rows)


if __name__ == "__main__":
    cli(main)
