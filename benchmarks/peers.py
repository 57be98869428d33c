"""Compares the presets with their teacher and the shapes of known BERTs: size, latency, accuracy.

    make demo                  # the teacher and its soft labels
    python benchmarks/peers.py

Distils each preset, exports all models to LiteRT and ONNX in float32 and int8, and measures all of
them in one run with the same texts, one text and one thread at a time. Each model is shown in the
quantization that is fastest in each runtime.

The shapes have random weights: their size and latency are those of trained models, and they have no
accuracy. Finished parts are kept in runs/students and runs/peers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from benchmarks.common import Figures, Setup, cli, make_once, read_command_line, report_figures
from kdedge import Student, Subject, TextEncoder, export_bundle, load_teacher
from kdedge.bench.report.model import RUNTIMES, BenchReport, Measurement, three_digits
from kdedge.bench.report.tables import markdown
from kdedge.bench.run import REPORT, bench_bundles
from kdedge.bench.scenario import scenario
from kdedge.export.subject import subject_of, subject_of_classifier
from kdedge.recipe import Export
from kdedge.students.presets import PRESETS
from kdedge.students.trained import Evaluation, predict_logits
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.encoder import Encoder, Shape
from kdedge.teachers.families import BERT
from kdedge.teachers.heads import FirstTokenHead

ARTIFACTS = ("litert-float32", "litert-int8", "onnx-float32", "onnx-int8")
PARITY_TEXTS = 64  # on which a model with random weights is compared with its files
SHAPES = {
    name: Shape(0, 512, 2, width, width, layers, 12, inner)
    for name, (width, layers, inner) in {
        "TinyBERT": (312, 4, 1200),  # arXiv 1909.10351
        "DistilBERT": (768, 6, 3072),  # arXiv 1910.01108
        "BERT-base": (768, 12, 3072),  # arXiv 1810.04805
    }.items()
}
HEAD = (
    "model", "runtime", "quantized", "MB", "p50, ms", "repeats, ms", "speed-up", "95% interval",
    "accuracy, %",
)  # fmt: skip


def main() -> None:
    """Distil, export and measure, and write the results."""
    setup, options = read_command_line("peers", __doc__, "models", tier="standard")
    models = options.models or [*PRESETS, "teacher", *SHAPES]
    for preset in (name for name in models if name in PRESETS):
        setup.student(preset)
    bundles = [setup.work / "bundles" / name for name in models]
    for bundle in bundles:
        make_once(bundle, export, setup, bundle.name, bundle)
    report = setup.work / "report"
    make_once(
        report / REPORT, bench_bundles, bundles, report, scenario(options.tier), setup.texts()
    )
    measured = BenchReport.load(report / REPORT)
    artifacts = {m.name: figures(measured, m) for m in measured.measurements}
    setup.keep(setup.about() | report_figures(measured) | {"artifacts": artifacts}, page)


def export(setup: Setup, name: str, bundle: Path) -> None:
    """Export a preset's student, the teacher, or a shape."""
    if name in PRESETS:
        subject = subject_of(Student.load(setup.student(name)))
    elif name == "teacher":
        teacher = load_teacher(setup.run_file("teacher"))
        subject = subject_of_classifier(name, teacher, teacher.encoder, setup.corpus())
    else:
        subject = random_weights(setup, name)
    lengths = (subject.encoder.max_length,)
    # A loss of accuracy is shown in the table, and is no reason to stop.
    export_bundle(
        subject, Export(artifacts=ARTIFACTS, lengths=lengths, max_accuracy_drop=100), bundle
    )


def random_weights(setup: Setup, name: str) -> Subject:
    """A shape with random weights; its own answers to a few texts serve as labels."""
    keras.utils.set_random_seed(1)
    corpus, encoder = setup.corpus(), TextEncoder.load(setup.run_file("teacher"))
    shape = replace(SHAPES[name], vocabulary=len(encoder.vocabulary))
    head = FirstTokenHead(BERT.head, shape.width, corpus.task.width, shape.dropout)
    model = BertTeacher(Encoder(shape), head, BERT, {}, encoder, corpus.task, "random weights")
    texts = corpus.test.texts[:PARITY_TEXTS]
    logits = predict_logits(model, encoder, texts)
    test = Evaluation(texts, logits.argmax(1).astype(np.int32), logits)
    # Without valid texts, all layers are quantized; there is no accuracy to lose.
    none = Evaluation((), test.labels[:0], logits[:0])
    return Subject(name, model, model.count_params(), encoder, corpus.task, none, test)


def figures(report: BenchReport, m: Measurement) -> Figures:
    """The figures of a measurement that are stored, with the speed-up from the report."""
    speed_up = report.speed_up(m)
    stored = (
        "quantization", "bytes", "length", "sha256", "p1_ms", "p50_ms", "p90_ms", "repeats_p50_ms",
    )  # fmt: skip
    return {
        "model": m.source,
        "runtime": RUNTIMES[m.format],
        **{key: getattr(m, key) for key in stored},
        "speed_up": [speed_up.ratio, speed_up.low, speed_up.high] if speed_up else None,
        "accuracy": None if m.source in SHAPES else m.score,
    }


def fastest(artifacts: Iterable[Figures]) -> list[Figures]:
    """The artifact with the lowest p1 of each model and runtime, in the order given."""
    best: dict[tuple[str, str], Figures] = {}
    for a in artifacts:
        key = a["model"], a["runtime"]
        if key not in best or a["p1_ms"] < best[key]["p1_ms"]:
            best[key] = a
    return [*best.values()]


def page(result: Figures) -> str:
    """The table, fastest first."""
    rows = []
    best = sorted(fastest(result["artifacts"].values()), key=lambda a: a["p50_ms"])
    for a in best:
        known = a["accuracy"] is not None
        ratio, *interval = a["speed_up"] or (1, 1, 1)
        rows.append((
            a["model"] if known else f"{a['model']} (random weights)", a["runtime"],
            a["quantization"], f"{a['bytes'] / 1e6:.2f}", three_digits(a["p50_ms"]),
            between((min(a["repeats_p50_ms"]), max(a["repeats_p50_ms"]))),
            f"{three_digits(ratio)}×" if a["speed_up"] else "",
            between(interval) if a["speed_up"] else "",
            f"{100 * a['accuracy']:.2f}" if known else "",
        ))  # fmt: skip
    s, length = result["scenario"], best[0]["length"]
    return (
        f"{result['environment']['CPU']}. One text of {length} tokens at a time, one thread, "
        f"{s['repeats']} repeats of at least {s['min_count']} texts and {s['min_seconds']:g} s, in "
        "fresh processes that alternate. The speed-up is the first percentile of the teacher's "
        "fastest artifact in the same runtime, divided by that of this one.\n\n"
        f"{markdown(HEAD, rows)}"
    )


def between(ends: Sequence[float]) -> str:
    """A range, for instance `0.512 to 1.20`."""
    return " to ".join(map(three_digits, ends))


if __name__ == "__main__":
    cli(main)
