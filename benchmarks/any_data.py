"""Measures what `kdedge run` gives with default settings, beside simple baselines.

    python benchmarks/any_data.py FOLDER movie_reviews banking77 snips
    python benchmarks/any_data.py FOLDER banking77:8 banking77:20 movie_reviews:50 --seeds 1 2

FOLDER has the data sets' files; SETS names them. NAME:8 trains on 8 texts of each class, of which
kdedge takes some for the valid split; the test split stays whole. Each run is one `kdedge run`.
New rows replace those with the same data and seed in results/any_data.json, and all rows get the
figures that others.py has written for them.
"""

import csv
import json
import os
import resource
import statistics
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import (
    RESULTS,
    ROOT,
    Figures,
    cli,
    commit,
    keep_rows,
)
from kdedge import KdedgeError
from kdedge.bench.report.model import BenchReport
from kdedge.bench.report.tables import markdown
from kdedge.bundle.manifest import Artifact, verify
from kdedge.tasks import wilson_interval
from kdedge.text.readers import read_rows

NAME = "any_data"
# File, column of the texts (lists of words are joined with spaces), column of the labels.
SETS = {
    "movie_reviews": ("movie_reviews.tsv.gz", "text", "label"),
    "banking77": ("tasks/banking77.csv.gz", "text", "label"),
    "snips": ("tasks/snips.jsonl.gz", "words", "intent"),
}
SIZES = {"teacher": "teacher_bundle", "student": "bundle"}
# The beginning of the name: the teacher's file is for several lengths.
ARTIFACT = "litert-int8"


def main() -> None:
    """Run the named data sets, then write the page."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of the data sets")
    parser.add_argument("sets", nargs="*", help="NAME or NAME:TEXTS_A_CLASS")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    options = parser.parse_args()
    for data_name in options.sets:
        name, _, each = data_name.partition(":")
        if name not in SETS or (each and not each.isdigit()):
            raise KdedgeError(f"sets: {data_name}. Allowed: {', '.join(SETS)}, also with :NUMBER.")
    for data_name in options.sets:
        for seed in options.seeds:
            out, cpu = run(options.folder, data_name, seed)
            keep(figures(data_name, seed, out) | {"cpu_seconds": cpu})
    stored = json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))
    keep(*map(with_others, stored["rows"]))


def folder_of(data_name: str, seed: int) -> Path:
    """The folder with the data, the recipe and the run of a row."""
    return ROOT / "runs" / NAME / f"{data_name.replace(':', '-')}-{seed}"


def run(folder: Path, data_name: str, seed: int) -> tuple[Path, float | None]:
    """Write the data and a recipe, and run the recipe.

    Returns:
        The folder of the run, and its CPU seconds, None if some stages had been done before.
    """
    name, _, each = data_name.partition(":")
    work = folder_of(data_name, seed)
    work.mkdir(parents=True, exist_ok=True)
    with (work / "data.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label", "split"))
        writer.writerows(rows(folder, name, int(each) if each else None, seed))
    recipe = work / "recipe.toml"
    recipe.write_text(
        f'name = "{name}"\nseed = {seed}\n[data]\npath = "data.csv"\nsplit = "split"\n'
    )
    program = "from kdedge.cli import app; app()"
    out = work / "run"
    whole, before = not out.exists(), processor_seconds()
    command = [sys.executable, "-c", program, "run", str(recipe), "--out", str(out)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return out, processor_seconds() - before if whole else None


def processor_seconds() -> float:
    """CPU seconds of the programs that this one started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rows(folder: Path, name: str, each: int | None, seed: int) -> Iterator[tuple[str, str, str]]:
    """Text, label and split of each row; `each` limits the training rows of each class."""
    file, text, label = SETS[name]
    all_rows = []
    for row in read_rows(folder / file):
        words = row.fields[text]
        joined = " ".join(words) if isinstance(words, list) else str(words)
        all_rows.append((joined, str(row.fields[label]), str(row.fields["split"])))
    if each is None:
        yield from all_rows
        return
    taken: dict[str, int] = {}
    for i in np.random.default_rng(seed).permutation(len(all_rows)).tolist():
        words, label, split = all_rows[i]
        if split == "train" and taken.get(label, 0) < each:
            taken[label] = taken.get(label, 0) + 1
            yield words, label, "train"
    yield from (row for row in all_rows if row[2] == "test")


def figures(data_name: str, seed: int, out: Path) -> Figures:
    """The figures of a run that are stored."""
    report = BenchReport.load(out / "results.json")
    assert report.quality
    notes = json.loads((out / "teacher/teacher.json").read_text(encoding="utf-8"))
    student = json.loads((out / "student/student.json").read_text(encoding="utf-8"))
    stages = json.loads((out / "stages.json").read_text(encoding="utf-8"))
    sizes = {who: int8_file(out / bundle).bytes for who, bundle in SIZES.items()}
    return {
        "data": data_name,
        "seed": seed,
        "commit": commit(),
        "models": {one.name: one.measures for one in report.quality.models},
        "test_texts": report.quality.texts,
        "verdicts": report.quality.verdicts,
        "bytes": sizes,
        "seconds": {name: entry["seconds"] for name, entry in stages.items()},
        "teach": {key: notes["settings"][key] for key in ("epochs", "batch_size", "max_length")},
        "best_epoch": notes["kept"]["epoch"],
        "pooling": notes.get("probe", {}).get("pooling"),
        "transfer_texts": student["transfer_texts"],
        "student_epochs": student["settings"]["epochs"],
        "student": student["preset"],
        "text_ms": {m.name: m.text_ms for m in report.measurements},
    }


def with_others(row: Figures) -> Figures:
    """A stored row, with the figures that others.py wrote for its data if it did."""
    others = folder_of(row["data"], row["seed"]) / "others.json"
    if not others.exists():
        return row
    return row | {"models": json.loads(others.read_text(encoding="utf-8")) | row["models"]}


def int8_file(bundle: Path) -> Artifact:
    """The int8 LiteRT file of a bundle."""
    return next(a for a in verify(bundle).artifacts if a.name.startswith(ARTIFACT))


def keep(*new: Figures) -> None:
    """Write the stored rows with the new ones, and the page."""
    keep_rows(NAME, new, ("data", "seed"), _command, page)


def _command(rows: list[Figures]) -> str:
    names = dict.fromkeys(one["data"] for one in rows)
    seeds = sorted({one["seed"] for one in rows}) or [1]
    return f"python benchmarks/any_data.py FOLDER {' '.join(names)} --seeds " + " ".join(
        map(str, seeds)
    )


def page(result: Figures) -> str:
    """One table for each data set."""
    parts = [
        "# What the defaults give on other data\n\n"
        "`kdedge run` with default settings. Figures are of the test split: the mean over the "
        "seeds, with the standard deviation if there are several, and a 95% interval over the "
        "texts. Baselines without a deviation were run with one seed. MB is the size of the int8 "
        "LiteRT file, ms the median time from a test text to its answer with the fastest file. "
        "Minutes are those of the whole run, from the file to the report. Of minutes and ms the "
        "lowest of the seeds is given, because other programs ran too. "
        f"Machine: {result['machine']}. fastText, static embeddings and SetFit were run "
        "with benchmarks/others.py, SetFit on a GPU.\n"
    ]
    for name in dict.fromkeys(one["data"] for one in result["rows"]):
        ones = [one for one in result["rows"] if one["data"] == name]
        parts.append(f"## {title(name)}\n\n{about(ones)}\n\n{table(ones)}")
    return "\n".join(parts)


def title(name: str) -> str:
    """The heading for a name such as `banking77:8`."""
    data, _, each = name.partition(":")
    return f"{data}, {each} labelled texts per class" if each else data


def about(ones: Sequence[Figures]) -> str:
    """The settings that the rules chose, and the time that the runs took."""
    one = ones[-1]
    minutes = min(sum(o["seconds"].values()) / 60 for o in ones)
    used = [o["cpu_seconds"] / 60 for o in ones if o.get("cpu_seconds")]
    busy = f" ({min(used):.1f} CPU minutes)" if used else ""
    return (
        f"{len(ones)} seed{'s' * (len(ones) > 1)}, {one['test_texts']:,} test texts. At most "
        f"{one['teach']['epochs']} epochs of the teacher (best: "
        f"{', '.join(str(o['best_epoch']) for o in ones)}), {one['teach']['max_length']} tokens, "
        f"{one['transfer_texts']:,} texts and {one['student_epochs']} epochs for the student; "
        f"{minutes:.1f} minutes{busy}."
    )


def table(ones: Sequence[Figures]) -> str:
    """Metrics and sizes of each model."""
    lines = []
    for model in dict.fromkeys(model for one in ones for model in one["models"]):
        measures = [one["models"][model] for one in ones if model in one["models"]]
        who = "teacher" if model == "teacher" else "student"
        is_ours = model in ("teacher", ones[-1]["student"])
        accuracy = statistics.mean(m["accuracy"] for m in measures)
        low, high = wilson_interval(accuracy, ones[-1]["test_texts"])
        lines.append(
            (
                model,
                spread([100 * m["accuracy"] for m in measures]),
                f"{100 * low:.1f} to {100 * high:.1f}",
                spread([100 * m["macro_f1"] for m in measures]),
                megabytes([one["bytes"][who] for one in ones]) if is_ours else "",
                f"{fastest(ones, model):.3g}" if is_ours else "",
            )
        )
    return markdown(("model", "accuracy, %", "95%", "macro F1, %", "MB", "ms"), lines)


def megabytes(sizes: Sequence[int]) -> str:
    """The smallest and the largest size in MB; they differ if a layer had to stay in float32."""
    return " to ".join(dict.fromkeys(f"{size / 1e6:.1f}" for size in (min(sizes), max(sizes))))


def fastest(ones: Sequence[Figures], model: str) -> float:
    """Milliseconds from text to answer, of the model's fastest file and the quickest run."""
    times = (item for one in ones for item in one["text_ms"].items())
    return float(min(ms for name, ms in times if name.startswith(f"{model}/")))


def spread(values: Sequence[float]) -> str:
    """The mean, and the standard deviation if there are several values."""
    mean = f"{statistics.mean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


if __name__ == "__main__":
    cli(main)
