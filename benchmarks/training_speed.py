"""How many texts a second a student learns from: stored soft labels, and Keras's own Distiller.

    make demo  # the teacher and its soft labels
    python benchmarks/training_speed.py

Trains micro by kdedge's stage on stored soft labels and by keras.distillation.Distiller with the
live teacher, each time in a process of its own, in turn. Both get the same kind of batches, of
texts of like length. What counts is an epoch that is not the first, which compiles; kdedge's has
its evaluation on the valid split and its checkpoint in it, Keras's has none.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Setup, alone, asked, cli, machine, memory_mb
from benchmarks.study.grid import Cell
from kdedge.bench.report.tables import markdown
from kdedge.bench.statistics import ratio_interval
from kdedge.recipe import Distill

TARGET, EPOCHS = 10, 2
NAMES = {"kdedge": "kdedge, stored soft labels", "keras": "Keras's Distiller, live teacher"}
# A live teacher takes so much longer that fewer texts will do.
TEXTS = {"kdedge": 7_500, "keras": 2_000}


def main() -> None:
    """Measure in turn, then write."""
    setup, given = asked("training_speed", __doc__, repeats=5)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in TEXTS}
    for repeat in range(given.repeats):
        for way in [*TEXTS][:: 1 if repeat % 2 == 0 else -1]:
            runs[way].append(alone(stored if way == "kdedge" else live, setup, TEXTS[way]))
            print(f"{repeat + 1}/{given.repeats} {way}: {runs[way][-1]}", file=sys.stderr)
    setup.keep(setup.about() | {"machine": machine(), "runs": runs}, page)


def micro(texts: int, epochs: int) -> Cell:
    """A student on so many texts."""
    return Cell(name="speed", texts=texts, distill=Distill(student="micro", epochs=epochs))


def stored(setup: Setup, texts: int) -> dict[str, float]:
    """kdedge's stage: the time of more epochs less that of one, all else being equal."""
    from benchmarks.study.training import distilled, smaller
    from kdedge import SoftLabels

    with tempfile.TemporaryDirectory() as folder:
        cell, store = micro(texts, 1), SoftLabels(setup.made("soft_labels"))
        corpus, store = smaller(cell, setup.corpus(), store, Path(folder))
        seconds = []
        for epochs in (1, 1 + EPOCHS):
            start, out = time.perf_counter(), Path(folder) / str(epochs)
            distilled(micro(texts, epochs).distill, setup, corpus, store, out, cell.seed)
            seconds.append(time.perf_counter() - start)
        count = len(store) - len(corpus.valid) - len(corpus.test)
    return speed(texts, count, seconds[1] - seconds[0])


def live(setup: Setup, texts: int) -> dict[str, float]:
    """Keras's Distiller with the live teacher, after an epoch that compiles."""
    from benchmarks.study.training import built, lesson, stock_distiller
    from kdedge import load_teacher

    cell, teacher = micro(texts, EPOCHS), load_teacher(setup.made("teacher"))
    corpus = setup.corpus().subset(texts, None, cell.seed)
    model, train = built("micro", corpus, teacher.encoder), corpus.train
    data, _ = lesson(cell, teacher.encoder, train.texts, train.labels, 1e-3, 0)
    distiller = stock_distiller(teacher, model, 1e-3)
    distiller.fit(data, epochs=1, verbose=0)
    start = time.perf_counter()
    distiller.fit(data, epochs=EPOCHS, verbose=0)
    return speed(texts, len(train), time.perf_counter() - start)


def speed(texts: int, learned: int, seconds: float) -> dict[str, float]:
    """Texts a second of the later epochs, and the process's peak memory."""
    rate = learned * EPOCHS / seconds
    return {"texts": texts, "texts_a_second": rate, "peak_memory_mb": memory_mb("VmHWM")}


def page(result: dict[str, Any]) -> str:
    """Medians, least and most, and the ratio with its interval."""
    rates, rows = {}, []
    for way, runs in result["runs"].items():
        rates[way] = rate = [run["texts_a_second"] for run in runs]
        least_to_most = f"{min(rate):.0f} to {max(rate):.0f}"
        peak = max(run["peak_memory_mb"] for run in runs)
        rows.append((NAMES[way], f"{np.median(rate):.0f}", least_to_most, f"{peak:.0f}"))
    low, high = ratio_interval(rates["kdedge"], rates["keras"])
    ratio = np.median(rates["kdedge"]) / np.median(rates["keras"])
    return (
        f"{result['machine']}. micro, batches of {Distill().batch_size}, {len(rates['keras'])} "
        "processes each, in turn.\n\n"
        + markdown(("", "texts a second, median", "least to most", "peak memory, MB"), rows)
        + f"\nThe ratio is {ratio:.1f} ({low:.1f} to {high:.1f}, 95%); at least {TARGET} is the "
        f"target: {'met' if low >= TARGET else 'not met'}.\n"
    )


if __name__ == "__main__":
    cli(main)
