"""How results of the study are compared."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kdedge.bench.statistics import RESAMPLES

SPLITS = ("valid", "test")
# What a cell's file says of it, by row; in the order of seeds.
Rows = dict[str, list[dict[str, Any]]]


def by_name(cells: Iterable[dict[str, Any]]) -> Rows:
    """Each row's results, in the order of their seeds."""
    found: Rows = {}
    for one in sorted(cells, key=lambda one: int(one["job"]["seed"])):
        found.setdefault(one["job"]["name"], []).append(one)
    return found


def changes(cells: Rows, rows: Iterable[str]) -> dict[str, Any]:
    """How each row differs from the first one, of the seeds that both have."""
    base, *others = rows
    found = {}
    for name in others if base in cells else ():
        pairs = {split: paired(cells[base], cells.get(name, []), split) for split in SPLITS}
        was, now = pairs["test"]
        if len(now):
            last = cells[name][-1]
            found[name] = {
                "base": base,
                "settings": cells[base][0]["job"]["distill"],
                **{key: last[key] for key in ("commit", "measured") if key in last},
                "base_accuracy": [float(right) for right in 100 * was.mean(1)],
                "accuracy": [float(right) for right in 100 * now.mean(1)],
                **{split: difference(*pair) for split, pair in pairs.items()},
            }
    return found


def paired(base: list[Any], other: list[Any], split: str) -> tuple[Any, Any]:
    """Which texts each got right, float [seeds, texts], of the seeds that both have."""
    by_seed = [
        {one["job"]["seed"]: one["result"][split]["right"] for one in ones}
        for ones in (base, other)
    ]
    seeds = sorted(set(by_seed[0]) & set(by_seed[1]))
    a, b = (np.array([[int(r) for r in ones[s]] for s in seeds], float) for ones in by_seed)
    return a, b


def difference(base: Any, other: Any) -> tuple[float, float, float]:
    """Points that `other` has over `base`, and a 95% interval.

    Args:
        base: 1 where a text was labelled right, [seeds, texts].
        other: the same of the same seeds and texts, which are drawn anew together.
    """
    rng = np.random.default_rng(0)
    apart = 100 * (other - base)
    seeds, texts = apart.shape
    drawn = [
        apart[rng.integers(seeds, size=seeds)].mean(0)[rng.integers(texts, size=texts)].mean()
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(apart.mean()), float(low), float(high)


def spread(values: Sequence[float]) -> str:
    """`81.53 ± 0.21`: the mean, and the standard deviation where there are several."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
