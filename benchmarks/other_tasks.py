"""Measures several labels, scores and pairs: teacher and student beside simple baselines.

    python benchmarks/other_tasks.py FOLDER goemotions sick_relatedness sick_entailment ratings
    python benchmarks/other_tasks.py FOLDER ratings --students micro mini-cut --seeds 1 2 3
    python benchmarks/other_tasks.py FOLDER goemotions --train 3000 --eval 1000 --epochs 3

FOLDER has the data sets' files; SETS names them. Each run is one `kdedge run` with default settings
except those of the command line. New rows replace those with the same data, student and seed in
results/other_tasks.json.
"""

import json
import os
import statistics
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.any_data import SIZES, fastest, figures, int8_file, processor_seconds
from benchmarks.common import (
    ROOT,
    Figures,
    cli,
    keep_rows,
)
from kdedge.bench.report.tables import markdown
from kdedge.tasks import format_metric

NAME = "other_tasks"
SAMPLES = 1000
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
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    options = parser.parse_args()
    for name in options.sets:
        for student in options.students:
            for seed in options.seeds:
                keep(run(options, name, student, seed))
    keep()


def run(options: Namespace, name: str, student: str, seed: int) -> Figures:
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
    lines = [f'name = "{NAME}"', f"seed = {seed}"]
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(v)}" for key, v in values.items())]
    work = ROOT / "runs" / NAME / f"{name}-{student}-{seed}"
    work.mkdir(parents=True, exist_ok=True)
    (work / "recipe.toml").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-c", "from kdedge.cli import app; app()", "run"]
    before = processor_seconds()
    subprocess.run(
        [*command, str(work / "recipe.toml"), "--out", str(work / "run")],
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    cpu = processor_seconds() - before
    found = figures(name, seed, work / "run")
    more = {"intervals": intervals(work / "run"), "agreement": agreement(work / "run")}
    return found | {"asked": asked, "cpu_seconds": cpu} | more


def agreement(out: Path) -> dict[str, float]:
    """Share of texts to which the int8 LiteRT file gives the same answer as the Keras model.

    Args:
        out: folder of a run.
    """
    return {who: int8_file(out / bundle).parity.agreement for who, bundle in SIZES.items()}


def intervals(out: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """95% bootstrap intervals over the test texts of the models' measures, and of their quotients.

    Args:
        out: folder of a run.
    """
    from kdedge.students.trained import Student

    student = Student.load(out / "student")
    test, ours = student.test, student.notes["preset"]
    assert test.teacher_logits is not None
    outputs = {
        "teacher": (student.teacher_task, student.teacher_task.outputs(test.teacher_logits)),
        ours: (student.task, student.task.outputs(test.logits)),
    }
    rng, texts = np.random.default_rng(0), len(test.labels)
    drawn: dict[str, dict[str, list[float]]] = {}
    for _ in range(SAMPLES):
        sample = rng.integers(0, texts, texts)
        measures = {
            name: task.measures(of[sample], test.labels[sample])
            for name, (task, of) in outputs.items()
        }
        measures[f"{ours} / teacher"] = {
            metric: value / measures["teacher"][metric] for metric, value in measures[ours].items()
        }
        for name, values in measures.items():
            for metric, value in values.items():
                drawn.setdefault(name, {}).setdefault(metric, []).append(value)
    ends = (2.5, 97.5)
    return {
        name: {metric: tuple(np.percentile(values, ends).tolist()) for metric, values in of.items()}
        for name, of in drawn.items()
    }


def keep(*new: Figures) -> None:
    """Write the stored rows with the new ones, and the page."""
    keep_rows(NAME, new, ("data", "student", "seed"), command_of, page)


def command_of(rows: list[Figures]) -> str:
    """The commands that make the rows, one for each student and its seeds."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for one in rows:
        seeds.setdefault((one["student"], one["data"]), []).append(str(one["seed"]))
    sets: dict[tuple[str, str], list[str]] = {}
    for (student, name), of_both in sorted(seeds.items()):
        sets.setdefault((student, " ".join(of_both)), []).append(name)
    return " && ".join(
        f"python benchmarks/other_tasks.py FOLDER {' '.join(names)} --students {student} "
        f"--seeds {some}"
        for (student, some), names in sets.items()
    )


def page(result: Figures) -> str:
    """One table for each data set and student."""
    parts = [
        "# Several labels, scores and pairs of texts\n\n"
        "`kdedge run` with default settings, except the sizes given below. Figures are of the test "
        "split: the mean over the seeds, with the standard deviation if there are several, and a "
        f"95% interval over the texts ({SAMPLES:,} bootstrap samples) where it was computed. The "
        "last line of a table is the student's figure divided by the teacher's. MB is the size of "
        "the int8 LiteRT file, `as float` the share of test texts to which it gives the same "
        "answer as the Keras model (a score within a tenth of the deviation), ms the median time "
        "from a test text to its answer with the fastest file (the lowest of the seeds, because "
        "other programs ran too).\n"
    ]
    for place in dict.fromkeys((one["data"], one["student"]) for one in result["rows"]):
        ones = [one for one in result["rows"] if (one["data"], one["student"]) == place]
        parts.append(f"## {', '.join(place)}\n\n{about(ones)}\n\n{table(ones)}")
    return "\n".join(parts)


def about(ones: Sequence[Figures]) -> str:
    """Seeds, sizes and processor time of runs that differ in their seed only."""
    one = ones[-1]
    sizes = (f"{key} {value}; " for key, value in one["asked"].items() if key != "student")
    best = ", ".join(str(one["best_epoch"]) for one in ones)
    return (
        f"{len(ones)} seed{'s' * (len(ones) > 1)}; {''.join(sizes)}{one['test_texts']:,} test "
        f"texts, best epoch {best} of {one['teach']['epochs']}, "
        f"{min(one['cpu_seconds'] for one in ones) / 60:.0f} CPU minutes."
    )


def table(ones: Sequence[Figures]) -> str:
    """Measures of each model, and the student's divided by the teacher's."""
    ours = ones[-1]["student"]
    names = list(ones[-1]["models"][ours])
    lines = []
    for model in [*ones[-1]["models"], f"{ours} / teacher"]:
        cells = [model]
        for metric in names:
            if model in ones[-1]["models"]:
                values = [one["models"][model][metric] for one in ones]
                as_metric = metric
            elif metric == "mean_absolute_error":
                cells.append("")
                continue
            else:
                mine, teachers = ([o["models"][m][metric] for o in ones] for m in (ours, "teacher"))
                values = [a / b for a, b in zip(mine, teachers, strict=True)]
                as_metric = "accuracy"  # shown in per cent, as shares are
            ends = [one["intervals"][model][metric] for one in ones if model in one["intervals"]]
            cells.append(_with_spread(as_metric, values, ends))
        who = {"teacher": "teacher", ours: "student"}.get(model)
        same = [one["agreement"][who] for one in ones if who in one["agreement"]]
        cells += [
            f"{ones[-1]['bytes'][who] / 1e6:.1f}" if who else "",
            f"{100 * statistics.mean(same):.1f}%" if same else "",
            f"{fastest(ones, model):.3g}" if who else "",
        ]
        lines.append(cells)
    head = ("model", *(name.replace("_", " ") for name in names), "MB", "as float", "ms")
    return markdown(head, lines)


def _with_spread(metric: str, values: Sequence[float], ends: Sequence[Sequence[float]]) -> str:
    text = format_metric(metric, statistics.mean(values), 1)
    if len(values) > 1:
        text += f" ± {format_metric(metric, statistics.stdev(values), 1).rstrip('%')}"
    if ends:
        low, high = (
            format_metric(metric, statistics.mean(e), 1).rstrip("%")
            for e in zip(*ends, strict=True)
        )
        text += f" ({low} to {high})"
    return text


if __name__ == "__main__":
    cli(main)
