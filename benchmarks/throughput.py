"""How fast the local engine labels, against a plain padded loop and the machine's own peak.

    make demo                          # the teacher
    python benchmarks/throughput.py

Labels the same texts in turns: in file order padded to 64 tokens, and as `kdedge label` does with
batches of several sizes. Beside each turn it multiplies two matrices of the size that the teacher
multiplies, which gives the machine's peak as it was then.
"""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.common import asked, cli, machine
from kdedge.bench.report.tables import markdown
from kdedge.text.readers import read_texts

PLAIN_LENGTH = 64
BATCHES = (16, 32, 64, 128)


def main() -> None:
    """Label, compare, keep."""
    from kdedge import load_teacher
    from kdedge.teachers.label import run_teacher

    setup, given = asked("throughput", __doc__, texts=2048, rounds=5)
    teacher, data = load_teacher(setup.made("teacher")), setup.recipe.data
    there = read_texts(data.path, data.text)
    chosen = [there[i] for i in np.random.default_rng(0).permutation(len(there))[: given.texts]]
    lengths = np.array([len(ids) for ids in teacher.encoder.token_ids(chosen)])
    ways: dict[str, Callable[[], object]] = {
        "plain loop, 64 texts padded to 64": partial(plain_loop, teacher, chosen),
        **{
            f"engine, batches of {size}": partial(run_teacher, teacher, chosen, size)
            for size in BATCHES
        },
    }
    plain, work = next(iter(ways)), operations(teacher, lengths)
    plain_loop(teacher, chosen[:64])
    found = []
    for number in range(given.rounds):
        peak = matmul_peak(teacher)
        taken = {name: seconds(way) for name, way in ways.items()}
        found.append({"peak, operations/s": peak, "seconds": taken})
        print(f"round {number + 1} of {given.rounds}:", {k: round(v, 2) for k, v in taken.items()})
    rows = {}
    for name in ways:
        faster = [r["seconds"][plain] / r["seconds"][name] for r in found]
        share = [work / r["seconds"][name] / r["peak, operations/s"] for r in found]
        middle = statistics.median(r["seconds"][name] for r in found)
        rows[name] = {
            "ms a text": 1000 * middle / len(chosen),
            "times faster": statistics.median(faster),
            "times faster, from to": [min(faster), max(faster)],
            "share of the peak": statistics.median(share),
        }
    tokenizing = seconds(partial(teacher.encoder.encode, chosen))
    figures = {
        "machine": machine(),
        "load": os.getloadavg()[1],
        "texts": len(chosen),
        "tokens": int(lengths.sum()),
        "ms a text, tokenizing alone": 1000 * tokenizing / len(chosen),
        "tokens of the plain loop": PLAIN_LENGTH * len(chosen),
        "rows": rows,
        "rounds": found,
    }
    setup.keep(setup.about() | figures, page)


def plain_loop(teacher: Any, texts: list[str]) -> None:
    """Texts in their order, all padded to the same length."""
    for start in range(0, len(texts), 64):
        teacher.run(teacher.encoder.encode(texts[start : start + 64], PLAIN_LENGTH).inputs)


def operations(teacher: Any, lengths: Any) -> float:
    """Multiplications and additions of the matrix products that texts without padding need."""
    shape = teacher.transformer.shape
    width, layers = shape.width, shape.layers
    weights = 4 * width**2 + 2 * width * shape.inner
    return float(2 * layers * (weights * lengths.sum() + 2 * width * (lengths**2).sum()))


def matmul_peak(teacher: Any) -> float:
    """Float32 operations a second of the machine's matrix product, the best of ten tries."""
    import tensorflow as tf

    shape = teacher.transformer.shape
    rows, width, inner = 2048, shape.width, shape.inner
    a, b = tf.random.normal((rows, width)), tf.random.normal((width, inner))
    multiply = tf.function(tf.matmul)
    multiply(a, b)
    best = min(seconds(lambda: [multiply(a, b).numpy() for _ in range(10)]) for _ in range(10))
    return 10 * 2 * rows * width * inner / best


def seconds(work: Callable[[], object]) -> float:
    """That a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def page(result: dict[str, Any]) -> str:
    """A row a way, and what can be won by not padding."""
    more = result["tokens of the plain loop"] / result["tokens"]
    rows = [
        (
            name, f"{row['ms a text']:.2f}",
            "{:.1f} ({:.1f}, {:.1f})".format(row["times faster"], *row["times faster, from to"]),
            f"{100 * row['share of the peak']:.0f}",
        )
        for name, row in result["rows"].items()
    ]  # fmt: skip
    head = (
        "way", "ms a text", "times faster than the plain loop (from, to)", "share of the peak, %",
    )  # fmt: skip
    return (
        f"{result['texts']:,} texts of {result['tokens']:,} tokens, {result['machine']}, a load of "
        f"{result['load']:.1f} in the last five minutes. Medians of {len(result['rounds'])} "
        f"rounds.\n\n{markdown(head, rows)}\n"
        "The share counts the operations that the texts need without padding, against the "
        "fastest float32 matrix product of the teacher's widths in the same round. Padded to "
        f"{PLAIN_LENGTH}, the texts have {more:.2f} times as many tokens: at the same share of the "
        "peak, that is what can be won, and the attention's part, which grows with the square of "
        "the length. Tokenizing alone takes "
        f"{result['ms a text, tokenizing alone']:.3f} ms a text.\n"
    )


if __name__ == "__main__":
    cli(main)
