"""Pictures of a report, as SVG."""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from kdedge.bench.report import BenchReport, Measurement

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
# Used for nothing else, so that a page can put its own colours in their place.
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
SMALLEST_BUBBLE = 25.0  # a student may be a hundredth of its teacher and must still be seen


LINE_HEIGHT, LETTER_WIDTH = 15.0, 5.9  # points, of the labels
_Box = tuple[float, float, float, float]  # left, bottom, right, top


class _Spot(NamedTuple):
    """Where a bubble is, in points."""

    measurement: Measurement
    x: float
    y: float
    radius: float


def size_latency_accuracy_figure(report: BenchReport) -> str:
    """An SVG picture: latency across, accuracy up, size as area. Equal reports give equal text."""
    with rc_context(STYLE):
        figure = Figure(figsize=(6, 4.2))
        axes = figure.add_axes((0.115, 0.12, 0.87, 0.78))
        axes.set_xscale("log")
        axes.set_xlabel("median latency of one text, ms (less is better)")
        axes.set_ylabel("accuracy, % (more is better)")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(True)
        axes.set_axisbelow(True)
        _bubbles(axes, report.measurements)
        marks = [
            Line2D([], [], marker="o", linestyle="", color=INK, label="LiteRT"),
            Line2D([], [], marker="s", linestyle="", color=INK, label="ONNX Runtime"),
            Line2D([], [], marker="o", linestyle="", color=INK, mfc="none", label="teacher"),
            Line2D([], [], linestyle="", label="area: file size"),
        ]
        figure.legend(
            handles=marks, loc="upper left", ncols=4, frameon=False, handletextpad=0.2,
            columnspacing=1.2,
            borderpad=0.2,
        )  # fmt: skip
        return _svg(figure)


def training_figures(epochs: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """SVG curves by measure; `val_loss` is drawn with `loss`, and so on.

    Args:
        epochs: of each epoch, its number as `epoch` and its measures.
    """
    measures = dict.fromkeys(
        name.removeprefix("val_") for epoch in epochs for name in epoch if name != "epoch"
    )
    return {measure: _training_figure(measure, epochs) for measure in measures}


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


def _bubbles(axes: Any, measurements: Sequence[Measurement]) -> None:
    """Draw each measurement as a bubble with a label that hides no other."""
    if not measurements:
        return
    latencies = [m.p50_ms for m in measurements]
    axes.set_xlim(min(latencies) / 1.6, max(latencies) * 1.6)
    accuracies = [100 * m.accuracy for m in measurements]
    axes.set_ylim(min(accuracies) - 1, max(accuracies) + 1)
    students = dict.fromkeys(m.bundle for m in measurements if not m.is_teacher)
    colours = dict(zip(students, itertools.cycle(COLOURS)))  # noqa: B905
    largest = max(m.bytes for m in measurements)

    spots = []
    for m, accuracy in zip(measurements, accuracies, strict=True):
        # Matplotlib's size is the square of a mark's width, which for a circle is not its area.
        shape, size_of_area = ("o", 4 / math.pi) if m.format == "litert" else ("s", 1.0)
        size = size_of_area * max(SMALLEST_BUBBLE, LARGEST_BUBBLE * m.bytes / largest)
        axes.scatter(
            m.p50_ms, accuracy, size, marker=shape,
            facecolor="none" if m.is_teacher else colours[m.bundle],
            edgecolor=INK if m.is_teacher else SURFACE, alpha=0.85,
        )  # fmt: skip
        x, y = axes.transData.transform((m.p50_ms, accuracy))
        spots.append(_Spot(m, x, y, size**0.5 / 2))

    taken = [(s.x - s.radius, s.y - s.radius, s.x + s.radius, s.y + s.radius) for s in spots]
    for spot in spots:
        label = f"{spot.measurement.name}, {spot.measurement.size}"
        left, y = _free_place(spot, LETTER_WIDTH * len(label), taken, axes.bbox.extents)
        axes.annotate(
            label, (spot.measurement.p50_ms, 100 * spot.measurement.accuracy),
            (left - spot.x, y - spot.y), textcoords="offset points", va="center",
            arrowprops={
                "arrowstyle": "-", "color": INK, "lw": 0.5, "shrinkB": spot.radius,
                "relpos": (0 if left > spot.x else 1, 0.5),
            } if y != spot.y else None,
        )  # fmt: skip


def _free_place(
    spot: _Spot, width: float, taken: list[_Box], inside: Sequence[float]
) -> tuple[float, float]:
    """Left edge and middle of a label near its spot; adds the label's box to `taken`."""
    for away in range(12):
        for y in (spot.y + away * LINE_HEIGHT, spot.y - away * LINE_HEIGHT):
            for left in (spot.x + spot.radius + 4, spot.x - spot.radius - 4 - width):
                box = (left, y - LINE_HEIGHT / 2, left + width, y + LINE_HEIGHT / 2)
                fits = inside[0] <= box[0] and box[2] <= inside[2]
                if fits and not any(_overlap(box, other) for other in taken):
                    taken.append(box)
                    return left, y
    return spot.x, spot.y


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=no_metadata)
    return buffer.getvalue()
