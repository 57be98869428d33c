"""Compares two reports, for people and for CI."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from kdedge.bench.report.model import BenchReport, Measurement, three_digits
from kdedge.bench.report.tables import markdown
from kdedge.bench.statistics import ratio_interval


@dataclass(frozen=True)
class Change:
    """An artifact in two reports.

    Attributes:
        name: the same in both.
        ratio: new p1 / old p1.
        low, high: 95% interval of the ratio.
        metric: name of the score.
        score: new score - old score.
        size: new size in bytes / old size.
        relative_score: new score / old score; 1 + their difference if the old one is not above 0.
    """

    name: str
    ratio: float
    low: float
    high: float
    metric: str
    score: float
    size: float
    relative_score: float

    @property
    def verdict(self) -> str:
        """`faster`, `slower`, or `unchanged` if the interval contains 1."""
        if self.low > 1:
            return "slower"
        return "faster" if self.high < 1 else "unchanged"

    def worse(self, threshold: float) -> list[str]:
        """What got worse by more than `threshold`; 0.05 means 5%."""
        found = []
        if self.verdict == "slower" and self.ratio > 1 + threshold:
            found.append(f"{self.name}: {self.ratio - 1:.1%} slower")
        if self.size > 1 + threshold:
            found.append(f"{self.name}: {self.size - 1:.1%} larger")
        if self.relative_score < 1 - threshold:
            found.append(f"{self.name}: {self.metric} down by {-100 * self.score:.1f} points")
        return found


@dataclass(frozen=True)
class Comparison:
    """Two reports side by side.

    Attributes:
        changes: changes of the artifacts that both have.
        gone: names of the artifacts that only the old report has.
        added: names of the artifacts that only the new report has.
        doubts: why the two should not be compared; empty if there is no reason.
    """

    changes: tuple[Change, ...]
    gone: tuple[str, ...]
    added: tuple[str, ...]
    doubts: tuple[str, ...]

    def regressions(self, threshold: float) -> list[str]:
        """Everything that got worse by more than `threshold`, or is gone; 0.05 means 5%."""
        gone = [f"{name}: not in the new report" for name in self.gone]
        return gone + [line for change in self.changes for line in change.worse(threshold)]


def compare(old: BenchReport, new: BenchReport) -> Comparison:
    """Compare the artifacts that have the same name in both reports."""
    before = {m.name: m for m in old.measurements}
    after = {m.name: m for m in new.measurements}
    return Comparison(
        changes=tuple(_change(before[name], m) for name, m in after.items() if name in before),
        gone=tuple(name for name in before if name not in after),
        added=tuple(name for name in after if name not in before),
        doubts=tuple(_doubts(old, new)),
    )


def _change(old: Measurement, new: Measurement) -> Change:
    low, high = ratio_interval(new.repeats_p1_ms, old.repeats_p1_ms)
    return Change(
        name=new.name,
        ratio=new.p1_ms / old.p1_ms,
        low=low,
        high=high,
        metric=new.metric,
        score=new.score - old.score,
        size=new.bytes / old.bytes,
        # A correlation can be negative, and then has no meaningful ratio.
        relative_score=new.score / old.score if old.score > 0 else 1 + new.score - old.score,
    )


def _doubts(old: BenchReport, new: BenchReport) -> list[str]:
    doubts = [f"The {n} run is not valid." for n, r in (("old", old), ("new", new)) if not r.valid]
    if old.scenario != new.scenario:
        doubts.append(f"The tiers differ: {old.scenario.name} and {new.scenario.name}.")
    for device in old.environments.keys() & new.environments.keys():
        for fact in ("CPU", "cores"):
            was, is_now = (r.environments[device].get(fact) for r in (old, new))
            if was != is_now:
                doubts.append(f"{device} had another {fact}: {was}, now {is_now}.")
    before = {m.name: m for m in old.measurements}
    for m in new.measurements:
        was_of = before.get(m.name)
        if was_of and _way(was_of) != _way(m):
            doubts.append(
                f"{m.name} was measured in another way (tokens, processor, or mean for median)."
            )
    return sorted(doubts)


def _way(m: Measurement) -> tuple[object, ...]:
    return m.length, m.p50_is_mean, m.used


HEAD = (
    "artifact", "old p50, ms", "new p50, ms", "p1, new / old", "95% interval", "", "score",
    "size",
)  # fmt: skip


def comparison_rows(
    comparison: Comparison, old: BenchReport, new: BenchReport
) -> list[tuple[str, ...]]:
    """The cells of a table with the columns `HEAD`, one row for each artifact."""
    before = {m.name: m for m in old.measurements}
    after = {m.name: m for m in new.measurements}
    rows: list[tuple[str, ...]] = [
        (
            c.name,
            three_digits(before[c.name].p50_ms),
            three_digits(after[c.name].p50_ms),
            f"{c.ratio:.3f}",
            f"{c.low:.3f} to {c.high:.3f}",
            c.verdict,
            f"{100 * c.score:+.1f} points",
            f"{c.size - 1:+.1%}",
        )
        for c in comparison.changes
    ]
    blank = ("",) * (len(HEAD) - 2)
    rows += [(name, "not in the new report", *blank) for name in comparison.gone]
    rows += [(name, "not in the old report", *blank) for name in comparison.added]
    return rows


def comparison_table(rows: Sequence[tuple[str, ...]]) -> Table:
    """The table for a terminal."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, name in enumerate(HEAD):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def comparison_markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """The table in Markdown, for instance for a pull request."""
    return markdown(HEAD, rows)
