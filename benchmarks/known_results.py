"""Tests `kdedge bench` on comparisons with a known result.

    make demo                    # the teacher and its soft labels
    python benchmarks/known_results.py

Measures a file of micro against itself, against one that is 5% slower, and with other people's
programs. Finished comparisons are kept in runs/known_results.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.common import Figures, Setup, cli, make_once, read_command_line, report_figures
from kdedge import Student, TextEncoder, export_bundle
from kdedge.bench.report.model import Measurement, three_digits
from kdedge.bench.report.tables import markdown
from kdedge.bench.run import bench_bundles
from kdedge.bench.scenario import scenario
from kdedge.bench.statistics import p50, ratio_interval
from kdedge.bundle.manifest import verify
from kdedge.export.subject import subject_of
from kdedge.files import write_text
from kdedge.recipe import Export
from kdedge.text.pairs import Text

SLOWER = 0.05
CALIBRATION = 512  # no-ops that are measured together, to know the cost of one
OTHERS = ("litert-float32", "litert-int8", "onnx-float32", "onnx-int8")


def main() -> None:
    """Run the comparisons, and write the results."""
    setup, options = read_command_line(
        "known_results", __doc__, same=20, slower=10, rounds=5, tier="light"
    )
    bundle = slowed_bundle(setup, 0)
    again = bundle.with_name("again")
    if not again.exists():
        shutil.copytree(bundle, again)
    same = comparisons(bundle, again, setup, options.same, "quick")
    calibrated = slowed_bundle(setup, CALIBRATION)
    (calibration,) = comparisons(bundle, calibrated, setup, 1, options.tier)
    bare, cost = p50(calibration["a_ms"]), no_op_ms(calibration)
    no_ops = round(SLOWER * bare / cost)
    slowed = slowed_bundle(setup, no_ops)
    slower = comparisons(bundle, slowed, setup, options.slower, options.tier)
    figures = {
        "same": {"tier": "quick", "comparisons": same},
        "slower": {
            "tier": options.tier, "known_ratio": 1 + no_ops * cost / bare, "comparisons": slower,
        },
        "others": {
            "tier": options.tier, "files": other_programs(setup, options.rounds, options.tier),
        },
    }  # fmt: skip
    setup.keep(setup.about() | figures, page)


# A file whose speed is known


def slowed_bundle(setup: Setup, no_ops: int) -> Path:
    """A bundle of micro, made slower by a number of no-ops."""
    bundle = setup.work / "bundles" / f"micro-{no_ops}"
    return make_once(bundle, export, setup.student("micro"), ("litert-float32",), bundle, no_ops)


def export(student: Path, artifacts: tuple[str, ...], out: Path, no_ops: int = 0) -> None:
    """Export a student with a number of no-ops."""
    subject = subject_of(Student.load(student))
    if no_ops:
        model = Slowed(subject.model, no_ops)
        subject = replace(subject, model=model, variables=subject.model)
    lengths = (subject.encoder.max_length,)
    export_bundle(subject, Export(artifacts=artifacts, lengths=lengths), out)


class Slowed(keras.Model):
    """A classifier whose logits are multiplied by the identity matrix `no_ops` times."""

    def __init__(self, model: keras.Model, no_ops: int) -> None:
        super().__init__()
        self.model, self.no_ops = model, no_ops

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Compute the same logits, in more time."""
        logits = self.model(inputs, training=training)
        for _ in range(self.no_ops):
            logits = tf.matmul(logits, tf.eye(logits.shape[-1]))
        return logits


def comparisons(a: Path, b: Path, setup: Setup, count: int, tier: str) -> list[Figures]:
    """Compare two bundles with `kdedge bench`: p1 and p50 of each repeat in ms."""
    results = []
    for number in range(count):
        folder = setup.work / f"{a.name}-{b.name}-{tier}" / str(number)
        file = folder / "comparison.json"
        if not file.exists():
            report = bench_bundles([a, b], folder, scenario(tier), setup.texts())
            ours = {m.bundle: m for m in report.measurements}
            comparison = {
                "a_ms": ours[a.name].repeats_p1_ms, "b_ms": ours[b.name].repeats_p1_ms,
                "a_p50_ms": ours[a.name].repeats_p50_ms, **report_figures(report),
            }  # fmt: skip
            write_text(file, json.dumps(comparison))
        results.append(json.loads(file.read_text()))
    return results


def count_verdicts(comparisons: Sequence[Figures]) -> dict[str, int]:
    """How many comparisons find b slower, faster or no different, by the rule of the report."""
    intervals = [ratio_interval(c["b_ms"], c["a_ms"]) for c in comparisons]
    slower = sum(low > 1 for low, _ in intervals)
    faster = sum(high < 1 for _, high in intervals)
    return {"slower": slower, "faster": faster, "no different": len(intervals) - slower - faster}


def spread_percent(comparisons: Sequence[Figures], key: str) -> float:
    """How much the repeats of a comparison differ: the median of their standard deviations."""
    return 100 * p50([np.std(np.log(c[key]), ddof=1) for c in comparisons])


def no_op_ms(calibration: Figures) -> float:
    """The time of one no-op, from a comparison with a file that has CALIBRATION of them."""
    return (p50(calibration["b_ms"]) - p50(calibration["a_ms"])) / CALIBRATION


# Other people's programs


def other_programs(setup: Setup, rounds: int, tier: str) -> dict[str, Figures]:
    """Measure files in turn by kdedge and by litert-benchmark or a loop around ONNX Runtime."""
    bundle = setup.work / "bundles" / "micro"
    make_once(bundle, export, setup.student("micro"), OTHERS, bundle)
    texts, single = setup.texts(), scenario(tier).model_copy(update={"repeats": 1})
    pairs: dict[str, list[dict[str, tuple[float, float]]]] = {}
    for number in range(rounds):
        folder = setup.work / f"others-{tier}" / str(number)
        file = folder / "pairs.json"
        if not file.exists():
            report = bench_bundles([bundle], folder, single, texts)
            times = {m.artifact: pair(bundle, m, texts) for m in report.measurements}
            write_text(file, json.dumps(times))
        for artifact, both in json.loads(file.read_text()).items():
            pairs.setdefault(artifact, []).append(both)
    return {
        name: {percentile: ratio([v[percentile] for v in values]) for percentile in ("p50", "p5")}
        for name, values in pairs.items()
    }


def ratio(values: Sequence[tuple[float, float]]) -> Figures:
    """Ours divided by theirs, over several rounds."""
    ours, theirs = zip(*values, strict=True)
    middle, interval = p50(ours) / p50(theirs), ratio_interval(ours, theirs)
    return {"ours_ms": ours, "theirs_ms": theirs, "ratio": middle, "interval": interval}


def pair(bundle: Path, m: Measurement, texts: Sequence[Text]) -> dict[str, tuple[float, float]]:
    """p50 and p5 in ms, ours and theirs: litert-benchmark gives no percentile below p5."""
    (samples_ns,) = (repeat.samples_ns for repeat in m.repeats)
    other = other_ms(bundle, m, texts, len(samples_ns))
    return {
        name: (float(np.percentile(samples_ns, percent)) / 1e6, other[name])
        for name, percent in (("p50", 50), ("p5", 5))
    }


# A simple loop around ONNX Runtime, in a process of its own.
ONNX_LOOP = """
import json, sys, time
import numpy, onnxruntime
model, texts, warmup, count = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options)
wanted = [tensor.name for tensor in session.get_inputs()]
# What is read from an .npz file is read anew each time, and would empty the cache of the model.
arrays = dict(numpy.load(texts))
rows = range(len(arrays["input_ids"]))
feeds = [{name: arrays[name][row : row + 1] for name in wanted} for row in rows]
times = []
for i in range(int(warmup) + int(count)):
    feed = feeds[i % len(feeds)]
    start = time.perf_counter()
    session.run(None, feed)
    times.append(time.perf_counter() - start)
p5, p50 = numpy.percentile(times[int(warmup):], [5, 50])
print(json.dumps({"p5": 1e3 * p5, "p50": 1e3 * p50}))
"""


def other_ms(bundle: Path, m: Measurement, texts: Sequence[Text], count: int) -> dict[str, float]:
    """p5 and p50 in ms of `count` inferences, measured by a program that is not kdedge's."""
    (artifact,) = (a for a in verify(bundle).artifacts if a.name == m.artifact)
    model, warmup = str(bundle / artifact.file), str(max(16, count // 10))
    with tempfile.TemporaryDirectory() as folder:
        if artifact.format == "litert":
            program, answer = Path(sys.executable).with_name("litert-benchmark"), f"{folder}/a.json"
            options = {"model": model, "num_runs": count, "warmup_runs": warmup}
            arguments = [f"--{key}={value}" for key, value in options.items()]
            command = [str(program), *arguments, f"--result_json={answer}"]
            subprocess.run(command, check=True, capture_output=True)
            latency = json.loads(Path(answer).read_text())["latency"]
            return {"p5": latency["p5_ms"], "p50": latency["median_ms"]}
        encoded = TextEncoder.load(bundle).encode(texts, m.length)
        feeds = f"{folder}/texts.npz"
        np.savez(
            feeds,
            input_ids=encoded.ids.astype(np.int64),
            attention_mask=encoded.mask.astype(np.int64),
            token_type_ids=encoded.segment_ids.astype(np.int64),
        )
        command = [sys.executable, "-c", ONNX_LOOP, model, feeds, warmup, str(count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return dict(json.loads(done.stdout))


# The page


def page(result: Figures) -> str:
    """A section for each comparison."""
    files = result["others"]["files"]
    rows = [
        (
            name, percentile, three_digits(p50(row["ours_ms"])),
            three_digits(p50(row["theirs_ms"])), f"{row['ratio']:.3f}",
            " to ".join(f"{end:.3f}" for end in row["interval"]),
        )
        for name, file in files.items()
        for percentile, row in file.items()
    ]  # fmt: skip
    head = ("file", "", "kdedge, ms", "other, ms", "ratio", "95% interval")
    slower = result["slower"]
    rounds = max(len(row["ours_ms"]) for file in files.values() for row in file.values())
    return (
        "# What kdedge bench says where the truth is known\n\n"
        f"## A file against itself\n\n{calls(result['same'])}\n"
        f"## A file against one that is {slower['known_ratio'] - 1:.1%} slower\n\n"
        f"{calls(slower)}\n"
        "The slower one has additional matrix products with the identity, whose cost was measured "
        f"with {CALIBRATION} of them.\n\n## Other people's programs\n\nlitert-benchmark for "
        f"LiteRT, a bare loop around ONNX Runtime; {rounds} rounds "
        f"in turn, each in a fresh process, tier `{result['others']['tier']}`.\n\n"
        f"{markdown(head, rows)}"
    )


def calls(part: Figures) -> str:
    """How often two files were called different, and how busy the machine was."""
    found = part["comparisons"]
    counts = count_verdicts(found)
    busy = p50([c["environment"]["busy before, %"] for c in found])
    return (
        f"Of {len(found)} comparisons in the tier `{part['tier']}`: {counts['slower']} called "
        f"slower, {counts['faster']} faster, {counts['no different']} no different. Other programs "
        f"used {busy:.0f}% of the machine (median). Between repeats, the p50 of a file varied by "
        f"{spread_percent(found, 'a_p50_ms'):.1f}% and its p1, which decides, by "
        f"{spread_percent(found, 'a_ms'):.1f}%.\n"
    )


if __name__ == "__main__":
    cli(main)
