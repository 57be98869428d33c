"""Makes decisions.json: answers of a `Decision` for outputs, in decimal arithmetic.

python tests/golden/make_decisions.py

Shares no code with kdedge. No case is as near to its threshold as rounding to float32 reaches.
"""

import json
from decimal import Decimal, getcontext
from pathlib import Path
from typing import Any

getcontext().prec = 40
SMALLEST = Decimal("1e-7")

# name, temperature, thresholds, max_unknown, outputs, share of unknown tokens
CASES: list[tuple[str, str, list[str], str, list[str], str]] = [
    ("nothing is asked for", "1", [], "1", ["0.3", "0.7"], "0"),
    ("all unknown, which is allowed", "1", [], "1", ["0.3", "0.7"], "1"),
    ("too sure", "2", [], "1", ["0.1", "0.9"], "0"),
    ("not sure enough", "0.5", [], "1", ["0.4", "0.6"], "0"),
    ("above the threshold", "1", ["0.65"], "0.5", ["0.3", "0.7"], "0.1"),
    ("below the threshold", "1", ["0.75"], "0.5", ["0.3", "0.7"], "0.1"),
    ("below it once calibrated", "2", ["0.8"], "0.5", ["0.1", "0.9"], "0"),
    ("above it once calibrated", "0.5", ["0.65"], "0.5", ["0.4", "0.6"], "0"),
    ("unknown tokens", "1", ["0.65"], "0.5", ["0.1", "0.9"], "0.6"),
    ("as many unknown tokens as may be", "1", ["0.65"], "0.5", ["0.1", "0.9"], "0.5"),
    ("no tokens", "1", [], "0.5", ["0.1", "0.9"], "1"),
    ("a threshold for each class", "1", ["0.9", "0.5"], "0.5", ["0.2", "0.8"], "0"),
    ("the other class's threshold", "1", ["0.9", "0.5"], "0.5", ["0.8", "0.2"], "0"),
    ("a probability of zero", "1.5", ["0.9"], "0.5", ["0", "1"], "0"),
    ("integers that sum to less than one", "1.25", ["0.5"], "0.5", ["0.25", "0.5", "0.125"], "0"),
    ("five classes", "1.7", ["0.3"], "0.5", ["0.1", "0.15", "0.5", "0.05", "0.2"], "0.2"),
    ("a cold temperature", "0.1", ["0.99"], "0.5", ["0.2", "0.5", "0.3"], "0"),
    ("a hot temperature", "10", ["0.37"], "0.5", ["0.001", "0.998", "0.001"], "0"),
]
# The same of the task LABELS: a label is predicted if the output is above its threshold there.
LABELS = {
    "name": "multi-label",
    "label_names": ["anger", "joy", "love"],
    "thresholds": [0.4, 0.3, 0.5],
}
OF_LABELS: list[tuple[str, str, list[str], str, list[str], str]] = [
    ("labels that are too sure", "2", [], "0.5", ["0.9", "0.2", "0.8"], "0"),
    ("labels that are not sure enough", "0.5", [], "0.5", ["0.3", "0.35", "0.8"], "0"),
    ("a label that is left out", "1", ["0.7"], "0.5", ["0.6", "0.2", "0.8"], "0"),
    ("no label is sure", "1", ["0.9"], "0.5", ["0.6", "0.2", "0.8"], "0"),
    ("sure before calibration only", "2", ["0.7"], "0.5", ["0.8", "0.1", "0.1"], "0"),
    ("no label at all", "1", ["0.9"], "0.5", ["0.3", "0.2", "0.4"], "0"),
    ("a threshold for each label", "1", ["0.5", "0.9", "0.9"], "0.5", ["0.6", "0.8", "0.8"], "0"),
    ("labels of unknown tokens", "1", ["0.5"], "0.5", ["0.6", "0.1", "0.1"], "0.6"),
    ("no label and no tokens", "1", [], "0.5", ["0.1", "0.1", "0.1"], "1"),
    ("probabilities of zero and one", "1.5", ["0.9"], "0.5", ["0", "1", "0.5"], "0"),
]
SCORE = {"name": "regression", "mean": 3.0, "deviation": 0.5, "low": 1.0, "high": 5.0}
OF_SCORES: list[tuple[str, str, list[str], str, list[str], str]] = [
    ("a score", "1", [], "0.5", ["3.25"], "0.5"),
    ("a score of unknown tokens", "1", [], "0.5", ["3.25"], "0.6"),
]
# Name, task, min_familiarity, familiarity.
FAMILIARITY: list[tuple[str, dict[str, Any] | None, float | None, float]] = [
    ("familiar", None, 0.5, 0.75),
    ("as familiar as it must be", None, 0.5, 0.5),
    ("not familiar", None, 0.5, 0.4375),
    ("less is enough", None, -0.25, -0.1875),
    ("less is enough, but not so little", None, -0.25, -0.3125),
    ("fewer than two ids, whose familiarity is 0", None, 0.0625, 0.0),
    ("it need not be familiar", None, None, -7.9375),
    ("labels of a familiar text", LABELS, 0.5, 0.75),
    ("labels of a text that is not familiar", LABELS, 0.5, 0.4375),
    ("a score of a familiar text", SCORE, 0.5, 0.75),
    ("a score of a text that is not familiar", SCORE, 0.5, 0.4375),
]


def logistic(odds: Decimal) -> Decimal:
    """The probability with these log odds."""
    return 1 / (1 + (-odds).exp())


def of_familiarity(
    name: str, task: dict[str, Any] | None, at_least: float | None, familiarity: float
) -> dict[str, Any]:
    """A case that differs from one above only in its familiarity."""
    outputs = ["3.25"] if task is SCORE else ["0.15", "0.8", "0.05"]
    right = vector((name, "1", [], "0.5", outputs, "0"), task)
    right["decision"]["min_familiarity"] = at_least
    unsure = at_least is not None and familiarity < at_least
    return right | {"familiarity": familiarity, "unsure": unsure}


def vector(
    case: tuple[str, str, list[str], str, list[str], str], task: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A case with the right result; without a task it is a classification."""
    name, temperature, thresholds, max_unknown, given, unknown = case
    outputs = [Decimal(one) for one in given]
    names = [f"class {number}" for number in range(len(outputs))]
    if task is None:
        task = {"name": "classification", "label_names": names}
        powers = [(max(p, SMALLEST).ln() / Decimal(temperature)).exp() for p in outputs]
        calibrated = [power / sum(powers) for power in powers]
        predicted = [calibrated.index(max(calibrated))]
    elif task is LABELS:
        bounded = [min(max(p, SMALLEST), 1 - SMALLEST) for p in outputs]
        calibrated = [logistic((p / (1 - p)).ln() / Decimal(temperature)) for p in bounded]
        above = [i for i, p in enumerate(outputs) if p > Decimal(str(task["thresholds"][i]))]
        predicted = sorted(above, key=lambda i: -outputs[i])
    else:
        calibrated, predicted = outputs, []
    sure = []
    for label in predicted:
        threshold = Decimal((thresholds or ["0"])[label if len(thresholds) > 1 else 0])
        assert abs(calibrated[label] - threshold) > Decimal("1e-5"), name
        if calibrated[label] >= threshold:
            sure.append(label)
    none_sure = bool(predicted) and not sure
    return {
        "name": name,
        "task": task,
        "decision": {
            "temperature": float(temperature),
            "thresholds": [float(t) for t in thresholds],
            "max_unknown": float(max_unknown),
        },
        "outputs": [float(p) for p in outputs],
        "unknown": float(unknown),
        "familiarity": 0.0,
        "calibrated": [round(float(p), 9) for p in calibrated],
        "labels": [task["label_names"][label] for label in (predicted if none_sure else sure)],
        "unsure": none_sure or Decimal(unknown) > Decimal(max_unknown),
    }


if __name__ == "__main__":
    vectors = [
        *map(vector, CASES),
        *(vector(case, LABELS) for case in OF_LABELS),
        *(vector(case, SCORE) for case in OF_SCORES),
        *(of_familiarity(*case) for case in FAMILIARITY),
    ]
    lines = ",\n".join(map(json.dumps, vectors))
    (Path(__file__).parent / "decisions.json").write_text(f"[\n{lines}\n]\n")
