"""Measures the effect of each setting of [distill]: one training for each setting and seed.

    make demo                        # the teacher and its soft labels
    python benchmarks/ablation.py
    python benchmarks/ablation.py "temperature 4" "prompt: task" --seeds 1

Each student learns from the same soft labels as the base, with one setting changed. Differences in
accuracy have a 95% bootstrap interval over seeds and texts. Students are kept in runs/ablation and
not trained again.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common import Figures, cli, make_once, read_command_line, train_student
from kdedge import KdedgeError, SoftLabels, Student
from kdedge.bench.report.tables import markdown

SETTINGS: dict[str, dict[str, Any]] = {
    "no soft labels: alpha 0": {"alpha": 0.0},
    "soft labels only: alpha 1": {"alpha": 1.0},
    "alpha 0.5": {"alpha": 0.5},
    "alpha from 1 to 0.5": {"alpha": 1.0, "alpha_end": 0.5},
    "temperature 1": {"temperature": 1.0},
    "temperature 4": {"temperature": 4.0},
    "temperature from 4 to 1": {"temperature": 4.0, "temperature_end": 1.0},
    "adaptive weights": {"adaptive_weights": True},
    "no sentence vectors": {"feature_weight": 0.0},
    "not from the teacher's token vectors": {"from_teacher": False},
    "linear decay": {"learning_rate_decay": "linear"},
    "exponential decay": {"learning_rate_decay": "exponential"},
    "constant learning rate": {"learning_rate_decay": "constant"},
    "typos": {"typos": 0.5},
    "prompt: task": {"prompt": "task"},
    "prompt: soft label": {"prompt": "soft-label"},
    "adversary: substitution": {"adversary": "substitution"},
    "adversary: generator": {"adversary": "generator"},
    "adversary: prompt": {"adversary": "prompt"},
}
BASE = "base"
SPLITS = ("valid", "test")
RESAMPLES = 2000
# Whether answers are right: 1 or 0, [seeds, texts].
Right = npt.NDArray[np.float64]


def main() -> None:
    """Train and compare the students, and write the results."""
    setup, options = read_command_line("ablation", __doc__, "settings", seeds=(1, 2, 3), epochs=4)
    names = options.settings or [*SETTINGS]
    if unknown := {*names} - {*SETTINGS}:
        raise KdedgeError(f"settings: {', '.join(unknown)}. Allowed: {', '.join(SETTINGS)}.")
    # Some adversaries need the teacher's whole vocabulary, so all students have it.
    vocabulary = len(SoftLabels(setup.run_file("soft_labels")).encoder().vocabulary)
    fixed = {"student": "micro", "epochs": options.epochs, "vocabulary": vocabulary}

    def right_answers(name: str) -> dict[str, Right]:
        answers: dict[str, list[Any]] = {split: [] for split in SPLITS}
        for seed in options.seeds:
            out = setup.work / f"{name.replace(' ', '-').replace(':', '')}-{seed}"
            changes = fixed | SETTINGS.get(name, {})
            student = Student.load(make_once(out, train_student, setup, out, seed=seed, **changes))
            for split, one in (("valid", student.valid), ("test", student.test)):
                outputs = student.task.outputs(one.logits)
                answers[split].append(outputs.argmax(1) == one.labels)
        return {split: np.array(right, float) for split, right in answers.items()}

    base = right_answers(BASE)
    changes = {name: comparison(base, right_answers(name)) for name in names}
    about = setup.about() | {"epochs": options.epochs, "seeds": [*options.seeds]}
    setup.keep(about | {"changes": changes}, page)


def comparison(base: dict[str, Right], other: dict[str, Right]) -> Figures:
    """Accuracies on the test split in percent, and the difference on both splits."""
    return {
        "base_accuracy": (100 * base["test"].mean(1)).tolist(),
        "accuracy": (100 * other["test"].mean(1)).tolist(),
        **{split: difference(base[split], other[split]) for split in SPLITS},
    }


def difference(base: Right, other: Right) -> tuple[float, float, float]:
    """Accuracy of `other` minus that of `base` in points, with a 95% bootstrap interval.

    Args:
        base: whether answers are right.
        other: the same for another setting. Seeds and texts of both are resampled together.
    """
    rng = np.random.default_rng(0)
    differences = 100 * (other - base)
    seeds, texts = differences.shape
    resampled = [
        differences[rng.integers(seeds, size=seeds)].mean(0)[rng.integers(texts, size=texts)].mean()
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)


def page(result: Figures) -> str:
    """One row for each setting."""
    rows = []
    for name, one in result["changes"].items():
        low, high = one["test"][1:]
        rows.append((
            name, str(len(one["accuracy"])), spread(one["base_accuracy"]), spread(one["accuracy"]),
            *("{:+.2f} ({:+.2f} to {:+.2f})".format(*one[split]) for split in SPLITS),
            "helps" if low > 0 else "harms" if high < 0 else "no difference shown",
        ))  # fmt: skip
    head = (
        "setting", "seeds", "base, %", "accuracy, %", "difference on valid, points",
        "difference on test, points", "",
    )  # fmt: skip
    return (
        "# One setting of [distill] at a time\n\n"
        + (f"{result['dated']}\n\n" if "dated" in result else "")
        + f"`micro`, {result['epochs']} epochs, with the whole vocabulary of the teacher. Accuracy "
        "is of the test split. Differences are of the same seeds and texts, with a 95% bootstrap "
        "interval over both. A setting helps or harms if the interval on the test split excludes "
        "0. Defaults were chosen on the valid split.\n\n" + markdown(head, rows)
    )


def spread(values: Sequence[float]) -> str:
    """Format mean and standard deviation, such as `81.53 ± 0.21`; one value as it is."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


if __name__ == "__main__":
    cli(main)
