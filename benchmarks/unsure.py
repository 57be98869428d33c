"""Whether models know what they don't know: calibration, wanted precision, texts out of scope.

    python benchmarks/any_data.py FOLDER movie_reviews banking77 snips
    python benchmarks/unsure.py

Uses the students and bundles of these runs, or of the `kdedge run` folders that are named. For
each artifact: the calibration error. For each run: whether a wanted precision is held when valid
and test texts are drawn again. For each pair of runs: how well the confidence tells the test texts
of one from those of the other.
"""

from pathlib import Path

import numpy as np

from benchmarks.common import ROOT, Figures, asked, cli, machine, needed
from kdedge import Student
from kdedge.bench.report.tables import markdown
from kdedge.bundle.manifest import verify
from kdedge.export.trust import auroc, expected_error, fitted_temperature, lowest_threshold
from kdedge.students.trained import predict_logits

RUNS = ("banking77-1", "movie_reviews-1", "snips-1")
PRECISION, DRAWS = 0.95, 200
OTHER_SCRIPTS = "Chinese and emoji"
FOREIGN = (
    "好 看 的 电影 我 喜欢",
    "😀 🎬 😡",
    "这部电影很好看",
    "😀",
    "👍👍👍",
    "太无聊了浪费时间难看",
)


def main() -> None:
    """Measure each run, keep."""
    setup, given = asked("unsure", __doc__, "runs")
    folders = [*map(Path, given.runs)] or [
        ROOT / "runs" / "any_data" / name / "run" for name in RUNS
    ]
    made_by = "python benchmarks/any_data.py FOLDER movie_reviews banking77 snips"
    runs = {f.resolve().parent.name: needed(f / "bundle", made_by).parent for f in folders}
    students = {name: Student.load(run / "student") for name, run in runs.items()}
    texts = {name: student.test.texts for name, student in students.items()}
    texts[OTHER_SCRIPTS] = FOREIGN
    figures = {
        "calibration": [row for name, run in runs.items() for row in calibration(name, run)],
        "precision": [precision(name, student) for name, student in students.items()],
        "scope": [
            {"model": name, "against": other, **apart(student, texts[other])}
            for name, student in students.items()
            for other in texts
            if other != name
        ],
    }
    setup.keep(setup.about() | {"machine": machine()} | figures, page)


def calibration(name: str, run: Path) -> list[Figures]:
    """The errors of each artifact, as its manifest has them."""
    return [
        {
            "model": name,
            "artifact": one.name,
            "accuracy": one.score.value,
            "temperature": one.trust.decision.temperature,
            **one.trust.calibration.model_dump(exclude={"bins"}),
        }
        for one in verify(run / "bundle").artifacts
        if one.trust
    ]


def precision(name: str, student: Student) -> Figures:
    """How often a threshold that was fitted on valid texts holds the precision on test texts."""
    task, splits = student.task, (student.valid, student.test)
    outputs = task.outputs(np.concatenate([split.logits for split in splits]))
    labels = np.concatenate([split.labels for split in splits])
    rng, size, found = np.random.default_rng(0), len(student.valid.labels), []
    for _ in range(DRAWS):
        order = rng.permutation(len(labels))
        valid, test = order[:size], order[size:]
        scaled = task.scaled(outputs, fitted_temperature(task, outputs[valid], labels[valid]))
        confidence, right = task.confidence(scaled), task.right(scaled, labels)
        threshold = lowest_threshold(confidence[valid], right[valid], PRECISION)
        if threshold is not None:
            answered = confidence[test] >= threshold
            error = expected_error(confidence[test], right[test])
            found.append((right[test][answered].mean(), answered.mean(), error))
    held, answered, _ = np.array(found).T if found else ((), (), ())
    return {
        "model": name,
        "draws with a threshold": len(found),
        "held": float(np.mean(np.array(held) >= PRECISION)) if found else None,
        "precision, median": float(np.median(held)) if found else None,
        "coverage, median": float(np.median(answered)) if found else None,
    }


def apart(student: Student, foreign: tuple[str, ...]) -> Figures:
    """How well the confidence tells foreign texts from a student's own test texts."""
    task, encoder = student.task, student.encoder
    logits = predict_logits(student.model, encoder, foreign)
    own, other = (task.confidence(task.outputs(x)) for x in (student.test.logits, logits))
    unknown = encoder.unknown_shares(encoder.encode(foreign))
    return {"confidence": auroc(own, other), "unknown": float(np.mean(unknown > 0.5))}


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
    held = [
        (
            r["model"], str(r["draws with a threshold"]), percent(r["held"]),
            percent(r["precision, median"]), percent(r["coverage, median"]),
        )
        for r in result["precision"]
    ]  # fmt: skip
    scope = [
        (r["model"], r["against"], f"{r['confidence']:.3f}", percent(r["unknown"]))
        for r in result["scope"]
    ]
    return (
        "Students of `kdedge run` with nothing but the data named. The expected calibration error "
        "on test texts, in percent, in 15 bins with equally many texts. The error of a perfectly "
        "calibrated model is below the last column 95 times in 100.\n\n"
        + markdown(
            ("model", "artifact", "accuracy", "temperature", "before", "after", "by chance"), errors
        )
        + f"\nA precision of {PRECISION} is wanted. Valid and test texts are drawn again {DRAWS} "
        "times, and the threshold is fitted on the valid ones.\n\n"
        + markdown(
            ("model", "draws with a threshold", "held, %", "precision, %", "answered, %"), held
        )
        + "\nTexts out of scope: the area under the ROC curve of the confidence, and the share of "
        "texts that is unsure only because of unknown tokens.\n\n"
        + markdown(("model", "against", "confidence", "unknown tokens, %"), scope)
    )


if __name__ == "__main__":
    cli(main)
