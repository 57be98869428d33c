"""How fast the local engine labels, against a plain padded loop and the machine's own peak.

    make demo                          # the teacher
    python benchmarks/throughput.py

Labels the same texts of data/movie_reviews.tsv.gz in turns: in file order padded to 64 tokens, and
as `kdedge label` does with batches of several sizes. Beside each turn it multiplies two matrices of
the size that the teacher multiplies, which gives the machine's peak as it was then. Writes
benchmarks/results/throughput.json and throughput.md.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from kdedge import load_teacher
from kdedge.bench.report.tables import markdown
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.label import run_teacher
from kdedge.text.readers import read_texts

ROOT = Path(__file__).parent.parent
COMMAND = "python benchmarks/throughput.py"
RESULTS = ROOT / "benchmarks" / "results"
TEACHER = ROOT / "runs" / "movie_reviews" / "teacher"
DATA = ROOT / "data" / "movie_reviews.tsv.gz"
PLAIN_LENGTH = 64
BATCHES = (16, 32, 64, 128)


def main() -> None:
    """Label, compare, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    teacher = load_teacher(TEACHER)
    texts = read_texts(DATA)
    chosen = np.random.default_rng(0).permutation(len(texts))[: options.texts]
    texts = [texts[i] for i in chosen]
    lengths = np.array([len(ids) for ids in teacher.encoder.token_ids(texts)])
    work = _operations(teacher, lengths)

    def engine(batch_size: int) -> Callable[[], object]:
        return lambda: run_teacher(teacher, texts, batch_size)

    ways: dict[str, Callable[[], object]] = {
        "plain loop, 64 texts padded to 64": lambda: _plain(teacher, texts),
        **{f"engine, batches of {size}": engine(size) for size in BATCHES},
    }
    plain = next(iter(ways))
    _plain(teacher, texts[:64])
    rounds = []
    for i in range(options.rounds):
        peak = _matmul_peak(teacher)
        seconds = {name: _seconds(way) for name, way in ways.items()}
        rounds.append({"peak, operations/s": peak, "seconds": seconds})
        print(f"round {i + 1} of {options.rounds}:", {k: round(v, 2) for k, v in seconds.items()})
    rows = {}
    for name in ways:
        taken = [r["seconds"][name] for r in rounds]
        faster = [r["seconds"][plain] / r["seconds"][name] for r in rounds]
        share = [work / r["seconds"][name] / r["peak, operations/s"] for r in rounds]
        rows[name] = {
            "ms a text": 1000 * statistics.median(taken) / len(texts),
            "times faster": statistics.median(faster),
            "times faster, from to": [min(faster), max(faster)],
            "share of the peak": statistics.median(share),
        }
    result = {
        "command": COMMAND,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, no GPU used",
        "load": os.getloadavg()[1],
        "texts": len(texts),
        "tokens": int(lengths.sum()),
        "ms a text, tokenizing alone": 1000
        * _seconds(lambda: teacher.encoder.encode(texts))
        / len(texts),
        "tokens of the plain loop": PLAIN_LENGTH * len(texts),
        "rows": rows,
        "rounds": rounds,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "throughput.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "throughput.md").write_text(_table(result), encoding="utf-8")


def _plain(teacher: BertTeacher, texts: list[str]) -> None:
    for start in range(0, len(texts), 64):
        teacher.run(teacher.encoder.encode(texts[start : start + 64], PLAIN_LENGTH).inputs)


def _operations(teacher: BertTeacher, lengths: Any) -> float:
    """Multiplications and additions of the matrix products that texts without padding need."""
    config = teacher.transformer.config
    width, layers = config.hidden_size, config.num_hidden_layers
    weights = 4 * width**2 + 2 * width * config.intermediate_size
    return float(2 * layers * (weights * lengths.sum() + 2 * width * (lengths**2).sum()))


def _matmul_peak(teacher: BertTeacher) -> float:
    """Float32 operations a second of the machine's matrix product, the best of ten tries."""
    config = teacher.transformer.config
    rows, width, inner = 2048, config.hidden_size, config.intermediate_size
    a, b = tf.random.normal((rows, width)), tf.random.normal((width, inner))
    multiply = tf.function(tf.matmul)
    multiply(a, b)
    best = min(_seconds(lambda: [multiply(a, b).numpy() for _ in range(10)]) for _ in range(10))
    return 10 * 2 * rows * width * inner / best


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _table(result: dict[str, Any]) -> str:
    more = result["tokens of the plain loop"] / result["tokens"]
    rows = []
    for name, row in result["rows"].items():
        low, high = row["times faster, from to"]
        rows.append(
            (
                name,
                f"{row['ms a text']:.2f}",
                f"{row['times faster']:.1f} ({low:.1f}, {high:.1f})",
                f"{100 * row['share of the peak']:.0f}",
            )
        )
    head = (
        "way", "ms a text", "times faster than the plain loop (from, to)", "share of the peak, %",
    )  # fmt: skip
    return (
        f"Made by `{COMMAND}`; throughput.json has every round. {result['texts']:,} texts of "
        f"{result['tokens']:,} tokens, {result['machine']}, a load of {result['load']:.1f} in the "
        f"last five minutes. Medians of {len(result['rounds'])} rounds.\n\n"
        + markdown(head, rows)
        + "\nThe share counts the operations that the texts need without padding, against the "
        "fastest float32 matrix product of the teacher's widths in the same round. Padded to "
        f"{PLAIN_LENGTH}, the texts have {more:.2f} times as many tokens: at the same share of the "
        "peak, that is what can be won, and the attention's part, which grows with the square of "
        "the length. Tokenizing alone takes "
        f"{result['ms a text, tokenizing alone']:.3f} ms a text.\n"
    )


if __name__ == "__main__":
    main()
