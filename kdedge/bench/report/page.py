"""A report as one web page that needs no network; scripts only sort its tables."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kdedge.bench.report.figures import (
    INK,
    RULE,
    SURFACE,
    curve_figures,
    latency_distribution_figure,
    size_latency_score_figure,
    training_figures,
)
from kdedge.bench.report.model import RUNTIMES, BenchReport, three_digits

Pieces = Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Disagreement:
    """A text to which teacher and student give different answers, and how sure each is.

    The pieces are the text's word pieces, with what each adds to the answer given; none if it was
    not worked out.
    """

    text: str
    label: str
    teacher: str
    teacher_confidence: float
    student: str
    student_confidence: float
    teacher_pieces: Pieces = ()
    student_pieces: Pieces = ()


def render_page(
    report: BenchReport,
    *,
    title: str,
    training: Mapping[str, Sequence[Mapping[str, float]]] | None,
    disagreements: Sequence[Disagreement] | None,
    stages: Mapping[str, float] | None,
) -> str:
    """The page as HTML.

    Args:
        report: what was measured.
        title: for people, for instance the recipe's name.
        training: by model ("teacher", "student"), each epoch's number as `epoch`, and its measures.
        disagreements: texts to show.
        stages: seconds that each stage took, in their order.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=duration, percent=percent, digits=three_digits, shaded=shaded
    )
    page: str = environment.get_template("page.html.jinja").render(
        report=report,
        title=title,
        runtimes=RUNTIMES,
        figure=inline_svg(
            size_latency_score_figure(report), "Score against median latency of each artifact"
        ),
        distribution=inline_svg(
            latency_distribution_figure(report), "Distribution of the latencies of each artifact"
        )
        if any(repeat.samples_ns for m in report.measurements for repeat in m.repeats)
        else None,
        curves={
            dimension: inline_svg(svg, f"p50 of each artifact by {dimension}")
            for dimension, svg in curve_figures(report).items()
        },
        training={
            model: {
                measure.replace("_", " "): inline_svg(svg, f"{measure} of the {model} by epoch")
                for measure, svg in training_figures(epochs).items()
            }
            for model, epochs in (training or {}).items()
            if epochs
        },
        disagreements=disagreements or (),
        stages=stages or {},
    )
    return page


def inline_svg(svg: str, label: str) -> Markup:
    """Matplotlib's SVG as a part of a page, in the page's colours.

    Args:
        svg: the file's text.
        label: what it shows, for those who can't see it.
    """
    svg = svg[svg.index("<svg ") :]
    # Names such as axes_1 would stand on the page once for each picture.
    svg = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", svg)
    for colour, variable in ((INK, "ink"), (RULE, "rule"), (SURFACE, "surface")):
        svg = svg.replace(colour, f"var(--{variable})")
    return Markup('<svg role="img" aria-label="{}" ').format(label) + Markup(svg[len("<svg ") :])


def shaded(pieces: Pieces) -> list[tuple[str, str, str, int]]:
    """Word pieces as a page shows them.

    Returns:
        What stands before each piece, a blank or nothing; its letters; whether it speaks `for` or
        `against`; how much, in percent of the piece that says most.
    """
    most = max((abs(value) for _, value in pieces), default=0.0) or 1.0
    return [
        (
            "" if piece.startswith("##") else " ",
            piece.removeprefix("##"),
            "for" if value >= 0 else "against",
            round(100 * abs(value) / most),
        )
        for piece, value in pieces
    ]


def duration(seconds: float) -> str:
    """`42 s`, `3 min 12 s` or `1 h 4 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def percent(share: float) -> str:
    """`91.3%`."""
    return f"{share:.1%}"
