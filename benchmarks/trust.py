"""Whether `kdedge bench` can be believed: what it says where the truth is known.

    python benchmarks/conversions.py      # the students
    python benchmarks/trust.py same       # one file against itself, on a busy machine
    python benchmarks/trust.py slower     # a file against one that is 5% slower
    python benchmarks/trust.py others BUNDLE...   # against other people's programs
    python benchmarks/trust.py overhead BUNDLE    # what measuring costs

Each writes its part of trust.json and then trust.md anew. Every comparison is kept in runs/trust as
soon as it is there, and the same command goes on where it stopped.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.common import Figures, Setup, asked, cli, needed
from kdedge import KdedgeError, Student, TextEncoder, export_bundle
from kdedge.bench import agent
from kdedge.bench.report.model import Measurement, three_digits
from kdedge.bench.report.tables import markdown
from kdedge.bench.run import bench_bundles, sample_texts
from kdedge.bench.scenario import scenario
from kdedge.bench.statistics import bootstrap_interval, p50, ratio_interval
from kdedge.bundle.manifest import verify
from kdedge.engines import ENGINES
from kdedge.export.subject import subject_of
from kdedge.files import write_text
from kdedge.recipe import Export
from kdedge.text.encoder import Encoded

LENGTH = 64
EXPORT = Export(artifacts=("litert-float32",), lengths=(LENGTH,))
SLOWER = 0.05
BLOCK = 20  # inferences; short, so that most are disturbed by nothing
CALIBRATION = 512  # no-ops whose cost is measured together, to know that of one
# Busy and idle in turns of up to two seconds, as a machine is on which others work.
BURN = """
import random, sys, time
turns = random.Random(int(sys.argv[1]))
while True:
    end = time.monotonic() + turns.uniform(0, 2)
    while time.monotonic() < end:
        sum(range(1000))
    time.sleep(turns.uniform(0, 2))
"""
# For each part how often, in which tier and with how many processes that keep the machine busy.
DEFAULTS = {
    "same": (100, "quick", 2), "slower": (10, "full", 0), "others": (5, "standard", 0),
    "overhead": (3000, "", 0),
}  # fmt: skip


def main() -> None:
    """Measure the part that is named first, for the bundles that come after it."""
    parts: dict[str, Callable[..., Figures]] = {
        "same": same, "slower": slower, "others": others, "overhead": overhead,
    }  # fmt: skip
    setup, given = asked("trust", __doc__, "words", count=0, tier="", load=-1)
    part, *words = given.words or ("none",)
    if part not in parts:
        raise KdedgeError(f"part: {part}. Allowed: {', '.join(parts)}.")
    bundles = [Path(word) for word in words]
    if part in ("others", "overhead") and not bundles:
        raise KdedgeError(f"{part}: name bundles.")
    count, tier, load = DEFAULTS[part]
    count, tier = given.count or count, given.tier or tier
    load = load if given.load < 0 else given.load
    found = parts[part](setup, bundles, count, tier, load)
    about = setup.about() | {"environment": agent.environment()}
    setup.keep(setup.stored() | {part: about | found}, page)


def same(setup: Setup, _: list[Path], count: int, tier: str, load: int) -> Figures:
    """Measure a file against itself and count how often the two are called different."""
    bundle = slowed_bundle(setup, 0)
    again = bundle.with_name(f"{bundle.name}-again")
    if not again.exists():
        shutil.copytree(bundle, again)
    found = comparisons(bundle, again, setup.work, count, tier, load)
    return {"tier": tier, "load": load, **counted(found), "comparisons": found}


def slower(setup: Setup, _: list[Path], count: int, tier: str, load: int) -> Figures:
    """Measure a file against one that no-ops of known cost make 5% slower."""
    bundle, measured = slowed_bundle(setup, 0), (setup.work, count, tier, load)
    calibrated = slowed_bundle(setup, CALIBRATION)
    (calibration,) = comparisons(bundle, calibrated, setup.work, 1, tier, load)
    bare, cost = p50(calibration["a_ms"]), no_op_ms(calibration)
    no_ops = round(SLOWER * bare / cost)
    found = comparisons(bundle, slowed_bundle(setup, no_ops), *measured)
    known = {"no_ops": no_ops, "no_op_ns": 1e6 * cost, "known_ratio": 1 + no_ops * cost / bare}
    about = {"tier": tier, "load": load, **known, **counted(found)}
    return about | {"calibration": calibration, "comparisons": found}


def others(setup: Setup, bundles: list[Path], count: int, tier: str, load: int) -> Figures:
    """Measure files with litert-benchmark and a bare loop around ONNX Runtime as well, in turn."""
    once = scenario(tier).model_copy(update={"repeats": 1})
    pairs: dict[str, list[dict[str, tuple[float, float]]]] = {}
    for bundle in bundles:
        for number in range(count):
            folder = setup.work / f"others-{tier}" / bundle.name / str(number)
            kept = folder / "pairs.json"
            if not kept.exists():
                report = bench_bundles([bundle], folder, once)
                found = {m.artifact: pair(bundle, m) for m in report.measurements}
                write_text(kept, json.dumps(found))
            for artifact, both in json.loads(kept.read_text()).items():
                pairs.setdefault(f"{bundle.name}/{artifact}", []).append(both)
    files = {
        name: {percentile: ratio([v[percentile] for v in values]) for percentile in ("p50", "p5")}
        for name, values in pairs.items()
    }
    return {"tier": tier, "rounds": count, "files": files}


def ratio(values: Sequence[tuple[float, float]]) -> Figures:
    """Ours over theirs, of several rounds."""
    ours, theirs = zip(*values, strict=True)
    middle, interval = p50(ours) / p50(theirs), ratio_interval(ours, theirs)
    return {"ours_ms": ours, "theirs_ms": theirs, "ratio": middle, "interval": interval}


def pair(bundle: Path, m: Measurement) -> dict[str, tuple[float, float]]:
    """Ours and theirs, in ms; p5, for litert-benchmark gives no lower percentile."""
    (samples_ns,) = (repeat.samples_ns for repeat in m.repeats)
    other = other_ms(bundle, m.artifact, len(samples_ns))
    return {
        name: (float(np.percentile(samples_ns, percent)) / 1e6, other[name])
        for name, percent in (("p50", 50), ("p5", 5))
    }


# A loop as anyone would write it, in a process of its own.
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


def other_ms(bundle: Path, name: str, count: int) -> dict[str, float]:
    """p5 and p50 of as many inferences, by a program that is not ours."""
    (artifact,) = (a for a in verify(bundle).artifacts if a.name == name)
    model, warmup = str(bundle / artifact.file), str(max(16, count // 10))
    with tempfile.TemporaryDirectory() as folder:
        if artifact.format == "litert":
            program, answer = Path(sys.executable).with_name("litert-benchmark"), f"{folder}/a.json"
            options = {"model": model, "num_runs": count, "warmup_runs": warmup}
            arguments = [f"--{key}={value}" for key, value in options.items()]
            command = [str(program), *arguments, f"--result_json={answer}"]
            subprocess.run(command, check=True, capture_output=True)
            said = json.loads(Path(answer).read_text())["latency"]
            return {"p5": said["p5_ms"], "p50": said["median_ms"]}
        encoded, texts = encoded_samples(bundle), f"{folder}/texts.npz"
        inputs = (encoded.ids, encoded.mask, encoded.segment_ids)
        names = ("input_ids", "attention_mask", "token_type_ids")
        arrays = {n: array.astype(np.int64) for n, array in zip(names, inputs, strict=True)}
        np.savez(texts, **arrays)
        command = [sys.executable, "-c", ONNX_LOOP, model, texts, warmup, str(count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return dict(json.loads(done.stdout))


def encoded_samples(bundle: Path) -> Encoded:
    """The texts that a bundle is measured with."""
    return TextEncoder.load(bundle).encode(sample_texts(bundle), LENGTH)


def overhead(setup: Setup, bundles: list[Path], blocks: int, tier: str, load: int) -> Figures:
    """Time inferences with the agent's loop and in a bare one, in turn."""
    (bundle,) = bundles
    (found,) = (a for a in verify(bundle).artifacts if a.name == "onnx-float32")
    engine = ENGINES[found.format](bundle / found.file, 1)
    texts = agent.batches_of(encoded_samples(bundle).inputs, batch=1)
    feeds = [engine.feed(text) for text in texts]
    return {
        "model": f"{bundle.name}/{found.name}",
        "blocks": blocks,
        "an inference": paired_overhead(engine.infer, feeds, blocks),
        "nothing": paired_overhead(lambda feed: None, feeds, blocks),
    }


def paired_overhead(infer: Callable[[Any], Any], feeds: list[Any], blocks: int) -> Figures:
    """Nanoseconds a call: bare, and how much more the agent's loop takes and its samples say."""
    takes, says, bare = [], [], []
    for number in range(-2, blocks):  # two to warm up
        times = {}
        for kind in ("agent", "bare") if number % 2 else ("bare", "agent"):
            start = time.perf_counter_ns()
            if kind == "agent":
                samples = agent.time_inferences(infer, feeds, BLOCK, 0)
            else:
                for i in range(BLOCK):
                    infer(feeds[i % len(feeds)])
            times[kind] = (time.perf_counter_ns() - start) / BLOCK
        if number >= 0:
            bare.append(times["bare"])
            takes.append(times["agent"] - times["bare"])
            says.append(sum(samples) / BLOCK - times["bare"])
    return {
        "bare_ns": p50(bare),
        "takes_more_ns": p50(takes),
        "takes_more_interval_ns": bootstrap_interval(takes, p50),
        "says_more_ns": p50(says),
        "says_more_interval_ns": bootstrap_interval(says, p50),
    }


# Comparisons


def slowed_bundle(setup: Setup, no_ops: int) -> Path:
    """micro's bundle, made slower by so many no-ops."""
    bundle = setup.work / "bundles" / f"micro-{no_ops}"
    if not bundle.exists():
        folder = setup.of("conversions").work / "students" / "micro"
        subject = subject_of(Student.load(needed(folder, "python benchmarks/conversions.py")))
        slowed = replace(subject, model=Slowed(subject.model, no_ops), variables=subject.model)
        export_bundle(slowed, EXPORT, bundle)
    return bundle


class Slowed(keras.Model):
    """A classifier whose logits are multiplied by the identity matrix `no_ops` times."""

    def __init__(self, model: keras.Model, no_ops: int) -> None:
        super().__init__()
        self.model, self.no_ops = model, no_ops

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The same logits, later."""
        logits = self.model(inputs, training=training)
        for _ in range(self.no_ops):
            logits = tf.matmul(logits, tf.eye(logits.shape[-1]))
        return logits


def comparisons(a: Path, b: Path, work: Path, count: int, tier: str, load: int) -> list[Figures]:
    """p1 of each repeat of both, in ms, as `kdedge bench` measures them side by side."""
    found = []
    with busy(load):
        for number in range(count):
            folder = work / f"{a.name}-{b.name}-{tier}-load{load}" / str(number)
            kept = folder / "comparison.json"
            if not kept.exists():
                report = bench_bundles([a, b], folder, scenario(tier))
                ours = {m.bundle: m for m in report.measurements}
                comparison = {
                    "a_ms": ours[a.name].repeats_p1_ms, "b_ms": ours[b.name].repeats_p1_ms,
                    "a_p50_ms": ours[a.name].repeats_p50_ms,
                    "reasons": report.reasons, "environment": report.environments["local"],
                }  # fmt: skip
                write_text(kept, json.dumps(comparison))
            found.append(json.loads(kept.read_text()))
    return found


@contextmanager
def busy(processes: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keep the machine busy half of the time with so many processes."""
    started = [
        subprocess.Popen([sys.executable, "-c", BURN, str(seed)]) for seed in range(processes)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def counted(comparisons: Sequence[Figures]) -> dict[str, int]:
    """How many were called slower, faster and no different, by the rule of the report."""
    intervals = [ratio_interval(c["b_ms"], c["a_ms"]) for c in comparisons]
    slower = sum(low > 1 for low, _ in intervals)
    faster = sum(high < 1 for _, high in intervals)
    return {"slower": slower, "faster": faster, "no different": len(intervals) - slower - faster}


def spread_percent(comparisons: Sequence[Figures], key: str) -> float:
    """By how much the repeats of a comparison differ: the median of their standard deviations."""
    return 100 * p50([np.std(np.log(c[key]), ddof=1) for c in comparisons])


def no_op_ms(calibration: Figures) -> float:
    """What one no-op takes, from a comparison with a file that has CALIBRATION of them."""
    return (p50(calibration["b_ms"]) - p50(calibration["a_ms"])) / CALIBRATION


# The page


def page(result: Figures) -> str:
    """The parts that are there, each with its command."""
    parts = {
        "same": same_section, "slower": slower_section, "others": others_section,
        "overhead": overhead_section,
    }  # fmt: skip
    there = {name: write for name, write in parts.items() if name in result}
    return "\n".join(
        f"{write(result[name])}\n`{result[name]['command']}`\n" for name, write in there.items()
    )


def calls(part: Figures) -> str:
    """How often two files were called different, and how busy the machine was."""
    told = [part[word] for word in ("slower", "faster", "no different")]
    busy_percent = [c["environment"]["busy before, %"] for c in part["comparisons"]]
    own = f", {part['load']} of them started here to keep it busy" if part["load"] else ""
    return (
        f"Of {sum(told)} comparisons in the tier `{part['tier']}`: {told[0]} called slower, "
        f"{told[1]} faster, {told[2]} no different. Other programs used {p50(busy_percent):.0f}% "
        f"of the machine (median){own}. From repeat to repeat the p50 of the same file varied by "
        f"{spread_percent(part['comparisons'], 'a_p50_ms'):.1f}%, and its p1, by which files are "
        f"compared, by {spread_percent(part['comparisons'], 'a_ms'):.1f}%.\n"
    )


def same_section(part: Figures) -> str:
    """Of `same`."""
    return f"## A file against itself\n\n{calls(part)}"


def slower_section(part: Figures) -> str:
    """Of `slower`."""
    return (
        f"## A file against one that is {part['known_ratio'] - 1:.1%} slower\n\n{calls(part)}"
        f"The slower one has {part['no_ops']} matrix products with the identity more, of "
        f"{part['no_op_ns']:.0f} ns each, measured with {CALIBRATION} of them.\n"
    )


def others_section(part: Figures) -> str:
    """Of `others`."""
    rows = [
        (
            name, percentile, three_digits(p50(row["ours_ms"])),
            three_digits(p50(row["theirs_ms"])), f"{row['ratio']:.3f}",
            " to ".join(f"{end:.3f}" for end in row["interval"]),
        )
        for name, file in part["files"].items()
        for percentile, row in file.items()
    ]  # fmt: skip
    head = ("file", "", "kdedge, ms", "other, ms", "ratio", "95% interval")
    return (
        "## Beside other people's programs\n\nlitert-benchmark for LiteRT, a bare loop around "
        f"ONNX Runtime; {part['rounds']} rounds in turn, each in a fresh process, tier "
        f"`{part['tier']}`.\n\n{markdown(head, rows)}"
    )


def overhead_section(part: Figures) -> str:
    """Of `overhead`."""
    rows = [
        (what, *(f"{part[what][key]:.0f}" for key in ("bare_ns", "takes_more_ns", "says_more_ns")))
        for what in ("an inference", "nothing")
    ]
    head = ("inside the loop", "bare call, ns", "takes longer, ns", "says more, ns")
    return (
        f"## What measuring costs\n\n{part['model']}, {part['blocks']} pairs of blocks of {BLOCK} "
        "calls, with the agent's loop and bare; `takes longer` is wall time a sample, `says more` "
        f"is what the samples have more than the bare call.\n\n{markdown(head, rows)}"
    )


if __name__ == "__main__":
    cli(main)
