"""Tests when answers can be trusted: calibration, precision, texts out of scope.

    python benchmarks/any_data.py FOLDER movie_reviews banking77 snips
    python benchmarks/unsure.py

Uses teachers, students and bundles of these runs, or of the runs whose folders are named. For each
artifact: the calibration error. For each model: whether a wanted precision is kept when valid and
test texts are drawn again, and how well scores separate its test texts from other data's.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common import ROOT, Figures, cli, existing, machine, read_command_line
from kdedge.bench.report.tables import markdown
from kdedge.bundle.manifest import verify
from kdedge.recipe import load_recipe

RUNS = ("banking77-1", "movie_reviews-1", "snips-1")
PRECISION, DRAWS, MOST_TEXTS = 0.95, 200, 2000
FOREIGN = (
    "好 看 的 电影 我 喜欢",
    "😀 🎬 😡",
    "这部电影很好看",
    "😀",
    "👍👍👍",
    "太无聊了浪费时间难看",
)
SCORES = ("confidence", "entropy", "distance", "familiarity")
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Model:
    """A teacher or a student of a run.

    Attributes:
        data: name of the data.
        name: `teacher`, or the student's preset.
        corpus: the corpus that it was trained on.
        bundle: its loaded bundle.
        run: texts -> logits [texts, classes] and sentence vectors of length 1 [texts, width].
    """

    data: str
    name: str
    corpus: Any
    bundle: Any
    run: Callable[[Sequence[str]], tuple[Floats, Floats]]


def main() -> None:
    """Measure each model of each run, and write the results."""
    setup, options = read_command_line("unsure", __doc__, "runs")
    folders = [*map(Path, options.runs)] or [ROOT / "runs" / "any_data" / name for name in RUNS]
    models = [model for folder in folders for model in models_of(folder)]
    texts = {one.data: one.corpus.test.texts[:MOST_TEXTS] for one in models}
    texts["Chinese and emoji"] = FOREIGN
    figures = {
        "calibration": [row for folder in folders for row in calibration(folder)],
        "precision": [precision_of(one) for one in models],
        "scope": [row for one in models for row in scope_of(one, texts)],
    }
    setup.keep(setup.about() | {"machine": machine()} | figures, page)


def calibration(folder: Path) -> list[Figures]:
    """The calibration errors of each artifact, from the manifests of a run."""
    return [
        {
            "model": f"{folder.name.rpartition('-')[0]}, {bundle}",
            "artifact": one.name,
            "accuracy": one.score.value,
            "temperature": one.trust.decision.temperature,
            **one.trust.calibration.model_dump(exclude={"bins"}),
        }
        for bundle in ("teacher_bundle", "bundle")
        for one in verify(folder / "run" / bundle).artifacts
        if one.trust and one.trust.calibration
    ]


def models_of(folder: Path) -> list[Model]:
    """Load teacher and student of a run."""
    import keras

    from kdedge import Student, load_bundle, load_teacher
    from kdedge.check import corpus_of
    from kdedge.students.architecture import Parts
    from kdedge.teachers.label import run_teacher

    run = existing(folder / "run", "python benchmarks/any_data.py")
    data, corpus = folder.name.rpartition("-")[0], corpus_of(load_recipe(folder / "recipe.toml"))
    teacher, student = (
        load_teacher(run / "teacher", task=corpus.task),
        Student.load(run / "student"),
    )
    parts = keras.Model(student.model.inputs, [student.model.output, Parts(student.model).sentence])

    def of_teacher(texts: Sequence[str]) -> tuple[Floats, Floats]:
        found = run_teacher(teacher, texts, 64)
        return found["logits"], unit(found["pooled"])

    def of_student(texts: Sequence[str]) -> tuple[Floats, Floats]:
        logits, sentences = parts.predict(student.encoder.encode(texts).inputs, 256, verbose=0)
        return logits, unit(sentences)

    return [
        Model(data, name, corpus, load_bundle(run / bundle), outputs)
        for name, bundle, outputs in (
            ("teacher", "teacher_bundle", of_teacher),
            (student.notes["preset"], "bundle", of_student),
        )
    ]


def unit(vectors: Any) -> Floats:
    """Scale vectors to length 1."""
    vectors = np.asarray(vectors, np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def precision_of(model: Model) -> Figures:
    """Test how often a wanted precision is reached."""
    from kdedge.export.trust import fitted_temperature, lowest_threshold

    task, splits = model.corpus.task, (model.corpus.valid, model.corpus.test)
    outputs = task.outputs(np.concatenate([model.run(split.texts)[0] for split in splits]))
    labels = np.concatenate([split.labels for split in splits])
    rng, size = np.random.default_rng(0), len(model.corpus.valid)
    found: list[tuple[float, float]] = []
    for _ in range(DRAWS):
        order = rng.permutation(len(labels))
        valid, test = order[:size], order[size:]
        calibrated = task.scaled(outputs, fitted_temperature(task, outputs[valid], labels[valid]))
        confidence, right = task.confidence(calibrated), calibrated.argmax(1) == labels
        threshold = lowest_threshold(confidence[valid], right[valid], PRECISION)
        if threshold is not None:
            answered = confidence[test] >= threshold
            found.append((float(right[test][answered].mean()), float(answered.mean())))
    precisions, coverages = np.array(found).reshape(-1, 2).T
    return {
        "model": f"{model.data}, {model.name}",
        "valid_texts": size,
        "draws": len(found),
        "held": float((precisions >= PRECISION).mean()) if found else None,
        "precision": float(np.median(precisions)) if found else None,
        "coverage": float(np.median(coverages)) if found else None,
    }


def scope_of(model: Model, texts: dict[str, tuple[str, ...]]) -> list[Figures]:
    """Measure how well scores separate the model's own texts from others."""
    from kdedge.export.trust import auroc

    train, task = model.corpus.train, model.corpus.task
    own = model.run(train.texts)[1]
    means = np.stack([own[train.labels == number].mean(0) for number in range(task.width)])

    def scores(some: Sequence[str]) -> dict[str, Floats]:
        logits, sentences = model.run(some)
        probabilities = task.outputs(logits)
        logs = np.log(np.maximum(probabilities, 1e-7))
        ids = model.bundle.encoder.token_ids(some)
        start = time.perf_counter()
        familiarity = np.array([*map(model.bundle.familiarity.of, ids)])
        taken = 1e6 * (time.perf_counter() - start) / len(some)
        return {
            "confidence": probabilities.max(1),
            "entropy": (probabilities * logs).sum(1),
            "distance": (sentences @ means.T).max(1),
            "familiarity": familiarity,
            "unsure": model.bundle.calibrated_outputs(some).unsure,
            "us": np.array(taken),
        }

    inside, rows = scores(texts[model.data]), []
    for other, some in texts.items():
        if other != model.data:
            outside = scores(some)
            rows.append(
                {
                    "model": f"{model.data}, {model.name}",
                    "against": other,
                    **{score: auroc(inside[score], outside[score]) for score in SCORES},
                    "unsure": float(outside["unsure"].mean()),
                    "unsure of its own": float(inside["unsure"].mean()),
                    "us": float(outside["us"]),
                }
            )
    return rows


def page(result: Figures) -> str:
    """Three tables."""

    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f}"

    errors = [
        (
            r["model"], r["artifact"], percent(r["accuracy"]), f"{r['temperature']:.2f}",
            percent(r["error_before"]), percent(r["error_after"]), percent(r["by_chance"]),
        )
        for r in result["calibration"]
    ]  # fmt: skip
    return (
        "# Calibration and unsure answers\n\n"
        "Teachers and students of `kdedge run` with default settings. Expected calibration error "
        "on test texts before and after the temperature, in percent, with 15 bins of equally many "
        "texts. The error of a perfectly calibrated model is below the last column 95 times in 100."
        "\n\n"
        + markdown(
            ("model", "artifact", "accuracy", "temperature", "before", "after", "by chance"), errors
        )
        + f"\nThresholds for a precision of {PRECISION}. Valid and test texts are drawn anew "
        f"{DRAWS} times, and a threshold is fitted on the valid texts. Held is the share of the "
        "draws with a threshold in which the answers to test texts have the precision.\n\n"
        + markdown(
            ("model", "valid texts", "draws with one", "held, %", "precision, %", "answered, %"),
            [
                (
                    row["model"], f"{row['valid_texts']:,}", str(row["draws"]),
                    percent(row["held"]), percent(row["precision"]), percent(row["coverage"]),
                )
                for row in result["precision"]
            ],
        )
        + "\nTexts out of scope: area under the ROC curve of each score. The distance is the "
        "cosine to the nearest class mean of the training texts' sentence vectors. Beside them the "
        "share of these texts, and of the model's own test texts, for which the bundle's answer is "
        f"unsure. A familiarity takes {statistics.median(r['us'] for r in result['scope']):.1f} µs "
        "(median).\n\n"
        + markdown(
            ("model", "against", *SCORES, "unsure, %", "of its own, %"),
            [
                (
                    row["model"], row["against"], *(f"{row[s]:.3f}" for s in SCORES),
                    percent(row["unsure"]), percent(row["unsure of its own"]),
                )
                for row in result["scope"]
            ],
        )
    )  # fmt: skip


if __name__ == "__main__":
    cli(main)
