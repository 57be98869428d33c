"""Measures from text to answer in Python: at each text's own length, at one length, and in 0.1.0.

    make demo                            # the teacher and its soft labels
    python benchmarks/text_to_answer.py
    python benchmarks/text_to_answer.py nano micro --weights random --baseline ../kdedge-0.1.0

Answers texts of the test split one by one with int8 LiteRT files. `own length` is the file for
several lengths, `one length` the one for the largest of them. With `--baseline`, the folder of a
checkout of 0.1.0 (commit 9809e561b361), that release answers too, with a file for 64 tokens, which
was its default.

Each process measures one way of one model, and the processes of all models and ways alternate. No
text is measured twice. The first texts meet an empty table of words; before the others thousands
were answered. A list of texts is answered in one call with one thread and with two; 0.1.0 has one
only.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common import (
    ROOT,
    Figures,
    Setup,
    checkout,
    cli,
    machine,
    make_once,
    read_command_line,
)
from kdedge.bench.report.model import three_digits
from kdedge.bench.report.tables import markdown
from kdedge.bench.statistics import ratio_interval
from kdedge.bundle.manifest import MANIFEST, Artifact, Manifest, Score, verify
from kdedge.errors import KdedgeError
from kdedge.files import write_checksums, write_text
from kdedge.text.encoder import TextEncoder

if TYPE_CHECKING:
    from kdedge.export.subject import Subject

MODELS = ("nano", "micro", "mini", "teacher")
RELEASE, ONE, OWN = "0.1.0", "one length", "own length"
ARTIFACTS = {RELEASE: "litert-int8", ONE: "litert-int8", OWN: "litert-int8-lengths"}
RELEASED_LENGTH = 64
WARM_UP, MEASURED, LISTED = 5000, 500, 1000
# What is timed, by its key.
TIMES = {
    "import": "import kdedge, ms",
    "load": "load to first answer, ms",
    "first": "text to answer, first texts, µs",
    "tokenize": "tokenization, µs",
    "answer": "text to answer, µs",
    "list_1": "list, one thread, µs a text",
    "list_2": "list, two threads, µs a text",
}
Times = dict[str, float]


def main() -> None:
    """Distil, export and measure, and write the results."""
    setup, options = read_command_line(
        "text_to_answer", __doc__, "models", repeats=7, weights="trained", baseline=""
    )
    if options.weights not in ("trained", "random"):
        raise KdedgeError(f"--weights: {options.weights}. Allowed: trained, random.")
    # The checkouts of other releases than this one, by the way that they are measured in.
    sources = {RELEASE: checkout(options.baseline)} if options.baseline else {}
    ways = [*sources, ONE, OWN]
    random, names = options.weights == "random", options.models or [*MODELS]
    folder = setup.work / options.weights
    for name in names:
        make_once(folder / name, export, setup, name, random, folder / name)
        if options.baseline:
            release = folder / f"{name}-{RELEASE}"
            make_once(release, export_for_release, setup, name, random, release)
    texts = texts_of(setup)
    found: dict[str, dict[str, list[Times]]] = {name: {way: [] for way in ways} for name in names}
    for number in range(options.repeats):
        for name in names:
            # Rounds alternate in which way comes first.
            for way in ways[:: 1 if number % 2 else -1]:
                bundle = folder / (f"{name}-{RELEASE}" if way == RELEASE else name)
                source = sources.get(way, ROOT)
                found[name][way].append(measure(source, bundle, way, texts))
    rows = {}
    for name in names:
        shown = f"{name} (random weights)" if random and name != "teacher" else name
        rows[shown] = {"repeats": found[name], **sizes(folder / name)}
    encoder = TextEncoder.load(folder / names[0])
    tokens = statistics.mean(map(len, encoder.token_ids(texts["answer"])))
    about = {"machine": machine(), "repeats": options.repeats, "tokens": tokens}
    setup.keep(setup.about() | about | {"models": rows}, page)


def texts_of(setup: Setup) -> dict[str, list[Any]]:
    """Texts by their use; no text is in two of them."""
    corpus = setup.corpus()
    test = [*corpus.test.texts]
    third = min(MEASURED, len(test) // 3)
    return {
        "warm_up": [*corpus.train.texts[:WARM_UP]],
        "tokenize": test[:third],
        "answer": test[third : 2 * third],
        "listed": test[2 * third :][:LISTED],
    }


def subject_of_model(setup: Setup, name: str, random: bool) -> "Subject":
    """A preset's student or the teacher, or a student with random weights."""
    from kdedge import SoftLabels, Student, build_student, load_teacher
    from kdedge.export.subject import subject_of, subject_of_classifier

    if not random and name != "teacher":
        return subject_of(Student.load(setup.student(name)))
    corpus = setup.corpus()
    if name == "teacher":
        teacher = load_teacher(setup.run_file("teacher"))
        return subject_of_classifier(name, teacher, teacher.encoder, corpus)
    encoder = SoftLabels(setup.run_file("soft_labels")).encoder()
    vocabulary, length = len(encoder.vocabulary), encoder.max_length
    model = build_student(name, task=corpus.task, vocabulary=vocabulary, max_length=length)
    return subject_of_classifier(name, model, encoder, corpus)


def export(setup: Setup, name: str, random: bool, bundle: Path) -> None:
    """Export a model in int8 for one length and for several."""
    from kdedge import export_bundle
    from kdedge.recipe import Export

    # A loss of accuracy is no reason to stop: only times are compared.
    settings = Export(artifacts=(ARTIFACTS[ONE], ARTIFACTS[OWN]), max_accuracy_drop=100)
    export_bundle(subject_of_model(setup, name, random), settings, bundle)


def export_for_release(setup: Setup, name: str, random: bool, bundle: Path) -> None:
    """Export a model as 0.1.0 did: the same file, with the manifest of that time."""
    from kdedge import export_bundle
    from kdedge.recipe import Export

    settings = Export(
        artifacts=(ARTIFACTS[RELEASE],), lengths=(RELEASED_LENGTH,), max_accuracy_drop=100
    )
    subject = subject_of_model(setup, name, random)
    encoder = TextEncoder(subject.encoder.tokenizer, RELEASED_LENGTH)
    manifest = export_bundle(replace(subject, encoder=encoder), settings, bundle)
    write_text(bundle / MANIFEST, json.dumps(manifest_of_release(manifest)))
    write_checksums(bundle, [MANIFEST])


def manifest_of_release(manifest: Manifest) -> Figures:
    """A manifest of classification in the form that 0.1.0 reads."""

    def accuracy(score: Score) -> Figures:
        return {"texts": score.texts, "value": score.value}

    def artifact(one: Artifact) -> Figures:
        same = one.model_dump(exclude={"lengths", "score", "trust"})
        return {**same, "accuracy": accuracy(one.score), "p50_ms": 0.0}

    source = manifest.source
    return {
        **manifest.model_dump(include={"max_length", "defaults", "files"}),
        "format_version": 1,
        "kdedge": RELEASE,
        "labels": manifest.task.output_names,
        "source": {
            "name": source.name,
            "parameters": source.parameters,
            "accuracy": accuracy(source.score),
        },
        "artifacts": [artifact(one) for one in manifest.artifacts],
    }


def sizes(bundle: Path) -> Figures:
    """Bytes of both files, and the lengths of the file for several lengths."""
    manifest = verify(bundle)
    one, several = (manifest.artifact(ARTIFACTS[way]) for way in (ONE, OWN))
    return {"bytes": [one.bytes, several.bytes], "lengths": several.lengths}


def measure(source: Path, bundle: Path, way: str, texts: Mapping[str, Sequence[Any]]) -> Times:
    """Measure the `TIMES` of a way, in a new process with the kdedge in the folder `source`."""
    request = {
        "bundle": str(bundle),
        "artifact": ARTIFACTS[way],
        "threads": [1, 2],
        "texts": texts,
    }
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "answering.py"],
        input=json.dumps(request),
        env=os.environ | {"PYTHONPATH": str(source.resolve())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    times: Times = json.loads(done.stdout.splitlines()[-1])
    return times


def page(result: Figures) -> str:
    """The tables as Markdown."""
    models = result["models"]
    ways = [*next(iter(models.values()))["repeats"]]
    head = ("model", "", *ways, "times as fast", "95% interval", "as the teacher", "95% interval")
    files = [
        (name, ", ".join(map(str, row["lengths"])), f"{row['bytes'][1] / row['bytes'][0]:.3f}")
        for name, row in models.items()
    ]
    return (
        "# From text to answer in Python\n\n"
        f"{result['machine']}. Medians over {result['repeats']} processes for each model and way, "
        f"of each process's median. A text has {result['tokens']:.0f} tokens on average. With one "
        "thread, the tokenizer has one too, which takes all cores otherwise. `times as fast` "
        f"compares `{OWN}` with `{ways[0]}`.\n\n"
        + markdown(head, [*_rows(models, ways)])
        + "\n"
        + markdown(("model", "lengths", "bytes, several lengths / one"), files)
        + "\nThe file for one length also has the vocabulary, which MediaPipe reads.\n"
    )


def _rows(models: Figures, ways: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A row for each model and time."""
    teacher = models.get("teacher")
    for name, row in models.items():
        for key, what in TIMES.items():
            times = [[one[key] for one in row["repeats"][way]] for way in ways]
            against = ("", "")
            if teacher and row is not teacher:
                against = ratio([one[key] for one in teacher["repeats"][OWN]], times[-1])
            medians = (three_digits(statistics.median(of_way)) for of_way in times)
            yield name, what, *medians, *ratio(times[0], times[-1]), *against


def ratio(slow: Sequence[float], fast: Sequence[float]) -> tuple[str, str]:
    """How many times as fast, and the 95% interval over the processes."""
    low, high = ratio_interval(slow, fast)
    times = statistics.median(slow) / statistics.median(fast)
    return three_digits(times), f"{three_digits(low)} to {three_digits(high)}"


if __name__ == "__main__":
    cli(main)
