"""The students beside their teacher and the shapes of known BERTs: size, latency, accuracy.

    make demo                                         # the teacher
    python benchmarks/distillation.py main --seeds 1  # the students
    python benchmarks/peers.py runs/distillation/students/{nano,mini-cut}*-seed1 \\
        runs/distillation/students/micro-with-reviews-seed1 --teacher runs/movie_reviews/teacher

Exports everything to LiteRT and ONNX in float32 and int8, measures all of it in one run on the same
texts, 64 tokens, one text and one thread at a time, and writes peers.json, peers.md and peers.svg
to benchmarks/results. A model is shown in the quantization that is fastest in each runtime.

The known shapes have random weights: their size and latency are those of trained ones, and they
have no accuracy. `--trained TinyBERT=FOLDER` takes a fine-tuned model of that shape in their place.

What is in the folder --work already is not done again, neither exports nor the measuring. The
reason of an export that failed is kept there too, as a .txt file.
"""

import copy
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tf_keras
import transformers
import typer
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter

from kdedge import (
    Corpus,
    KdedgeError,
    Student,
    Subject,
    TextEncoder,
    export_bundle,
    load_corpus,
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
from kdedge.recipe import Export, settings_of
from kdedge.students.trained import NOTES, Evaluation, predict_logits
from kdedge.teachers.bert import BertTeacher

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DATA = ROOT / "data" / "movie_reviews.tsv.gz"
LENGTH = 64
QUANTIZATIONS = ("float32", "int8")
TEXTS = 256
PROOF_TEXTS = 64  # that a model with random weights is compared with its exports on
SHAPES = {
    # arXiv 1909.10351
    "TinyBERT": transformers.BertConfig(
        hidden_size=312, num_hidden_layers=4, num_attention_heads=12, intermediate_size=1200
    ),
    # arXiv 2002.10957
    "MiniLM": transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    ),
    # The defaults of the others are those of arXiv 1910.01108, 2004.02984 and 1810.04805.
    "DistilBERT": transformers.DistilBertConfig(),
    # It does not normalize: with larger random weights its 24 layers make of the last bit of a
    # number another answer.
    "MobileBERT": transformers.MobileBertConfig(initializer_range=0.005),
    "BERT-base": transformers.BertConfig(),
}
MARKERS = {"LiteRT": "o", "ONNX Runtime": "s"}
LARGEST_BUBBLE, SMALLEST_BUBBLE = 500.0, 20.0  # square points


def main(
    students: Annotated[list[Path], typer.Argument(help="folders, one of each preset")],
    teacher: Annotated[Path, typer.Option(help="folder of the fine-tuned teacher")],
    trained: Annotated[
        list[str],
        typer.Option(help="SHAPE=FOLDER: fine-tuned, of that shape", default_factory=list),
    ],
    data: Annotated[Path, typer.Option(help="labelled texts")] = DATA,
    split: Annotated[str, typer.Option(help="column with train, valid, test")] = "split",
    tier: Annotated[str, typer.Option(help="of kdedge bench")] = "standard",
    work: Annotated[Path, typer.Option(help="where exports are kept")] = ROOT / "runs" / "peers",
) -> None:
    """Export, measure, keep."""
    measured = scenario(tier)
    folders = {name: Path(path) for name, _, path in (pair.partition("=") for pair in trained)}
    if unknown := {*folders} - {*SHAPES}:
        raise KdedgeError(f"trained: {', '.join(unknown)}. Allowed: {', '.join(SHAPES)}.")
    corpus = load_corpus(data, split=split)
    subjects: dict[str, Callable[[], Subject]] = {
        **{_preset(path): partial(_student, path) for path in students},
        "teacher": partial(_classifier, "teacher", teacher, corpus),
        **{name: partial(_random, name, shape, teacher, corpus) for name, shape in SHAPES.items()},
        **{name: partial(_classifier, name, path, corpus) for name, path in folders.items()},
    }
    failed = {}
    for name, subject in subjects.items():
        failed |= _export(name, subject, work / "bundles")
    path = work / "report" / REPORT
    if path.exists():
        print(f"{path} is there already")
    else:
        bundles = sorted(file.parent for file in (work / "bundles").glob(f"*/{MANIFEST}"))
        bench_bundles(bundles, path.parent, measured, corpus.test.texts[:TEXTS])
    report = BenchReport.load(path)
    no_accuracy = SHAPES.keys() - folders.keys()
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "commit": _commit(),
        "scenario": report.scenario.model_dump(),
        "valid": report.valid,
        "reasons": report.reasons,
        "environment": report.environments["local"],
        "failed": failed,
        "artifacts": {m.name: figures(report, m, no_accuracy) for m in report.measurements},
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    write_text(RESULTS / "peers.json", text)
    write_text(RESULTS / "peers.md", table(result))
    write_text(RESULTS / "peers.svg", picture(result).decode())


def _commit() -> str:
    command = ["git", "-C", ROOT, "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


# What is exported


def _preset(student: Path) -> str:
    notes = json.loads((student / NOTES).read_text(encoding="utf-8"))
    return str(notes["preset"])


def _student(folder: Path) -> Subject:
    return subject_of(Student.load(folder))


def _classifier(name: str, folder: Path, corpus: Corpus) -> Subject:
    model = load_teacher(folder, max_length=LENGTH)
    return subject_of_classifier(name, model, model.encoder, corpus, model.transformer)


def _random(name: str, shape: Any, teacher: Path, corpus: Corpus) -> Subject:
    """A shape with random weights, and what it says of a few texts as the truth."""
    tf_keras.utils.set_random_seed(1)
    encoder = TextEncoder.load(teacher)
    config = copy.deepcopy(shape)
    config.vocab_size, config.num_labels = len(encoder.vocabulary), len(corpus.task.output_names)
    transformer = transformers.TFAutoModelForSequenceClassification.from_config(config)
    transformer.build_in_name_scope()
    # As in trained models. MobileBERT looks at each token's neighbours, and what it says of a
    # text would otherwise depend on whether padding follows.
    words = transformer.get_input_embeddings().weight
    pad = np.arange(config.vocab_size) == config.pad_token_id
    words.assign(np.where(pad[:, None], 0, words.numpy()))
    model = BertTeacher(transformer, encoder, corpus.task, "random weights")
    texts = corpus.test.texts[:PROOF_TEXTS]
    logits = predict_logits(model, encoder, texts)
    said = Evaluation(texts, logits.argmax(1).astype(np.int32), logits)
    # No valid texts: quantization can't harm what says nothing, so no layer is to be spared.
    none = Evaluation((), said.labels[:0], logits[:0])
    return Subject(
        name=name,
        model=model,
        parameters=transformer.count_params(),
        encoder=encoder,
        task=corpus.task,
        valid=none,
        test=said,
        variables=transformer,
    )


def _export(name: str, load: Callable[[], Subject], bundles: Path) -> dict[str, str]:
    """Make the bundles NAME-litert and NAME-onnx; gives the reasons of those that failed."""
    failed: dict[str, str] = {}
    # One format that fails must not take the other with it.
    for runtime in RUNTIMES:
        bundle, reason = bundles / f"{name}-{runtime}", bundles / f"{name}-{runtime}.txt"
        if not bundle.exists() and not reason.exists():
            # In a process of its own: what a model took of memory does not come back before.
            with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                try:
                    alone.submit(_export_to, runtime, name, load, bundle, reason).result()
                except BrokenProcessPool:
                    write_text(reason, "its process was killed, as when memory runs out\n")
        if reason.exists():
            failed[bundle.name] = reason.read_text(encoding="utf-8").strip()
    return failed


def _export_to(
    runtime: str, name: str, load: Callable[[], Subject], bundle: Path, reason: Path
) -> None:
    subject = load()
    if subject.encoder.max_length != LENGTH:
        raise KdedgeError(
            f"{name}: takes {subject.encoder.max_length} tokens; all are measured with {LENGTH}."
        )
    settings = settings_of(
        Export,
        artifacts=[f"{runtime}-{q}" for q in QUANTIZATIONS],
        lengths=[LENGTH],
        max_accuracy_drop=100 if name in SHAPES else 1,
    )
    try:
        export_bundle(subject, settings, bundle)
    except KdedgeError as error:
        write_text(reason, f"{error}\n")


# What is shown


def figures(report: BenchReport, m: Measurement, no_accuracy: Collection[str]) -> dict[str, Any]:
    """What is kept of a measurement; the ratio is as in the report."""
    speed_up = report.speed_up(m)
    ratio = [speed_up.ratio, speed_up.low, speed_up.high] if speed_up else [1.0, 1.0, 1.0]
    return {
        "model": m.source,
        "runtime": RUNTIMES[m.format],
        "quantization": m.quantization,
        "bytes": m.bytes,
        "sha256": m.sha256,
        "p1_ms": m.p1_ms,
        "p50_ms": m.p50_ms,
        "p90_ms": m.p90_ms,
        "repeats_p50_ms": m.repeats_p50_ms,
        "teacher_ratio": ratio,
        "accuracy": None if m.source in no_accuracy else m.score,
    }


def fastest(artifacts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each model and runtime the artifact with the lowest p1, in the order given."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for a in artifacts:
        key = a["model"], a["runtime"]
        if key not in best or a["p1_ms"] < best[key]["p1_ms"]:
            best[key] = a
    return list(best.values())


HEAD = (
    "model", "runtime", "quantized", "MB", "p50, ms", "repeats, ms", "against the teacher",
    "95% interval", "accuracy",
)  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """For a README, fastest first; `result` is as in peers.json."""
    rows = []
    for a in sorted(fastest(result["artifacts"].values()), key=lambda a: a["p50_ms"]):
        ratio, *interval = a["teacher_ratio"]
        repeats = min(a["repeats_p50_ms"]), max(a["repeats_p50_ms"])
        rows.append((
            a["model"], a["runtime"], a["quantization"], f"{a['bytes'] / 1e6:.1f}",
            three_digits(a["p50_ms"]), _range(repeats), f"{three_digits(ratio)}×",
            "-" if interval == [ratio, ratio] else _range(interval),
            "-" if a["accuracy"] is None else f"{a['accuracy']:.1%}",
        ))  # fmt: skip
    for name, reason in result["failed"].items():
        model, _, format = name.rpartition("-")
        # The first line says what is wrong; a converter's others may be hundreds.
        why = f"no export: {reason.splitlines()[0][:200]}"
        rows.append((model, RUNTIMES[format], why, *["-"] * (len(HEAD) - 3)))
    s = result["scenario"]
    text = (
        f"Made by `{result['command']}`; peers.json has the rest.\n\n{markdown(HEAD, rows)}\n"
        f"One text of {LENGTH} tokens at a time, one thread, {s['repeats']} repeats of "
        f"{s['min_count']} texts and {s['min_seconds']:g} s at least, in fresh processes, all in "
        "turn. `against the teacher`: the first percentile (what disturbs a measurement only adds "
        "to it) of the teacher's fastest artifact in the same runtime, over this one's. `-` under "
        "accuracy: the weights are random.\n"
    )
    if not result["valid"]:
        text += "\nNot to be relied on:\n\n" + "".join(f"- {r}\n" for r in result["reasons"])
    return text


def _range(ends: Sequence[float]) -> str:
    return " to ".join(three_digits(end) for end in ends)


def picture(result: dict[str, Any]) -> bytes:
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
        buffer = io.BytesIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=no_metadata)
        return buffer.getvalue()


if __name__ == "__main__":
    try:
        typer.run(main)
    except KdedgeError as error:
        sys.exit(f"error: {error}")
