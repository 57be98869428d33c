"""How many texts a second a student learns from: stored soft labels, and Keras's own Distiller.

    make demo  # the teacher and its soft labels
    python benchmarks/training_speed.py

Trains micro by kdedge's stage on stored soft labels and by keras.distillation.Distiller with the
live teacher, each time in a process of its own, in turn. Both get the same kind of batches, of
texts of like length. What counts is an epoch that is not the first, which compiles; kdedge's has
its evaluation on the valid split and its checkpoint in it, Keras's has none. Writes
benchmarks/results/training_speed.json and training_speed.md.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from cells import RESULTS, RUN, SEEDS, Cell, commit

from kdedge.bench.report.tables import markdown
from kdedge.bench.statistics import ratio_interval
from kdedge.files import write_text
from kdedge.recipe import Distill

COMMAND = "python benchmarks/training_speed.py"
WAYS = ("kdedge", "keras")
TARGET = 10
EPOCHS = 2


def main() -> None:
    """Measure in turn, then write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    # A live teacher takes so much longer that fewer texts will do.
    parser.add_argument("--texts", type=int, nargs=2, default=(7_500, 2_000), metavar="N")
    parser.add_argument("--teacher", type=Path, default=RUN / "teacher")
    parser.add_argument("--soft-labels", type=Path, default=RUN / "soft_labels")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        texts = dict(zip(WAYS, given.texts, strict=True))[given.one]
        print(json.dumps(measured(given.one, texts, given.teacher, given.soft_labels)))
        return
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for repeat in range(given.repeats):
        for way in WAYS[:: 1 if repeat % 2 == 0 else -1]:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", way]
            environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
            said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            runs[way].append(json.loads(said.stdout.splitlines()[-1]))
            print(f"{repeat + 1}/{given.repeats} {way}: {runs[way][-1]}", file=sys.stderr)
    result = {
        "command": " ".join([COMMAND, *sys.argv[1:]]),
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "runs": runs,
    }
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / "training_speed.json", json.dumps(result, indent=2) + "\n")
    write_text(RESULTS / "training_speed.md", table(result))


def measured(way: str, texts: int, teacher: Path, soft_labels: Path) -> dict[str, float]:
    """Texts a second of later epochs, and the process's peak memory."""
    import tensorflow as tf
    from trainings import DATA, built, dataset, smaller, stock_distiller

    from kdedge import SoftLabels, load_corpus, load_teacher
    from kdedge.distill.stage import distill_student

    settings = {"student": "micro", "epochs": EPOCHS}
    cell = Cell(name="speed", seed=SEEDS[0], texts=texts, distill=settings)
    corpus = load_corpus(DATA, split="split")
    with tempfile.TemporaryDirectory() as folder:
        if way == "kdedge":
            corpus, store = smaller(cell, corpus, SoftLabels(soft_labels), Path(folder))
            seconds = []
            for epochs in (1, 1 + EPOCHS):
                start = time.perf_counter()
                settings = cell.model_copy(update={"distill": cell.distill | {"epochs": epochs}})
                out = Path(folder) / str(epochs)
                distill_student(corpus, store, store.encoder(), settings.settings, out, cell.seed)
                seconds.append(time.perf_counter() - start)
            count = len(store) - len(corpus.valid) - len(corpus.test)
            # Everything else is the same in both.
            rate = count * EPOCHS / (seconds[1] - seconds[0])
        else:
            corpus = corpus.subset(texts, None, cell.seed)
            live = load_teacher(teacher)
            model = built("micro", corpus, live.encoder)
            data, _ = dataset(live.encoder, corpus.train.texts, corpus.train.labels, cell)
            distiller = stock_distiller(live, model, 1e-3)
            distiller.fit(data, epochs=1, verbose=0)
            start = time.perf_counter()
            distiller.fit(data, epochs=EPOCHS, verbose=0)
            rate = len(corpus.train) * EPOCHS / (time.perf_counter() - start)
    assert not tf.config.list_physical_devices("GPU")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"texts": texts, "texts_a_second": rate, "peak_memory_mb": peak}


def table(result: dict[str, Any]) -> str:
    """Medians, least and most, and the ratio with its interval."""
    rates = {way: [run["texts_a_second"] for run in result["runs"][way]] for way in result["runs"]}
    rows = [
        (
            {"kdedge": "kdedge, stored soft labels", "keras": "Keras's Distiller, live teacher"}[
                way
            ],
            f"{np.median(rates[way]):.0f}",
            f"{min(rates[way]):.0f} to {max(rates[way]):.0f}",
            f"{max(run['peak_memory_mb'] for run in result['runs'][way]):.0f}",
        )
        for way in rates
    ]
    low, high = ratio_interval(rates["kdedge"], rates["keras"])
    ratio = np.median(rates["kdedge"]) / np.median(rates["keras"])
    return (
        f"Made by `{result['command']}` on {result['machine']}; training_speed.json has the "
        f"rest.\n\nmicro, batches of {Distill().batch_size}, {len(rates['keras'])} processes "
        "each, in turn.\n\n"
        + markdown(("", "texts a second, median", "least to most", "peak memory, MB"), rows)
        + f"\nThe ratio is {ratio:.1f} ({low:.1f} to {high:.1f}, 95%); at least {TARGET} is the "
        f"target: {'met' if low >= TARGET else 'not met'}.\n"
    )


if __name__ == "__main__":
    main()
