"""Measures several labels, scores and pairs: teacher and student beside simple baselines.

    python benchmarks/other_tasks.py FOLDER goemotions sick_relatedness sick_entailment ratings
    python benchmarks/other_tasks.py FOLDER ratings --students micro mini-cut
    python benchmarks/other_tasks.py FOLDER goemotions --train 3000 --eval 1000 --epochs 3

FOLDER has the data sets' files; SETS names them. Each run is one `kdedge run` with default settings
except those of the command line. New rows replace those with the same data, student and seed in
results/other_tasks.json.
"""

import json
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from benchmarks.any_data import figures, processor_seconds
from benchmarks.common import (
    ROOT,
    Figures,
    cli,
    keep_rows,
)
from kdedge.bench.report.tables import markdown
from kdedge.tasks import shown

NAME = "other_tasks"
SICK = {"path": "tasks/sick.csv.gz", "text_pair": "text_pair", "split": "split"}
SETS: dict[str, dict[str, Any]] = {
    "goemotions": {
        "path": "tasks/goemotions.jsonl.gz",
        "task": "multi-label",
        "label": "labels",
        "split": "split",
    },
    "sick_entailment": SICK,
    "sick_relatedness": {
        **SICK,
        "task": "regression",
        "label": "score",
        "score_range": [1, 5],
    },
    "ratings": {
        "path": "movie_reviews.tsv.gz",
        "task": "regression",
        "label": "rating",
        "split": "split",
    },
}


def main() -> None:
    """Run the named data sets, then write the page."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of the data sets")
    parser.add_argument("sets", nargs="*", choices=SETS, metavar="SET", help=", ".join(SETS))
    parser.add_argument("--train", type=int, help="training texts; default: all")
    parser.add_argument("--eval", type=int, help="valid and test texts; default: all")
    parser.add_argument("--epochs", type=int, help="of the teacher; default: kdedge's")
    parser.add_argument("--augmented", type=int, help="augmented texts; default: kdedge's")
    parser.add_argument("--students", nargs="+", default=["micro"], metavar="STUDENT")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for name in options.sets:
        for student in options.students:
            keep(run(options, name, student))
    keep()


def run(options: Namespace, name: str, student: str) -> Figures:
    """Write a recipe, and run it."""
    asked = {"train": options.train, "eval": options.eval, "epochs": options.epochs}
    asked |= {"augmented": options.augmented, "student": student}
    asked = {key: value for key, value in asked.items() if value is not None}
    data = SETS[name] | {"path": str((options.folder / SETS[name]["path"]).resolve())}
    data |= {f"{key}_size": asked[key] for key in ("train", "eval") if key in asked}
    sections: dict[str, dict[str, Any]] = {
        "data": data,
        "teach": {key: asked[key] for key in ("epochs",) if key in asked},
        "label": {key: asked[key] for key in ("augmented",) if key in asked},
        "distill": {"student": student},
        # A loss of accuracy is shown in the table, and is no reason to stop.
        "export": {"max_accuracy_drop": 100.0},
        "bench": {"tier": "quick"},
    }
    lines = [f'name = "{NAME}"', f"seed = {options.seed}"]
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(v)}" for key, v in values.items())]
    work = ROOT / "runs" / NAME / f"{name}-{student}-{options.seed}"
    work.mkdir(parents=True, exist_ok=True)
    (work / "recipe.toml").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-c", "from kdedge.cli import app; app()", "run"]
    before = processor_seconds()
    subprocess.run(
        [*command, str(work / "recipe.toml"), "--out", str(work / "run")],
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    found = figures(name, options.seed, work / "run")
    return found | {"asked": asked, "cpu_seconds": processor_seconds() - before}


def keep(*new: Figures) -> None:
    """Write the stored rows with the new ones, and the page."""
    keep_rows(NAME, new, ("data", "student", "seed"), _command, page)


def _command(rows: list[Figures]) -> str:
    names, students = (" ".join(dict.fromkeys(one[k] for one in rows)) for k in ("data", "student"))
    return f"python benchmarks/other_tasks.py FOLDER {names} --students {students}"


def page(result: Figures) -> str:
    """One table for each data set."""
    parts = [
        "# Several labels, scores and pairs of texts\n\n"
        "`kdedge run` with default settings, except the sizes given below. Figures are of the test "
        "split.\n"
    ]
    for one in result["rows"]:
        asked = (f"{key} {value}; " for key, value in one["asked"].items() if key != "student")
        names = list(dict.fromkeys(name for m in one["models"].values() for name in m))
        rows = [
            (model, *(shown(name, measures[name], 1) for name in names))
            for model, measures in one["models"].items()
        ]
        table = markdown(("model", *(name.replace("_", " ") for name in names)), rows)
        parts.append(
            f"## {one['data']}, {one['student']}\n\n"
            f"Seed {one['seed']}; {''.join(asked)}{one['test_texts']:,} test texts, "
            f"best epoch {one['best_epoch']} of {one['teach']['epochs']}, "
            f"{one['cpu_seconds'] / 60:.0f} minutes of a processor core.\n\n{table}"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    cli(main)
