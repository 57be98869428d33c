"""Draws the figures of a report, as SVG."""

import io
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from kdedge.bench.report.model import BenchReport, Measurement
from kdedge.bundle.decision import Trust
from kdedge.tasks import NO_SHARES

# Okabe and Ito's colours, which colour-blind people can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
# Used for nothing else: a page replaces them by its own colours.
INK, RULE, SURFACE = "#20252d", "#d9dde3", "#fefefe"
STYLE = {
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 72,  # one pixel is one point
    "figure.facecolor": SURFACE,
    "font.family": "sans-serif",
    "font.size": 11,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "savefig.facecolor": SURFACE,
    "svg.fonttype": "none",
    "svg.hashsalt": "kdedge",
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar sign
    "xtick.color": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "ytick.color": INK,
}
LARGEST_BUBBLE = 1500.0  # square points
SMALLEST_BUBBLE = 25.0  # a student of a hundredth of its teacher's size must still be visible
# In points, like all sizes here; an inch has 72.
LINE_HEIGHT, LABEL_SIZE = 15.0, 10.0
ROW_HEIGHT, BINS = 38.0, 60
# Markers in the distributions.
PERCENTILES: dict[str, dict[str, Any]] = {
    "p50": {"marker": "|", "markersize": 18, "markeredgewidth": 1.5},
    "p90": {"marker": "v", "markersize": 6},
    "p99": {"marker": "D", "markersize": 4},
}
SHORTEST_MS = 1e-6  # one nanosecond: a logarithm needs more than 0


class _Dimension(NamedTuple):
    """A quantity that a benchmark can vary: name of the axis, part of a line's label, value."""

    axis: str
    label: str
    of: Callable[[Measurement], int]


DIMENSIONS = {
    "threads": _Dimension("threads", "threads: {}", lambda m: m.threads),
    "length": _Dimension("tokens of a text", "{} tokens", lambda m: m.length),
    "batch": _Dimension("texts an inference", "batch {}", lambda m: m.batch),
}


class _Spot(NamedTuple):
    """Position and radius of a bubble."""

    measurement: Measurement
    x: float
    y: float
    radius: float


def size_latency_score_figure(report: BenchReport) -> str:
    """An SVG figure: latency on x, score on y, size as area. Equal reports give equal text.

    An artifact that was measured with several threads, lengths or batches appears once.
    """
    measurements = _one_each(report.measurements)
    with rc_context(STYLE):
        # Labels are in a column at the right: beside the bubbles there is not always room.
        column = max((_width(_label(m)) for m in measurements), default=0)
        height = max(220.0, LINE_HEIGHT * len(measurements))
        figure, axes = _axes(330, height, left=48, right=30 + column)
        axes.set_xlabel("median latency of one text, ms (less is better)")
        unit = " × 100" if report.metric in NO_SHARES else ", %"
        axes.set_ylabel(f"{report.metric}{unit} (more is better)")
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis)
        axes.grid(True)
        _bubbles(axes, measurements)
        marks = [
            Line2D([], [], marker="o", linestyle="", color=INK, label="LiteRT"),
            Line2D([], [], marker="s", linestyle="", color=INK, label="ONNX Runtime"),
            Line2D([], [], marker="o", linestyle="", color=INK, mfc="none", label="teacher"),
            Line2D([], [], linestyle="", label="area: file size"),
        ]
        _legend(figure, marks)
        return _svg(figure)


def latency_distribution_figure(report: BenchReport) -> str:
    """An SVG figure: a histogram of the samples of each artifact, on a common axis.

    Markers show p50, p90 and, if known, p99. Measurements without samples are left out; an artifact
    that was measured with several threads, lengths or batches appears once.
    """
    ones = _one_each(report.measurements)
    measurements = [m for m in ones if any(r.samples_ns for r in m.repeats)]
    with rc_context(STYLE):
        rows = max(1, len(measurements))
        figure, axes = _axes(540, ROW_HEIGHT * rows, left=10, right=10)
        axes.set_xlabel("latency of one inference, ms")
        axes.set_ylim(rows, 0)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis)
        axes.grid(True, axis="x")
        colours = _colours(measurements)
        for row, m in enumerate(measurements):
            _histogram(axes, m, row + 0.97, colours[m.bundle])
            for style, ms in zip(PERCENTILES.values(), (m.p50_ms, m.p90_ms, m.p99_ms), strict=True):
                if ms is not None:
                    axes.plot(ms, row + 0.72, color=INK, **style)
            axes.text(
                0, row + 0.06, m.name, size=LABEL_SIZE, va="top",
                transform=axes.get_yaxis_transform(),
            )  # fmt: skip
        _legend(
            figure,
            [
                Line2D([], [], linestyle="", color=INK, label=name, **style)
                for name, style in PERCENTILES.items()
            ],
        )
        return _svg(figure)


def curve_figures(report: BenchReport) -> dict[str, str]:
    """SVG curves of p50 over `threads`, `length` and `batch`, for those that the benchmark varied.

    A line is one artifact on one device with all else equal; error bars go from the median of the
    fastest repeat to that of the slowest.
    """
    figures = {}
    for name, dimension in DIMENSIONS.items():
        others = [other for other in DIMENSIONS.values() if other is not dimension]
        lines: dict[tuple[Any, ...], list[Measurement]] = {}
        for m in sorted(report.measurements, key=dimension.of):
            key = (m.bundle, m.artifact, m.device, *(other.of(m) for other in others))
            lines.setdefault(key, []).append(m)
        varied = [line for line in lines.values() if len(set(map(dimension.of, line))) > 1]
        if varied:
            figures[name] = _curve_figure(dimension, others, varied)
    return figures


def training_figures(epochs: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """SVG curves by measure; `val_loss` is in the same figure as `loss`, and so on.

    Args:
        epochs: the number `epoch` and the metrics of each epoch.
    """
    measures = dict.fromkeys(
        name.removeprefix("val_") for epoch in epochs for name in epoch if name != "epoch"
    )
    return {measure: _training_figure(measure, epochs) for measure in measures}


def trust_figures(trusts: Mapping[str, Trust]) -> dict[str, str]:
    """SVG figures of when answers can be trusted: the reliability diagram, and coverage.

    Args:
        trusts: when to trust the answers of each artifact, by its name. Those of scores have
            nothing to draw, and if no others are left, there are no figures.
    """
    trusts = {name: trust for name, trust in trusts.items() if trust.calibration}
    if not trusts:
        return {}
    colours = dict(zip(trusts, itertools.cycle(COLOURS)))  # noqa: B905

    def figure(x: str, y: str, draw: Callable[[Any, str, Trust], object]) -> str:
        with rc_context(STYLE):
            under = LINE_HEIGHT * len(trusts)
            figure, axes = _axes(260, 220, left=56, right=16, bottom=50 + under, top=10)
            axes.set_xlabel(x)
            axes.set_ylabel(y)
            axes.grid(True)
            for name, trust in trusts.items():
                draw(axes, name, trust)
            figure.legend(loc="lower left", frameon=False, fontsize=LABEL_SIZE, borderpad=0.2)
            return _svg(figure)

    def reliability(axes: Any, name: str, trust: Trust) -> None:
        bins = trust.calibration.bins if trust.calibration else ()
        points = [(100 * one.confidence, 100 * one.right) for one in bins]
        lowest = min(min(point) for point in points)
        axes.plot((lowest, 100), (lowest, 100), color=RULE, lw=1)
        axes.plot(*zip(*points, strict=True), "o-", color=colours[name], ms=4, lw=0.8, label=name)

    def coverage(axes: Any, name: str, trust: Trust) -> None:
        curve = [point for point in trust.curve if point.right is not None and point.interval]
        x = [100 * point.coverage for point in curve]
        low, high = ([100 * (p.interval or (0, 0))[end] for p in curve] for end in (0, 1))
        colour = colours[name]
        axes.plot(x, [100 * (point.right or 0) for point in curve], color=colour, label=name)
        axes.fill_between(x, low, high, color=colour, alpha=0.15)
        answered = trust.answered
        if trust.decision.thresholds and answered and answered.right is not None:
            axes.plot(100 * answered.coverage, 100 * answered.right, "o", color=colour)

    return {
        "probability of predicted labels against share of right ones": figure(
            "calibrated probability, %", "right labels, %", reliability
        ),
        "labels that are not unsure against right ones": figure(
            "labels that are not unsure, %", "right ones among them, %", coverage
        ),
    }


def _training_figure(measure: str, epochs: Sequence[Mapping[str, float]]) -> str:
    with rc_context(STYLE):
        figure = Figure(figsize=(4, 2.5))
        axes = figure.add_axes((0.16, 0.19, 0.81, 0.68))
        lines = (("training", measure, COLOURS[1]), ("validation", f"val_{measure}", COLOURS[0]))
        for label, key, colour in lines:
            points = [(epoch["epoch"], epoch[key]) for epoch in epochs if key in epoch]
            if points:
                axes.plot(*zip(*points, strict=True), "o-", color=colour, ms=4, label=label)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.grid(True, axis="y")
        figure.legend(
            loc="upper left", ncols=2, frameon=False, borderpad=0.2, bbox_to_anchor=(0.13, 1)
        )
        return _svg(figure)


def _curve_figure(
    dimension: _Dimension, others: Sequence[_Dimension], lines: Sequence[Sequence[Measurement]]
) -> str:
    with rc_context(STYLE):
        under = LINE_HEIGHT * len(lines)
        figure, axes = _axes(360, 240, left=56, right=16, bottom=50 + under, top=10)
        axes.set_xlabel(dimension.axis)
        axes.set_ylabel("p50, ms")
        firsts = [line[0] for line in lines]
        several_devices = len({m.device for m in firsts}) > 1
        labelled = [other for other in others if len(set(map(other.of, firsts))) > 1]
        looks = itertools.product(("-", "--", ":"), COLOURS)
        for line, (dashes, colour) in zip(lines, itertools.cycle(looks)):  # noqa: B905
            first, p50s = line[0], [m.p50_ms for m in line]
            parts = [
                f"{first.bundle}/{first.artifact}",
                *(o.label.format(o.of(first)) for o in labelled),
            ]
            axes.errorbar(
                [dimension.of(m) for m in line], p50s,
                [
                    [p50 - min(m.repeats_p50_ms) for p50, m in zip(p50s, line, strict=True)],
                    [max(m.repeats_p50_ms) - p50 for p50, m in zip(p50s, line, strict=True)],
                ],
                fmt="o" if first.format == "litert" else "s", ms=4, capsize=3, color=colour,
                linestyle=dashes,
                label=", ".join(parts) + f" on {first.device}" * several_devices,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        ticks = sorted({dimension.of(m) for line in lines for m in line})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis)
        axes.grid(True)
        figure.legend(loc="lower left", frameon=False, fontsize=LABEL_SIZE, borderpad=0.2)
        return _svg(figure)


def _one_each(measurements: Iterable[Measurement]) -> list[Measurement]:
    """One measurement for each artifact and device: smallest batch, fewest threads, most tokens."""
    first: dict[tuple[str, str, str], Measurement] = {}
    for m in sorted(measurements, key=lambda m: (m.batch, m.threads, -m.length)):
        first.setdefault((m.bundle, m.artifact, m.device), m)
    return [m for m in measurements if m in first.values()]


def _bubbles(axes: Any, measurements: Sequence[Measurement]) -> None:
    """Draw each measurement as a bubble, with its label in a column at the right."""
    if not measurements:
        return
    latencies = [m.p50_ms for m in measurements]
    axes.set_xlim(min(latencies) / 1.6, max(latencies) * 1.6)
    scores = [100 * m.score for m in measurements]
    margin = 1 + 0.1 * (max(scores) - min(scores))
    axes.set_ylim(min(scores) - margin, max(scores) + margin)
    colours = _colours(measurements)
    largest = max(m.bytes for m in measurements)

    spots = []
    for m, score in zip(measurements, scores, strict=True):
        # Matplotlib's size is the square of a marker's width; for a circle that is not its area.
        shape, size_of_area = ("o", 4 / math.pi) if m.format == "litert" else ("s", 1.0)
        size = size_of_area * max(SMALLEST_BUBBLE, LARGEST_BUBBLE * m.bytes / largest)
        axes.scatter(
            m.p50_ms, score, size, marker=shape, clip_on=False,
            facecolor="none" if m.is_teacher else colours[m.bundle],
            edgecolor=INK if m.is_teacher else SURFACE, alpha=0.85,
        )  # fmt: skip
        x, y = axes.transData.transform((m.p50_ms, score))
        spots.append(_Spot(m, x, y, size**0.5 / 2))

    # From top to bottom, so that the lines from labels to bubbles rarely cross.
    spots.sort(key=lambda spot: (-spot.y, -spot.x))
    _, bottom, right, top = axes.bbox.extents
    for spot, y in zip(spots, _spread([spot.y for spot in spots], bottom, top), strict=True):
        axes.annotate(
            _label(spot.measurement),
            (spot.measurement.p50_ms, 100 * spot.measurement.score),
            (right + 20 - spot.x, y - spot.y), textcoords="offset points",
            size=LABEL_SIZE, va="center", annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "lw": 0.6, "shrinkA": 0, "shrinkB": spot.radius,
                "color": INK if spot.measurement.is_teacher else colours[spot.measurement.bundle],
                "relpos": (0, 0.5),
            },
        )  # fmt: skip


def _spread(wanted: Sequence[float], bottom: float, top: float) -> list[float]:
    """Heights near the wanted ones, in falling order, with a line height between neighbours."""
    heights: list[float] = []
    for y in wanted:
        heights.append(min(y, heights[-1] - LINE_HEIGHT if heights else top - LINE_HEIGHT / 2))
    lowest = bottom + LINE_HEIGHT / 2
    for i in reversed(range(len(heights))):
        heights[i] = max(heights[i], lowest)
        lowest = heights[i] + LINE_HEIGHT
    return heights


def _histogram(axes: Any, m: Measurement, bottom: float, colour: str) -> None:
    """Draw a histogram of all samples, upwards from `bottom` on an axis that points down."""
    samples = np.array([ns for repeat in m.repeats for ns in repeat.samples_ns]) / 1e6
    # Bins of equal width on the page.
    counts, edges = np.histogram(np.log(np.maximum(samples, SHORTEST_MS)), BINS)
    axes.stairs(
        bottom - 0.5 * counts / counts.max(), np.exp(edges), baseline=bottom, fill=True,
        color=colour, alpha=0.75,
    )  # fmt: skip


def _label(m: Measurement) -> str:
    return f"{m.name}, {m.size}"


def _width(label: str) -> float:
    return float(TextPath((0, 0), label, size=LABEL_SIZE).get_extents().width)


def _colours(measurements: Sequence[Measurement]) -> dict[str, str]:
    """The colour of each bundle; teachers have the text colour."""
    students = dict.fromkeys(m.bundle for m in measurements if not m.is_teacher)
    teachers = {m.bundle: INK for m in measurements if m.is_teacher}
    return teachers | dict(zip(students, itertools.cycle(COLOURS)))  # noqa: B905


def _axes(
    width: float, height: float, *, left: float, right: float, bottom: float = 44, top: float = 32
) -> tuple[Figure, Any]:
    """Axes of this size, in a figure with these margins."""
    whole = (left + width + right, bottom + height + top)
    figure = Figure(figsize=(whole[0] / 72, whole[1] / 72))
    return figure, figure.add_axes(
        (left / whole[0], bottom / whole[1], width / whole[0], height / whole[1]), axisbelow=True
    )


def _plain_numbers(axis: Any) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, marks: Sequence[Line2D]) -> None:
    figure.legend(
        handles=marks, loc="upper left", ncols=len(marks), frameon=False, handletextpad=0.2,
        columnspacing=1.2, borderpad=0.2,
    )  # fmt: skip


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=no_metadata)
    return buffer.getvalue()
