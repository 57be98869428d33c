"""What a benchmark found: kept as JSON with its raw samples, shown as a table and a picture."""

import io
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator
from rich.box import SIMPLE_HEAD
from rich.table import Table

from kdedge.bench.scenario import Scenario
from kdedge.bench.statistics import p50, p90, ratio_interval, wilson_interval
from kdedge.errors import KdedgeError
from kdedge.files import write_text

FORMAT_VERSION = 2
Value = str | int | float
RUNTIMES = {"litert": "LiteRT", "onnx": "ONNX Runtime"}

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

    measurement: "Measurement"
    x: float
    y: float
    radius: float


class _Frozen(BaseModel):
    # What is computed is written for other readers and computed anew here, so it is ignored.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Summary(_Frozen):
    """What a tool says of its inferences after warm-up, where it keeps no samples."""

    count: int = Field(ge=1)
    mean_ns: float = Field(gt=0)
    median_ns: float | None = Field(None, gt=0)
    p95_ns: float | None = Field(None, gt=0)
    memory_rise_bytes: int | None = Field(None, description="since the tool's start; approximate")


class Repeat(_Frozen):
    """One process's measurements; on a device that keeps no samples, a summary of them."""

    load_ns: int = Field(ge=0, description="making the interpreter or session; import left out")
    first_inference_ns: int = Field(ge=0)
    samples_ns: tuple[int, ...] = Field(description="inferences after warm-up")
    summary: Summary | None = None
    peak_rss_bytes: int | None = Field(description="of the process, Python included")

    @model_validator(mode="after")
    def _measured_something(self) -> "Repeat":
        if not self.samples_ns and not self.summary:
            raise ValueError("neither samples nor a summary of them")
        if self.samples_ns and min(self.samples_ns) < 0:
            raise ValueError("a sample is negative")
        return self

    @property
    def p50_ns(self) -> float:
        """The median; the mean where only that is known."""
        if self.summary:
            return self.summary.median_ns or self.summary.mean_ns
        return p50(self.samples_ns)


class Measurement(_Frozen):
    """One artifact: what its manifest says, and its repeats."""

    name: str = Field(description="unlike any other's in the report")
    device: str = Field(description="what it was measured on, as the user named it")
    bundle: str = Field(description="name of the bundle's folder")
    artifact: str
    source: str = Field(description="a student's preset, or teacher")
    format: Literal["litert", "onnx"]
    quantization: str
    bytes: int
    length: int = Field(description="tokens of the texts measured with")
    accuracy: float = Field(ge=0, le=1)
    accuracy_texts: int = Field(ge=1)
    agreement: float = Field(ge=0, le=1, description="share of labels as its source's")
    sha256: str
    repeats: tuple[Repeat, ...] = Field(min_length=1)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def accuracy_interval(self) -> tuple[float, float]:
        """Wilson's, 95%."""
        return wilson_interval(self.accuracy, self.accuracy_texts)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def repeats_p50_ms(self) -> tuple[float, ...]:
        """The median of each repeat."""
        return tuple(repeat.p50_ns / 1e6 for repeat in self.repeats)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def p50_ms(self) -> float:
        """The median of the repeats' medians, so that one disturbed repeat changes little."""
        return p50(self.repeats_p50_ms)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def p90_ms(self) -> float | None:
        """The median of the repeats' 90th percentiles; None where there are no samples."""
        if not all(repeat.samples_ns for repeat in self.repeats):
            return None
        return p50([p90(repeat.samples_ns) / 1e6 for repeat in self.repeats])

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def p50_is_mean(self) -> bool:
        """Whether the device's tool gives means alone, so that these stand in p50's place."""
        return any(r.summary is not None and r.summary.median_ns is None for r in self.repeats)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def load_ms(self) -> float:
        """The median over the repeats."""
        return p50([repeat.load_ns / 1e6 for repeat in self.repeats])

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def first_inference_ms(self) -> float:
        """The median over the repeats."""
        return p50([repeat.first_inference_ns / 1e6 for repeat in self.repeats])

    @property
    def is_teacher(self) -> bool:
        """Whether it was converted from the teacher."""
        return self.source == "teacher"

    @property
    def size(self) -> str:
        """The file's size for people."""
        return f"{self.bytes / 1e6:.1f} MB"


def three_digits(value: float) -> str:
    """`0.0512`, `1.20`, `35.0`, `1234`: at least three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


@dataclass(frozen=True)
class SpeedUp:
    """How many times faster than `baseline`, with a 95% interval over the repeats."""

    baseline: Measurement
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`12.3× faster`, `1.2× slower`, or `no different` where the interval holds 1."""
        if self.low > 1:
            return f"{three_digits(self.ratio)}× faster"
        if self.high < 1:
            return f"{three_digits(1 / self.ratio)}× slower"
        return "no different"

    @property
    def interval(self) -> str:
        """The interval, said of what the verdict says."""
        low, high = (1 / self.high, 1 / self.low) if self.high < 1 else (self.low, self.high)
        return f"{three_digits(low)} to {three_digits(high)}"


class _Head(_Frozen):
    """What a report of any version says."""

    format_version: int = FORMAT_VERSION
    kdedge: str = Field(description="version of kdedge that measured")


class BenchReport(_Head):
    """What a benchmark found, and whether to believe it."""

    scenario: Scenario
    environments: dict[str, dict[str, Value]] = Field(description="device -> what it was like")
    valid: bool
    reasons: tuple[str, ...] = Field(description="why the run is not valid")
    failures: dict[str, str] = Field(description="artifact or device -> what went wrong")
    measurements: tuple[Measurement, ...]

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_text(path, self.model_dump_json() + "\n")

    @classmethod
    def load(cls, path: Path) -> "BenchReport":
        """Read what `save` wrote.

        Raises:
            KdedgeError: no report, or not one of this version.
        """
        try:
            content = path.read_bytes()
            # First, for another version may have other keys.
            head = _Head.model_validate_json(content)
            if head.format_version != FORMAT_VERSION:
                raise KdedgeError(
                    f"{path}: format_version is {head.format_version} and this kdedge reads "
                    f"{FORMAT_VERSION}. Install the kdedge that wrote it ({head.kdedge}), or "
                    "measure anew."
                )
            return cls.model_validate_json(content)
        except (OSError, ValidationError) as error:
            raise KdedgeError(f"{path}: not a readable benchmark report: {error}") from None

    def speed_up(self, measurement: Measurement) -> SpeedUp | None:
        """Against the teacher's fastest artifact on the same device in the same runtime, which is
        what one would ship without a student; without a teacher, the slowest of all there. None
        for that one itself.
        """  # noqa: D205
        where = (measurement.device, measurement.format)
        peers = [m for m in self.measurements if (m.device, m.format) == where]
        teachers = [m for m in peers if m.is_teacher]
        baseline = (
            min(teachers, key=lambda m: m.p50_ms)
            if teachers
            else max(peers, key=lambda m: m.p50_ms)
        )
        if baseline.name == measurement.name:
            return None
        low, high = ratio_interval(baseline.repeats_p50_ms, measurement.repeats_p50_ms)
        return SpeedUp(baseline, baseline.p50_ms / measurement.p50_ms, low, high)

    def retention(self, measurement: Measurement) -> float | None:
        """Accuracy as a share of the teacher's best artifact's; None without a teacher."""
        teachers = [m.accuracy for m in self.measurements if m.is_teacher]
        return measurement.accuracy / max(teachers) if teachers else None

    @property
    def best(self) -> Measurement | None:
        """The fastest student artifact within a point of the most accurate one."""
        students = [m for m in self.measurements if not m.is_teacher]
        most = max((m.accuracy for m in students), default=0.0)
        good = [m for m in students if m.accuracy >= most - 0.01]
        return min(good, key=lambda m: m.p50_ms, default=None)


def report_schema() -> str:
    """The JSON schema of a report, as it is published in report.schema.json."""
    schema = BenchReport.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["format_version"]["const"] = FORMAT_VERSION
    return json.dumps(schema, indent=2) + "\n"


COLUMNS = ("MB", "accuracy", "agrees", "p50, ms", "p90, ms", "speed-up")


def _figures(report: BenchReport, m: Measurement) -> tuple[str, ...]:
    """The texts under `COLUMNS`."""
    speed_up = report.speed_up(m)
    return (
        f"{m.bytes / 1e6:.1f}",
        f"{m.accuracy:.1%}",
        f"{m.agreement:.1%}",
        three_digits(m.p50_ms) + (" (mean)" if m.p50_is_mean else ""),
        "" if m.p90_ms is None else three_digits(m.p90_ms),
        speed_up.verdict if speed_up else "baseline",
    )


def markdown_table(report: BenchReport) -> str:
    """The figures of each artifact, for a README."""
    rows = [(m.name, *_figures(report, m)) for m in report.measurements]
    return markdown(("artifact", *COLUMNS), rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first are to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    # A bundle's folder may be named anything.
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def terminal_table(report: BenchReport) -> Table:
    """The figures of each artifact, for a terminal."""
    s = report.scenario
    # Narrow enough for a terminal of 80 columns.
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title=f"{s.name}: {s.repeats} repeats, {s.threads} thread{'s' * (s.threads > 1)}"
        + ("" if report.valid else ", NOT VALID"),
    )
    table.add_column("artifact", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for m in report.measurements:
        table.add_row(m.name, *_figures(report, m))
    return table


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
