"""Makes decisions.json: what a decision makes of outputs, worked out in decimal arithmetic.

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


def vector(case: tuple[str, str, list[str], str, list[str], str]) -> dict[str, Any]:
    """A case with what is right."""
    name, temperature, thresholds, max_unknown, outputs, unknown = case
    powers = [(max(Decimal(p), SMALLEST).ln() / Decimal(temperature)).exp() for p in outputs]
    calibrated = [power / sum(powers) for power in powers]
    answer = calibrated.index(max(calibrated))
    unsure = Decimal(unknown) > Decimal(max_unknown)
    if thresholds:
        threshold = Decimal(thresholds[answer if len(thresholds) > 1 else 0])
        assert abs(calibrated[answer] - threshold) > Decimal("1e-5"), name
        unsure = unsure or calibrated[answer] < threshold
    return {
        "name": name,
        "decision": {
            "temperature": float(temperature),
            "thresholds": [float(t) for t in thresholds],
            "max_unknown": float(max_unknown),
        },
        "outputs": [float(p) for p in outputs],
        "unknown": float(unknown),
        "calibrated": [round(float(p), 9) for p in calibrated],
        "answer": answer,
        "unsure": unsure,
    }


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(vector(case)) for case in CASES)
    (Path(__file__).parent / "decisions.json").write_text(f"[\n{lines}\n]\n")
