"""Whether models know what they don't know: calibration, wanted precision, texts out of scope.

    python benchmarks/unsure.py --tasks FOLDER

FOLDER has banking77.csv.gz (Casanueva et al. 2020) and snips.jsonl.gz (Coucke et al. 2018), which
kdedge does not ship. Trains a micro student of each data set on hard labels, without a teacher, and
exports it. Of each artifact: the calibration error, and whether a wanted precision is held where
valid and test texts are drawn anew 200 times. Of each pair of data sets: how well scores tell the
texts of one from those of the other. What is in runs/unsure already is not done again.
"""

import csv
import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Figures, Setup, asked, cli, machine, needed, once
from kdedge.bench.report.tables import markdown
from kdedge.files import write_text

DATA_SETS = ("movie reviews", "Banking77", "voice commands")
EPOCHS = {"movie reviews": 4, "Banking77": 25, "voice commands": 5}
LENGTH, BATCH = 64, 64
PRECISION, DRAWS = 0.95, 200
FOREIGN = (
    "好 看 的 电影 我 喜欢",
    "😀 🎬 😡",
    "这部电影很好看",
    "😀",
    "👍👍👍",
    "太无聊了浪费时间难看",
)
SCORES = ("confidence", "entropy", "distance")


def main() -> None:
    """Train and export what is missing, measure, keep."""
    setup, given = asked("unsure", __doc__, tasks="")
    for name in DATA_SETS:
        folder = setup.work / name.replace(" ", "_")
        once(folder, trained, setup, name, Path(given.tasks), folder)
    figures = {"machine": machine(), "load": os.getloadavg()[1], **measured(setup)}
    setup.keep(setup.about() | figures, page)


def corpus_of(setup: Setup, name: str, tasks: Path) -> Any:
    """A data set's corpus."""
    from kdedge import load_corpus

    if name == "movie reviews":
        return setup.corpus()
    if name == "Banking77":
        return load_corpus(needed(tasks / "banking77.csv.gz", "--tasks FOLDER"), split="split")
    path = setup.work / "voice_commands.csv"
    with gzip.open(needed(tasks / "snips.jsonl.gz", "--tasks FOLDER"), "rt", encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label", "split"))
        writer.writerows((" ".join(r["words"]), r["intent"], r["split"]) for r in rows)
    return load_corpus(path, split="split")


def trained(setup: Setup, name: str, tasks: Path, out: Path) -> None:
    """A student of a data set, exported, with the scores of the texts of all data sets."""
    import keras

    from kdedge import TextEncoder, build_student, export_bundle, subject_of_classifier
    from kdedge.recipe import Export
    from kdedge.students.presets import find_preset
    from kdedge.teachers.checkpoints import find_pretrained

    keras.utils.set_random_seed(1)
    corpus, preset = corpus_of(setup, name, tasks), find_preset("micro")
    whole = TextEncoder.from_pretrained(find_pretrained(setup.recipe.teach.pretrained), LENGTH)
    encoder, _ = whole.pruned(corpus.train.texts, most=preset.vocabulary)
    model = build_student(
        "micro", task=corpus.task, vocabulary=len(encoder.vocabulary), max_length=LENGTH
    )
    model.compile(
        keras.optimizers.Adam(preset.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    inputs = encoder.encode(corpus.train.texts, LENGTH).inputs
    model.fit(inputs, corpus.train.labels, BATCH, EPOCHS[name], verbose=2)
    subject = subject_of_classifier("micro", model, encoder, corpus)
    bundle = out.with_name(out.name + "_bundle")
    export_bundle(subject, Export(lengths=(LENGTH,), max_accuracy_drop=100), bundle)
    # Last, for it says that all is there.
    scores = {
        other: scores_of(model, encoder, corpus, texts) for other, texts in texts_of(setup, tasks)
    }
    out.mkdir()
    write_text(out / "scores.json", json.dumps(scores))
    logits = {
        part: {"logits": split.logits.tolist(), "labels": split.labels.tolist()}
        for part, split in (("valid", subject.valid), ("test", subject.test))
    }
    write_text(out / "logits.json", json.dumps(logits))


def texts_of(setup: Setup, tasks: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Test texts of each data set, and some that are in no language of theirs."""
    found = [(name, corpus_of(setup, name, tasks).test.texts[:2000]) for name in DATA_SETS]
    return [*found, ("Chinese and emoji", FOREIGN)]


def scores_of(model: Any, encoder: Any, corpus: Any, texts: tuple[str, ...]) -> Figures:
    """Of each text how much it looks like the model's own: more is more alike."""
    import keras

    from kdedge.students.architecture import Parts

    parts = keras.Model(model.inputs, [Parts(model).sentence, model.output])

    def run(some: tuple[str, ...]) -> tuple[Any, Any]:
        sentences, logits = parts.predict(encoder.encode(some, LENGTH).inputs, 256, verbose=0)
        return sentences / np.linalg.norm(sentences, axis=1, keepdims=True), logits

    own, _ = run(corpus.train.texts)
    numbers = range(corpus.task.width)
    means = np.stack([own[corpus.train.labels == number].mean(0) for number in numbers])
    sentences, logits = run(texts)
    probabilities = corpus.task.outputs(logits)
    encoded = encoder.encode(texts, LENGTH)
    start = time.perf_counter()
    distance = (sentences @ means.T).max(1)
    taken = (time.perf_counter() - start) / len(texts)
    logs = np.log(np.maximum(probabilities, 1e-7))
    return {
        "confidence": probabilities.max(1).tolist(),
        "entropy": (probabilities * logs).sum(1).tolist(),
        "distance": distance.tolist(),
        "unknown": encoder.unknown_shares(encoded).tolist(),
        "distance, us": 1e6 * taken,
    }


def measured(setup: Setup) -> Figures:
    """The tables' figures, of what is in the work folder."""
    from kdedge.bundle.manifest import verify
    from kdedge.export.trust import auroc, expected_error, fitted_temperature, lowest_threshold

    calibration, precision, scope = [], [], []
    for name in DATA_SETS:
        folder = setup.work / name.replace(" ", "_")
        manifest = verify(folder.with_name(folder.name + "_bundle"))
        for artifact in manifest.artifacts:
            if artifact.trust:
                one = artifact.trust.calibration
                calibration.append(
                    {
                        "data": name,
                        "artifact": artifact.name,
                        "accuracy": artifact.score.value,
                        "temperature": artifact.trust.decision.temperature,
                        **one.model_dump(exclude={"bins"}),
                    }
                )
        stored = json.loads((folder / "logits.json").read_text())
        task = manifest.task
        parts = [stored[part] for part in ("valid", "test")]
        outputs = task.outputs(np.array([row for p in parts for row in p["logits"]], np.float32))
        labels = np.array([label for p in parts for label in p["labels"]])
        rng, size, found = np.random.default_rng(0), len(parts[0]["labels"]), []
        for _ in range(DRAWS):
            order = rng.permutation(len(labels))
            valid, test = order[:size], order[size:]
            temperature = fitted_temperature(task, outputs[valid], labels[valid])
            calibrated = task.scaled(outputs, temperature)
            confidence, right = task.confidence(calibrated), task.right(calibrated, labels)
            threshold = lowest_threshold(confidence[valid], right[valid], PRECISION)
            if threshold is not None:
                answered = confidence[test] >= threshold
                error = expected_error(confidence[test], right[test])
                found.append((right[test][answered].mean(), answered.mean(), error))
        held = [p >= PRECISION for p, _, _ in found]
        precision.append(
            {
                "data": name,
                "draws with a threshold": len(found),
                "held": float(np.mean(held)) if held else None,
                "precision, median": float(np.median([p for p, _, _ in found])) if found else None,
                "coverage, median": float(np.median([c for _, c, _ in found])) if found else None,
            }
        )
        scores = json.loads((folder / "scores.json").read_text())
        inside = scores[name]
        for other, outside in scores.items():
            if other != name:
                scope.append(
                    {
                        "data": name,
                        "against": other,
                        **{s: auroc(np.array(inside[s]), np.array(outside[s])) for s in SCORES},
                        "unknown": float(np.mean(np.array(outside["unknown"]) > 0.5)),
                        "distance, us": outside["distance, us"],
                    }
                )
    return {"calibration": calibration, "precision": precision, "scope": scope}


def page(result: Figures) -> str:
    """Three tables."""

    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f}"

    def table(head: tuple[str, ...], rows: list[Figures], cells: Callable[[Figures], Any]) -> str:
        return markdown(head, [cells(row) for row in rows])

    return (
        f"micro students on hard labels, without a teacher; {result['machine']}.\n\n"
        "Calibration. The error is the expected calibration error in 15 bins of equal count, on "
        "test texts, in percent; a perfectly calibrated model's is below the last column 95 times "
        "in 100.\n\n"
        + table(
            ("data", "artifact", "accuracy, %", "temperature", "before", "after", "by chance"),
            result["calibration"],
            lambda r: (
                r["data"], r["artifact"], percent(r["accuracy"]), f"{r['temperature']:.2f}",
                percent(r["error_before"]), percent(r["error_after"]), percent(r["by_chance"]),
            ),
        )
        + f"\nA precision of {PRECISION} is wanted; valid and test texts are drawn anew {DRAWS} "
        "times, and the threshold is fitted on the valid ones.\n\n"
        + table(
            ("data", "draws with a threshold", "held, %", "precision, %", "answered, %"),
            result["precision"],
            lambda r: (
                r["data"], str(r["draws with a threshold"]), percent(r["held"]),
                percent(r["precision, median"]), percent(r["coverage, median"]),
            ),
        )
        + "\nTexts out of scope: area under the ROC curve of each score, and the share that is "
        "unsure by its unknown tokens alone. The distance is the cosine to the nearest class mean "
        "of the training texts' sentence vectors.\n\n"
        + table(
            ("model of", "against", *SCORES, "unknown tokens, %"),
            result["scope"],
            lambda r: (
                r["data"], r["against"], *(f"{r[s]:.3f}" for s in SCORES), percent(r["unknown"])
            ),
        )
    )  # fmt: skip


if __name__ == "__main__":
    cli(main)
