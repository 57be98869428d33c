"""The results of a report as a table, for a terminal or in Markdown."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from kdedge.bench.report.model import BenchReport, Measurement, slowing, three_digits
from kdedge.bench.scenario import COLD_START, SINGLE_STREAM, SUSTAINED, THROUGHPUT
from kdedge.tasks import format_metric

COLUMNS = {
    SINGLE_STREAM: ("text, ms", "speed-up", "p50, ms"),
    SUSTAINED: ("p50, ms", "p90, ms", "slowing"),
    COLD_START: ("load, ms", "first, ms", "cold start, ms"),
    THROUGHPUT: ("p50, ms", "texts a second", "speed-up"),
}


def _columns(report: BenchReport) -> tuple[str, ...]:
    """The columns of a report's table after the name."""
    return ("MB", report.metric, "agrees", *COLUMNS[report.scenario.kind])


def _figures(report: BenchReport, m: Measurement) -> tuple[str, ...]:
    """The cells of one row, under `_columns`."""
    speed_up = report.text_speed_up(m) if m.texts else report.speed_up(m)
    slower = slowing(m.repeats)
    texts = {
        "text, ms": "" if m.text_ms is None else three_digits(m.text_ms),
        "p50, ms": three_digits(m.p50_ms) + (" (mean)" if m.p50_is_mean else ""),
        "p90, ms": "" if m.p90_ms is None else three_digits(m.p90_ms),
        "speed-up": speed_up.verdict if speed_up else "baseline",
        "slowing": f"{slower:.2f}" if slower else "",
        "load, ms": three_digits(m.load_ms),
        "first, ms": three_digits(m.first_inference_ms),
        "cold start, ms": three_digits(m.cold_start_ms),
        "texts a second": three_digits(m.texts_a_second),
    }
    return (
        f"{m.bytes / 1e6:.1f}",
        format_metric(m.metric, m.score, 1),
        f"{m.agreement:.1%}",
        *(texts[column] for column in COLUMNS[report.scenario.kind]),
    )


def markdown_table(report: BenchReport) -> str:
    """The results of each artifact in Markdown."""
    rows = [(_title(m), *_figures(report, m)) for m in report.measurements]
    return markdown(("artifact", *_columns(report)), rows)


def _title(m: Measurement) -> str:
    """The name, and where it ran if another processor than the CPU was asked for."""
    return f"{m.name} ({m.placement})" if m.placement else m.name


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are right-aligned."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    # The name of a bundle's folder may contain a |.
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def terminal_table(report: BenchReport) -> Table:
    """The results of each artifact for a terminal."""
    s = report.scenario
    # Narrow enough for a terminal of 80 columns.
    table = Table(
        box=SIMPLE_HEAD,
        padding=0,
        title=f"{s.kind}, {s.name}: {s.repeats} repeats" + ("" if report.valid else ", NOT VALID"),
    )
    # Only names are broken, so that all figures are whole.
    table.add_column("artifact", overflow="fold")
    for name in _columns(report):
        table.add_column(name, justify="right", no_wrap=True)
    for m in report.measurements:
        table.add_row(_title(m), *_figures(report, m))
    best = report.best
    notes = []
    if s.kind == SINGLE_STREAM and best and best.text_ms and best.tokenize_ms:
        notes.append(
            "text: from a text, at its own length, to the model's outputs; p50: an inference at "
            f"{best.length} tokens. Tokenization takes {three_digits(best.tokenize_ms)} ms of the "
            f"{three_digits(best.text_ms)} of {best.name}."
        )
    if not report.valid:
        notes += ["NOT VALID: " + " ".join(report.reasons)]
        notes += ["Don't rely on these latencies; measure again with `kdedge bench`."]
    table.caption, table.caption_justify = Text("\n".join(notes)), "left"
    return table
