"""Renders a report as one HTML page that needs no network; its script only sorts tables."""

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
    trust_figures,
)
from kdedge.bench.report.model import RUNTIMES, BenchReport, three_digits
from kdedge.bundle.decision import Trust
from kdedge.tasks import format_metric
from kdedge.teachers.large_model.scores import PromptScore

# Word pieces of a text with the attribution of each.
Tokens = Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Disagreement:
    """A text to which teacher and student give different answers, with their confidence.

    Scores have no confidence, and none is right or wrong.
    `teacher_tokens` and `student_tokens` are the text's word pieces with their attributions to each
    model's answer; empty if not computed.
    """

    text: str
    label: str
    teacher: str
    teacher_confidence: float | None
    student: str
    student_confidence: float | None
    teacher_tokens: Tokens = ()
    student_tokens: Tokens = ()


def render_page(
    report: BenchReport,
    *,
    title: str,
    training: Mapping[str, Sequence[Mapping[str, float]]] | None,
    disagreements: Sequence[Disagreement] | None,
    stages: Mapping[str, float] | None,
    trusts: Mapping[str, Trust] | None = None,
    sheet: Sequence[str] = (),
    prompts: Sequence[PromptScore] = (),
) -> str:
    """The page as HTML.

    Args:
        report: the report.
        title: title of the page, for instance the recipe's name.
        training: by model ("teacher", "student"), the number `epoch` and metrics of each epoch.
        disagreements: texts to show.
        stages: seconds of each stage, in order.
        trusts: when to trust the answers of each artifact, by its name.
        sheet: lines on the texts labelled by hand.
        prompts: scores of a large model's prompts, the best first.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=duration,
        percent=percent,
        score=score,
        heading=heading,
        digits=three_digits,
        shaded=shaded,
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
        trusts=trusts or {},
        sheet=sheet,
        prompts=prompts,
        trust_figures={
            words: inline_svg(svg, words) for words, svg in trust_figures(trusts or {}).items()
        },
    )
    return page


def inline_svg(svg: str, label: str) -> Markup:
    """Embed an SVG of Matplotlib in a page, with the page's colours.

    Args:
        svg: text of the file.
        label: description for screen readers.
    """
    svg = svg[svg.index("<svg ") :]
    # Ids such as axes_1 would occur several times on the page.
    svg = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", svg)
    for colour, variable in ((INK, "ink"), (RULE, "rule"), (SURFACE, "surface")):
        svg = svg.replace(colour, f"var(--{variable})")
    return Markup('<svg role="img" aria-label="{}" ').format(label) + Markup(svg[len("<svg ") :])


def shaded(tokens: Tokens) -> list[tuple[str, str, str, int]]:
    """Word pieces with their shading on a page.

    Returns:
        For each: a blank or nothing, to print before it; its letters; `for` or `against`; the
        strength, in percent of the largest attribution.
    """
    most = max((abs(value) for _, value in tokens), default=0.0) or 1.0
    # WordPiece marks what continues a word, byte-pair encoding and sentencepiece what begins one.
    begins = tuple(mark for mark in "Ġ▁" if any(token.startswith(mark) for token, _ in tokens))
    return [
        (
            " " if token.startswith(begins) or not (begins or token.startswith("##")) else "",
            token.removeprefix("##").lstrip("".join(begins)),
            "for" if value >= 0 else "against",
            round(100 * abs(value) / most),
        )
        for token, value in tokens
    ]


def duration(seconds: float) -> str:
    """Format a duration.

    >>> [duration(seconds) for seconds in (42, 192, 3840)]
    ['42 s', '3 min 12 s', '1 h 4 min']
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def score(value: float, metric: str) -> str:
    """Format a figure of a task, for instance `91.3%` or `0.872`."""
    return format_metric(metric, value, 1)


def heading(words: str) -> str:
    """Words with a capital, for a heading.

    >>> heading("micro_f1")
    'Micro F1'
    """
    return (words[:1].upper() + words[1:]).replace("_f1", " F1")


def percent(share: float) -> str:
    """Format a share as a percentage, for instance `91.3%`."""
    return f"{share:.1%}"
