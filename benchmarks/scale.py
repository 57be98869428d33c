"""What labelling and training cost as the texts grow, and what Ray adds on one machine.

    make demo                          # the teacher that Ray's actors load
    python benchmarks/scale.py
    python benchmarks/scale.py --sizes 10000 100000

The corpus, repeated with a number behind each text, is labelled by a teacher of 2 layers and 64
units with random weights, and a nano student is trained on it for an epoch: each in a process of
its own, whose memory is looked at all the time. Then the run's teacher labels texts by the local
engine and, in turn, by Ray with one and with two actors. What is in runs/scale already is not done
again.
"""

import json
import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import Figures, Setup, asked, cli, emptied, machine, memory_mb, once
from kdedge.bench.report.tables import markdown
from kdedge.files import write_text

SIZES = (10_000, 100_000, 1_000_000)
TEXTS_A_FILE = 50_000
RAY_TEXTS, RAY_REPEATS = 8_192, 3
NAMES = ("negative", "positive")


def main() -> None:
    """Measure what is not measured yet, and draw."""
    setup, given = asked("scale", __doc__, sizes=SIZES)
    wanted = [(step, texts) for texts in given.sizes for step in ("label", "train")]
    for step, texts in [*wanted, ("ray-1", RAY_TEXTS), ("ray-2", RAY_TEXTS)]:
        once(setup.work / f"{step}-{texts}.json", measured, setup, step, texts)
    points: dict[str, list[Figures]] = {step: [] for step in STEPS}
    for path in setup.work.glob("*.json"):
        kept = json.loads(path.read_text(encoding="utf-8"))
        points[path.stem.rpartition("-")[0]].append(kept)
    points = {step: sorted(p, key=lambda point: point["texts"]) for step, p in points.items()}
    setup.keep(setup.about() | {"machine": machine(), "points": points}, page, picture(points))


def measured(setup: Setup, step: str, size: int) -> None:
    """A step's time and memory, kept in the work folder."""
    write_texts(setup, size)
    own = [0.0]

    def watch() -> None:
        while True:
            own[0] = max(own[0], memory_mb("RssAnon"))
            time.sleep(0.1)

    threading.Thread(target=watch, daemon=True).start()
    result = STEPS[step](setup, size)
    # What it asked for, and with the pages of files that the kernel takes back when it needs them.
    memory = {"own MB": own[0], "with files MB": memory_mb("VmHWM")}
    result |= memory | {"texts": size, "load": os.getloadavg()[1]}
    write_text(setup.work / f"{step}-{size}.json", json.dumps(result) + "\n")


def since(start: tuple[float, float]) -> dict[str, float]:
    """Seconds since a call of `now`."""
    wall, cpu = now()
    return {"seconds": wall - start[0], "CPU seconds": cpu - start[1]}


def now() -> tuple[float, float]:
    """Wall time and this process's own."""
    return time.perf_counter(), time.process_time()


def numbered(setup: Setup, size: int) -> Iterator[str]:
    """So many texts, all different."""
    from kdedge.text.readers import read_texts

    texts = read_texts(setup.recipe.data.path, setup.recipe.data.text)
    for i in range(size):
        yield f"{texts[i % len(texts)]} {i // len(texts)}"


def write_texts(setup: Setup, size: int) -> None:
    """Parquet files in a folder, once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = setup.work / f"texts-{size}"
    if (folder / "_done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    texts = numbered(setup, size)
    for start in range(0, size, TEXTS_A_FILE):
        part = [next(texts) for _ in range(min(TEXTS_A_FILE, size - start))]
        pq.write_table(pa.table({"text": part}), folder / f"{start:09d}.parquet")
    (folder / "_done").touch()


def small_teacher(setup: Setup) -> Any:
    """The teacher with random weights, made if it is not there."""
    import keras

    from kdedge import load_teacher
    from kdedge.tasks import Classification
    from kdedge.teachers.bert import BertTeacher
    from kdedge.teachers.checkpoints import find_pretrained
    from kdedge.teachers.encoder import Encoder, Shape
    from kdedge.teachers.families import BERT
    from kdedge.teachers.heads import FirstTokenHead
    from kdedge.text.encoder import TextEncoder

    folder = setup.work / "teacher"
    if not folder.exists():
        pretrained = find_pretrained(setup.recipe.teach.pretrained)
        encoder = TextEncoder.from_pretrained(pretrained, 64)
        keras.utils.set_random_seed(0)
        task = Classification(label_names=NAMES)
        settings = {"model_type": "bert", "num_attention_heads": 2}
        transformer = Encoder(Shape(len(encoder.vocabulary), 64, 2, 64, 64, 2, 2, 256))
        head = FirstTokenHead(BERT.head, 64, task.width, 0.1)
        model = BertTeacher(transformer, head, BERT, settings, encoder, task, "random weights")
        model.save_pretrained(folder)
    return load_teacher(folder)


def label(setup: Setup, size: int) -> Figures:
    """Label so many texts."""
    from kdedge.teachers.label import label_texts
    from kdedge.text.readers import TextFiles

    teacher, labels = small_teacher(setup), setup.work / f"labels-{size}"
    # Its graph, and the vectors of the vocabulary, are the same work for any number of texts.
    label_texts(teacher, ["warm"], labels)
    start = now()
    store = label_texts(teacher, TextFiles(setup.work / f"texts-{size}"), labels)
    return since(start) | {"stored": len(store)}


def train(setup: Setup, size: int) -> Figures:
    """Train a student on so many soft labels."""
    import numpy as np

    from kdedge import Corpus, SoftLabels
    from kdedge.distill.stage import distill_student
    from kdedge.recipe import Distill
    from kdedge.tasks import Classification
    from kdedge.text.splits import Split

    start = now()
    store = SoftLabels(setup.work / f"labels-{size}")
    opened = since(start)["seconds"]
    first = [*numbered(setup, min(size, 3000))]
    labels = store.lookup(first)[0].argmax(1).astype(np.int32)
    splits = [Split(tuple(first[i::3]), labels[i::3]) for i in range(3)]
    corpus = Corpus(Classification(label_names=NAMES), *splits)
    out = emptied(setup.work / f"student-{size}")
    settings = Distill(student="nano", epochs=1)
    distill_student(corpus, store, store.encoder(), settings, out, seed=0)
    return since(start) | {"opening the store": opened}


def ray(actors: int, setup: Setup, size: int) -> Figures:
    """Seconds of the local engine and of Ray, in turn, each into a store that has nothing."""
    from kdedge import load_teacher
    from kdedge.teachers.label import label_texts
    from kdedge.teachers.on_ray import label_on_ray
    from kdedge.text.readers import TextFiles

    load = partial(load_teacher, setup.made("teacher"))
    teacher, texts = load(), TextFiles(setup.work / f"texts-{size}")
    empty, two = setup.work / "labels-none", setup.work / "two.txt"
    label_texts(teacher, ["warm"], emptied(empty))
    two.write_text("a start\nand another\n")
    ways: dict[str, Callable[[Path], Any]] = {
        "local": partial(label_texts, teacher, texts),
        "start-up": partial(label_on_ray, load, TextFiles(two), actors=actors),
        "ray": partial(label_on_ray, load, texts, actors=actors),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(RAY_REPEATS):
        for way, work in ways.items():
            folder = emptied(setup.work / f"labels-{way}")
            shutil.copytree(empty, folder)
            start = time.perf_counter()
            work(folder)
            seconds[way].append(time.perf_counter() - start)
    return dict(seconds)


STEPS: dict[str, Callable[[Setup, int], Figures]] = {
    "label": label,
    "train": train,
    "ray-1": partial(ray, 1),
    "ray-2": partial(ray, 2),
}


def page(result: Figures) -> str:
    """Costs by size, and Ray beside the local engine."""
    points = result["points"]
    costs = [
        (
            step, f"{p['texts']:,}", f"{p['seconds']:.0f}",
            f"{p['seconds'] / p['texts'] * 10_000:.1f}",
            f"{p['CPU seconds'] / p['texts'] * 10_000:.1f}",
            f"{p['own MB']:.0f} ({p['with files MB']:.0f})", f"{p['load']:.1f}",
        )
        for step in ("label", "train")
        for p in points[step]
    ]  # fmt: skip
    rays = []
    for actors, p in [("1", p) for p in points["ray-1"]] + [("2", p) for p in points["ray-2"]]:
        beyond = [whole - start for whole, start in zip(p["ray"], p["start-up"], strict=True)]
        ratio = statistics.median(beyond) / statistics.median(p["local"])
        rays.append((actors, *map(spread, (p["local"], p["start-up"], beyond)), f"{ratio:.2f}"))
    head = ("step", "texts", "s", "s for 10,000 texts", "CPU s for 10,000", "memory, MB", "load")
    return (
        f"{result['machine']}. A teacher of 2 layers and 64 units, a nano "
        "student for one epoch. Memory is the process's own, in brackets with the pages of mapped "
        "files, in MB, TensorFlow's included. The load is that of the last five minutes, of others "
        f"too.\n\n{markdown(head, costs)}\nRay, on the same machine: the run's teacher, "
        f"{RAY_TEXTS:,} texts, {RAY_REPEATS} repeats in turn with the local engine, each into an "
        "empty store. Medians, least and most.\n\n"
        + markdown(("actors", "local, s", "start-up, s", "Ray beyond that, s", "ratio"), rays)
    )


def spread(seconds: list[float]) -> str:
    """The median, least and most."""
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def picture(points: dict[str, list[Figures]]) -> str:
    """An SVG of time and memory over texts."""
    import io

    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure, drawn = Figure(figsize=(8, 3.2), layout="constrained"), io.StringIO()
    time_axis, memory_axis = figure.subplots(1, 2)
    for step in ("label", "train"):
        texts = [p["texts"] for p in points[step]]
        time_axis.plot(texts, [p["CPU seconds"] for p in points[step]], "o-", label=step)
        memory_axis.plot(texts, [p["own MB"] for p in points[step]], "o-", label=step)
    time_axis.set(xscale="log", yscale="log", xlabel="texts", ylabel="CPU seconds")
    memory_axis.set(xscale="log", ylim=(0, None), xlabel="texts", ylabel="memory of its own, MB")
    time_axis.legend()
    # The same identifiers each time.
    with rc_context({"svg.hashsalt": "kdedge"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()


if __name__ == "__main__":
    cli(main)
