"""The students beside their teacher and the shapes of known BERTs: size, latency, accuracy.

    make demo                                  # the teacher
    python benchmarks/distillation.py main --seeds 1   # the students
    python benchmarks/peers.py

Exports everything to LiteRT and ONNX in float32 and int8, measures all of it in one run on the same
texts, 64 tokens, one text and one thread at a time. A model is shown in the quantization that is
fastest in each runtime. Other students than those of distillation.py: name their folders, one of
each preset.

The known shapes have random weights: their size and latency are those of trained ones, and they
have no accuracy. `--trained TinyBERT=FOLDER` takes a fine-tuned model of that shape in their place.

What is in the folder runs/peers already is not done again, neither exports nor the measuring. The
reason of an export that failed is kept there too, as a .txt file.
"""

import io
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter

from benchmarks.common import Figures, alone, asked, cli, needed, of_report
from benchmarks.study.grid import grid_of
from kdedge import (
    Corpus,
    KdedgeError,
    Student,
    Subject,
    TextEncoder,
    export_bundle,
    load_teacher,
)
from kdedge.bench.report.figures import COLOURS, INK, STYLE, SURFACE
from kdedge.bench.report.model import RUNTIMES, BenchReport, Measurement, three_digits
from kdedge.bench.report.tables import markdown
from kdedge.bench.run import REPORT, bench_bundles
from kdedge.bench.scenario import scenario
from kdedge.bundle.manifest import MANIFEST
from kdedge.export.subject import subject_of, subject_of_classifier
from kdedge.files import write_text
from kdedge.recipe import Export
from kdedge.students.trained import Evaluation, predict_logits
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.encoder import Encoder, Shape
from kdedge.teachers.families import BERT
from kdedge.teachers.heads import FirstTokenHead

LENGTH = 64
QUANTIZATIONS = ("float32", "int8")
TEXTS = 256
PROOF_TEXTS = 64  # that a model with random weights is compared with its exports on
STUDENTS = (
    "nano with reviews, more made", "micro with reviews", "mini-cut with reviews, more made",
)  # fmt: skip
SHAPES = {
    name: Shape(0, 512, 2, width, width, layers, 12, inner)
    for name, (width, layers, inner) in {
        "TinyBERT": (312, 4, 1200),  # arXiv 1909.10351
        "MiniLM": (384, 6, 1536),  # arXiv 2002.10957
        "DistilBERT": (768, 6, 3072),  # arXiv 1910.01108
        "BERT-base": (768, 12, 3072),  # arXiv 1810.04805
    }.items()
}
MARKERS = {"LiteRT": "o", "ONNX Runtime": "s"}
LARGEST_BUBBLE, SMALLEST_BUBBLE = 500.0, 20.0  # square points
HEAD = (
    "model", "runtime", "quantized", "MB", "p50, ms", "repeats, ms", "against the teacher",
    "95% interval", "accuracy",
)  # fmt: skip


def main() -> None:
    """Export, measure, keep."""
    setup, given = asked("peers", __doc__, "students", tier="standard", trained=("",))
    folders = {name: Path(path) for name, _, path in (t.partition("=") for t in given.trained if t)}
    if unknown := {*folders} - {*SHAPES}:
        raise KdedgeError(f"trained: {', '.join(unknown)}. Allowed: {', '.join(SHAPES)}.")
    study, main_cells = setup.of("distillation").work, grid_of(setup.recipe).main
    students = [*map(Path, given.students)] or [
        needed(main_cells[name].folder(study, "students"), "python benchmarks/distillation.py main")
        for name in STUDENTS
    ]
    corpus, teacher = setup.corpus(), setup.made("teacher")
    subjects: dict[str, Callable[[], Subject]] = {
        **{Student.load(path).notes["preset"]: partial(student, path) for path in students},
        "teacher": partial(classifier, "teacher", teacher, corpus),
        **{name: partial(random, name, shape, teacher, corpus) for name, shape in SHAPES.items()},
        **{name: partial(classifier, name, path, corpus) for name, path in folders.items()},
    }
    failed = {}
    for name, subject in subjects.items():
        failed |= export(name, subject, setup.work / "bundles")
    path = setup.work / "report" / REPORT
    if not path.exists():
        bundles = sorted(file.parent for file in (setup.work / "bundles").glob(f"*/{MANIFEST}"))
        bench_bundles(bundles, path.parent, scenario(given.tier), corpus.test.texts[:TEXTS])
    report, no_accuracy = BenchReport.load(path), SHAPES.keys() - folders.keys()
    artifacts = {m.name: figures(report, m, no_accuracy) for m in report.measurements}
    result = setup.about() | of_report(report) | {"failed": failed, "artifacts": artifacts}
    setup.keep(result, page, picture(result).decode())


# What is exported


def student(folder: Path) -> Subject:
    """A student of kdedge."""
    return subject_of(Student.load(folder))


def classifier(name: str, folder: Path, corpus: Corpus) -> Subject:
    """A fine-tuned model."""
    model = load_teacher(folder, max_length=LENGTH)
    return subject_of_classifier(name, model, model.encoder, corpus)


def random(name: str, shape: Shape, teacher: Path, corpus: Corpus) -> Subject:
    """A shape with random weights, and what it says of a few texts as the truth."""
    keras.utils.set_random_seed(1)
    encoder = TextEncoder.load(teacher)
    shape = replace(shape, vocabulary=len(encoder.vocabulary))
    head = FirstTokenHead(BERT.head, shape.width, corpus.task.width, shape.dropout)
    model = BertTeacher(Encoder(shape), head, BERT, {}, encoder, corpus.task, "random weights")
    texts = corpus.test.texts[:PROOF_TEXTS]
    logits = predict_logits(model, encoder, texts)
    said = Evaluation(texts, logits.argmax(1).astype(np.int32), logits)
    # No valid texts: quantization can't harm what says nothing, so no layer is to be spared.
    none = Evaluation((), said.labels[:0], logits[:0])
    return Subject(name, model, model.count_params(), encoder, corpus.task, none, said)


def export(name: str, load: Callable[[], Subject], bundles: Path) -> dict[str, str]:
    """Make the bundles NAME-litert and NAME-onnx; gives the reasons of those that failed."""
    failed: dict[str, str] = {}
    # One format that fails must not take the other with it.
    for runtime in RUNTIMES:
        bundle, reason = bundles / f"{name}-{runtime}", bundles / f"{name}-{runtime}.txt"
        if not bundle.exists() and not reason.exists():
            try:
                alone(export_to, runtime, name, load, bundle, reason)
            except BrokenProcessPool:
                write_text(reason, "its process was killed, as when memory runs out\n")
        if reason.exists():
            failed[bundle.name] = reason.read_text(encoding="utf-8").strip()
    return failed


def export_to(
    runtime: str, name: str, load: Callable[[], Subject], bundle: Path, reason: Path
) -> None:
    """Make a bundle, or write the reason why there is none."""
    subject = load()
    length = subject.encoder.max_length
    if length != LENGTH:
        raise KdedgeError(f"{name}: takes {length} tokens; all are measured with {LENGTH}.")
    artifacts = tuple(f"{runtime}-{quantization}" for quantization in QUANTIZATIONS)
    drop = 100 if name in SHAPES else 1
    try:
        export_bundle(subject, Export(artifacts=artifacts, max_accuracy_drop=drop), bundle)
    except KdedgeError as error:
        write_text(reason, f"{error}\n")


# What is shown


def figures(report: BenchReport, m: Measurement, no_accuracy: Collection[str]) -> Figures:
    """What is kept of a measurement; the ratio is as in the report."""
    faster = report.speed_up(m)
    kept = ("quantization", "bytes", "sha256", "p1_ms", "p50_ms", "p90_ms", "repeats_p50_ms")
    return {
        "model": m.source,
        "runtime": RUNTIMES[m.format],
        **{key: getattr(m, key) for key in kept},
        "teacher_ratio": [faster.ratio, faster.low, faster.high] if faster else [1.0, 1.0, 1.0],
        "accuracy": None if m.source in no_accuracy else m.score,
    }


def fastest(artifacts: Iterable[Figures]) -> list[Figures]:
    """Of each model and runtime the artifact with the lowest p1, in the order given."""
    best: dict[tuple[str, str], Figures] = {}
    for a in artifacts:
        key = a["model"], a["runtime"]
        if key not in best or a["p1_ms"] < best[key]["p1_ms"]:
            best[key] = a
    return [*best.values()]


def page(result: Figures) -> str:
    """The table, fastest first; `result` is as in peers.json."""
    rows = []
    for a in sorted(fastest(result["artifacts"].values()), key=lambda a: a["p50_ms"]):
        ratio, *interval = a["teacher_ratio"]
        repeats = min(a["repeats_p50_ms"]), max(a["repeats_p50_ms"])
        rows.append((
            a["model"], a["runtime"], a["quantization"], f"{a['bytes'] / 1e6:.1f}",
            three_digits(a["p50_ms"]), between(repeats), f"{three_digits(ratio)}×",
            "-" if interval == [ratio, ratio] else between(interval),
            "-" if a["accuracy"] is None else f"{a['accuracy']:.1%}",
        ))  # fmt: skip
    for name, reason in result["failed"].items():
        model, _, format = name.rpartition("-")
        # The first line says what is wrong; a converter's others may be hundreds.
        why = f"no export: {reason.splitlines()[0][:200]}"
        rows.append((model, RUNTIMES[format], why, *["-"] * (len(HEAD) - 3)))
    s = result["scenario"]
    return (
        f"{markdown(HEAD, rows)}\nOne text of {LENGTH} tokens at a time, one thread, "
        f"{s['repeats']} repeats of {s['min_count']} texts and {s['min_seconds']:g} s at least, in "
        "fresh processes, all in turn. `against the teacher`: the first percentile (what disturbs "
        "a measurement only adds to it) of the teacher's fastest artifact in the same runtime, "
        "over this one's. `-` under accuracy: the weights are random.\n"
    )


def between(ends: Sequence[float]) -> str:
    """`0.512 to 1.20`."""
    return " to ".join(map(three_digits, ends))


def picture(result: Figures) -> bytes:
    """An SVG: a model a row, latency across, size as area, size and accuracy in words."""
    best = fastest(result["artifacts"].values())
    latency: dict[str, float] = {}
    for a in best:
        latency[a["model"]] = min(a["p50_ms"], latency.get(a["model"], a["p50_ms"]))
    rows = sorted(latency, key=latency.__getitem__, reverse=True)
    largest = max(a["bytes"] for a in best)
    with rc_context(STYLE):
        bottom, top, height = 0.55, 0.35, 0.9 + 0.4 * len(rows)  # inches
        figure = Figure(figsize=(8, height))
        axes = figure.add_axes((0.13, bottom / height, 0.52, 1 - (bottom + top) / height))
        axes.set_xscale("log")
        axes.set_xlabel("median latency of one text, ms (less is better)")
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(True)
        axes.set_axisbelow(True)
        for a in best:
            trained = a["accuracy"] is not None
            axes.scatter(
                a["p50_ms"], rows.index(a["model"]),
                max(SMALLEST_BUBBLE, LARGEST_BUBBLE * a["bytes"] / largest),
                marker=MARKERS[a["runtime"]], alpha=0.85, edgecolor=INK if not trained else SURFACE,
                facecolor=COLOURS[a["model"] == "teacher"] if trained else "none",
            )  # fmt: skip
        for y, model in enumerate(rows):
            own = [a for a in best if a["model"] == model]
            sizes = sorted({f"{a['bytes'] / 1e6:.1f}" for a in own}, key=float)
            known = sorted({f"{a['accuracy']:.1%}" for a in own if a["accuracy"] is not None})
            said = f"{' and '.join(sizes)} MB, {' and '.join(known) or 'random weights'}"
            axes.annotate(said, (1.02, y), xycoords=("axes fraction", "data"), va="center", size=10)
        marks = [
            Line2D([], [], marker=marker, linestyle="", color=INK, label=runtime)
            for runtime, marker in MARKERS.items()
        ]
        figure.legend(
            handles=[*marks, Line2D([], [], linestyle="", label="area: file size")],
            loc="upper left", ncols=3, frameon=False, handletextpad=0.2, borderpad=0.2,
        )  # fmt: skip
        drawn, no_metadata = io.BytesIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(drawn, format="svg", metadata=no_metadata)
        return drawn.getvalue()


if __name__ == "__main__":
    cli(main)
