"""The commands bench, compare and devices."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field, model_validator

from kdedge.cli.common import LABELLED_FILE, labels_of, load_tensorflow, say, texts_of
from kdedge.cli.settings import Options, settings_as_options
from kdedge.errors import KdedgeError
from kdedge.recipe import Bench, Count, Data, Section

if TYPE_CHECKING:
    from kdedge.bench.run import Labelled
    from kdedge.text.pairs import Text

Markdown = Annotated[bool, typer.Option("--markdown", help="print the table as Markdown")]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", min=0, help="percent of change that is allowed; default: 5"),
]


class GridOptions(Section):
    """Threads, lengths and batch sizes, which are measured in all combinations."""

    threads: tuple[Count, ...] = Field(
        (1,), description="threads of the runtime, for instance 1,2,4"
    )
    lengths: tuple[Count, ...] = Field(
        (), description="tokens of the texts, for instance 16,64; default: the artifact's own"
    )
    batches: tuple[Count, ...] = Field(
        (), description="texts in each inference, for instance 1,8,32; default: the scenario's"
    )

    @model_validator(mode="after")
    def _each_once(self) -> "GridOptions":
        for name, counts in self:
            if len(set(counts)) < len(counts):
                raise ValueError(f"--{name}: {counts}. Give each number once")
        return self


class DeviceOptions(Section):
    """Options of certain kinds of devices."""

    setup: bool = Field(False, description="make a virtual environment on ssh:// devices if needed")
    benchmark_model: Path | None = Field(
        None, description="TensorFlow Lite's benchmark_model, for adb:// devices"
    )
    app: str | None = Field(
        None, description="app to measure with on adb:// devices; org.kdedge.demo is android_demo"
    )
    accelerator: str | None = Field(
        None,
        description="processor that --app runs LiteRT models on, if it can: gpu, npu or cpu; "
        "default: cpu",
    )


@settings_as_options
def bench(
    settings: Annotated[Bench, Options(main=("tier",), without=("quote_texts",))],
    labelled: Annotated[
        Data | None,
        Options(
            only=(*LABELLED_FILE, "split"),
            main=("path", "text", "label", "split"),
            required="--data",
            help={
                "path": "labelled texts, to measure the score on the device",
                "split": "column with train, valid or test: only test texts are scored; default: "
                "all texts",
            },
        ),
    ],
    grid: Annotated[GridOptions, Options(main=("threads", "lengths", "batches"))],
    of_devices: Annotated[DeviceOptions, Options()],
    bundles: Annotated[list[Path] | None, typer.Argument(metavar="BUNDLE_DIR...")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="folder of the report")] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            help="local, ssh://USER@HOST:PORT, adb://SERIAL or browser; can be repeated; "
            "default: local",
        ),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            "--scenario",
            help="single-stream, cold-start, sustained or throughput; default: single-stream",
        ),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            "--samples", help="file of texts to measure with; default: those of `kdedge export`"
        ),
    ] = None,
    markdown: Markdown = False,
    reports: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", metavar="OLD.json NEW.json", help="the same as kdedge compare"),
    ] = None,
    threshold: Threshold = None,
) -> None:
    """Measure bundles on devices."""
    if reports:
        if bundles:
            raise KdedgeError("--compare: it only compares two reports. Leave out the bundles.")
        of_bench = settings.model_fields_set | grid.model_fields_set | of_devices.model_fields_set
        if report or device or samples or labelled or scenario or of_bench:
            raise KdedgeError(
                "--compare: it only compares two reports. Leave out all other options, except "
                "--threshold and --markdown."
            )
        compare(*reports, threshold, markdown)
        return
    if threshold is not None:
        raise KdedgeError("--threshold: only with --compare.")
    if report is None:
        raise KdedgeError("--report: none given. Name the folder to write to.")
    from kdedge.bench import scenario as scenarios
    from kdedge.bench.devices import devices_of

    devices = devices_of(*(device or ["local"]), **dict(of_devices))
    chosen = scenarios.scenario(settings.tier, scenario or scenarios.SINGLE_STREAM)
    load_tensorflow()
    from rich.console import Console

    from kdedge.bench.report.page import render_page
    from kdedge.bench.report.tables import markdown_table, terminal_table
    from kdedge.bench.run import Grid, bench_bundles
    from kdedge.bundle.manifest import trusts_of
    from kdedge.files import write_text

    result = bench_bundles(
        bundles or [],
        report,
        chosen,
        _samples(samples, bundles) if samples and bundles else None,
        devices=devices,
        labelled=_texts_of(labelled, bundles) if labelled and bundles else None,
        grid=Grid(**dict(grid)),
    )
    page = render_page(
        result,
        title="benchmark",
        training=None,
        disagreements=None,
        stages=None,
        trusts=trusts_of(bundles or []),
    )
    write_text(report / "report.html", page)
    if markdown:
        typer.echo(markdown_table(result), nl=False)
    else:
        Console(highlight=False).print(terminal_table(result))


def _samples(path: Path, bundles: list[Path]) -> "list[Text]":
    """The texts of a file; for pairs, its column text_pair has the second texts."""
    from kdedge.bundle.manifest import read_manifest
    from kdedge.text.readers import read_texts

    return read_texts(path, pair="text_pair" if read_manifest(bundles[0]).pairs else None)


def _texts_of(data: Data, bundles: list[Path]) -> "Labelled":
    """The labelled test texts of the data; all labelled texts if there is no split column."""
    from kdedge.bench.run import Labelled
    from kdedge.bundle.manifest import read_manifest
    from kdedge.text.splits import part_of

    first, split = read_manifest(bundles[0]), data.split
    task = first.task
    for bundle in bundles[1:]:
        other = read_manifest(bundle)
        if (other.task.name, other.pairs) != (task.name, first.pairs):
            raise KdedgeError(
                f"--data: {bundles[0]} and {bundle} are not for the same task. Measure them apart."
            )
    if data.text_pair and not first.pairs:
        raise KdedgeError(f"--text-pair: {bundles[0]} takes single texts.")
    if first.pairs and data.text_pair is None:
        data = data.model_copy(update={"text_pair": "text_pair"})
    files = texts_of(data)
    rows = files.with_labels(
        labels_of(data, task), lambda row: not split or part_of(row, split) == "test"
    )
    parsed = [(text, task.parse(*label)) for text, label in rows]
    files.tell_empty()
    labelled = [(text, label) for text, label in parsed if label is not None]
    if not labelled:
        raise KdedgeError(f"{data.path}: no {'test ' if split else ''}text has a label.")
    if not split:
        say(
            f"{data.path}: the scores are of all {len(labelled):,} texts, as there is no --split. "
            "If the model was trained on some of them, they are too high."
        )
    texts, labels = zip(*labelled, strict=True)
    return Labelled(texts, labels)


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD.json", help="results.json of a report")],
    new: Annotated[Path, typer.Argument(metavar="NEW.json", help="results.json of a later report")],
    threshold: Threshold = None,
    markdown: Markdown = False,
) -> None:
    """Compare two reports; exit with 1 if anything got worse."""
    from rich.console import Console

    from kdedge.bench.report import compare as comparing
    from kdedge.bench.report.model import BenchReport

    before, after = BenchReport.load(old), BenchReport.load(new)
    comparison = comparing.compare(before, after)
    rows = comparing.comparison_rows(comparison, before, after)
    if markdown:
        typer.echo(comparing.comparison_markdown(rows), nl=False)
    else:
        Console(highlight=False, width=160).print(comparing.comparison_table(rows))
    for doubt in comparison.doubts:
        say(f"warning: {doubt}")
    regressions = comparison.regressions(0.05 if threshold is None else threshold / 100)
    for line in regressions:
        say(f"worse: {line}")
    if regressions:
        raise typer.Exit(1)


def devices(
    urls: Annotated[
        list[str] | None,
        typer.Argument(metavar="URL...", help="default: all devices that are found"),
    ] = None,
) -> None:
    """List the devices that can be measured on, with CPU, memory and runtimes."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from kdedge.bench.devices import describe_device, find_devices

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("device", "CPU", "cores", "memory, MB", "runtimes"):
        table.add_column(column)
    failures = []
    for url in urls or find_devices():
        try:
            facts = describe_device(url)
        except KdedgeError as error:
            failures.append(f"{url}: {error}")
        else:
            table.add_row(url, *facts)
    Console(highlight=False, width=160).print(table)
    if not failures:
        return
    message = "\n  ".join(["These devices can't be used:", *failures])
    if urls:
        raise KdedgeError(message)
    say(message)
