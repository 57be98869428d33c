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
from pathlib import Path

from benchmarks.common import ROOT, Figures, checkout, cli, machine, read_command_line
from benchmarks.text_to_answer import RELEASE
from kdedge.bench.report.model import three_digits
from kdedge.bench.report.tables import markdown

PRESENT = "present"
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
    sources = {RELEASE: checkout(options.baseline), PRESENT: ROOT}
    seconds: dict[str, list[dict[str, float]]] = {release: [] for release in sources}
    for number in range(options.repeats):
        for release in [*sources][:: -1 if number % 2 else 1]:
            out = setup.work / f"{release}-{number}"
            seconds[release].append(demo(sources[release], out))
    setup.keep(setup.about() | {"machine": machine(), "seconds": seconds}, page)


def demo(source: Path, out: Path) -> dict[str, float]:
    """Seconds of each stage of a release's run in the folder `out`; a stopped run continues."""
    out.parent.mkdir(parents=True, exist_ok=True)
    program = "from kdedge.cli import app; app()"
    recipe = source / "recipes" / "movie_reviews.toml"
    subprocess.run(
        [sys.executable, "-c", program, "run", recipe, "--out", out],
        cwd=source,
        env=os.environ | {"PYTHONPATH": str(source)},
        check=True,
    )
    stages = json.loads((out / "stages.json").read_text(encoding="utf-8"))
    return {name: entry["seconds"] for name, entry in stages.items()}


def page(result: Figures) -> str:
    """The table as Markdown."""
    seconds = result["seconds"]
    whole = "all stages"
    both = [
        [one | {whole: sum(one.values())} for one in seconds[release]]
        for release in (RELEASE, PRESENT)
    ]
    rows = []
    for name, shown in (STAGES | {whole: whole}).items():
        old, new = (statistics.median(one[name] for one in runs) for runs in both)
        rows.append((shown, three_digits(old / 60), three_digits(new / 60), f"{new / old:.2f}"))
    head = ("", f"{RELEASE}, minutes", f"{PRESENT}, minutes", f"{PRESENT} / {RELEASE}")
    title = f"# `make demo` beside {RELEASE}\n\n"
    about = f"{result['machine']}. Runs of each: {len(seconds[PRESENT])}. "
    note = "0.1.0 trains its teacher for 2 epochs, the present release for up to 3.\n\n"
    return title + about + note + markdown(head, rows)


if __name__ == "__main__":
    cli(main)
