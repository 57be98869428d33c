"""The command line.

Stages are imported in the commands that use them, so that `kdedge --help` is fast and
`kdedge predict` needs no TensorFlow.
"""

from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kdedge.cli import bench, check, export, large_model, package, predict, report, train
from kdedge.errors import errors_as_lines


class Commands(TyperGroup):
    """Prints the errors that a user can fix as one line, for all commands."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with errors_as_lines():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Distil a BERT text classifier into a small student, export it, check it, measure it.",
)

# `kdedge --help` lists the commands in this order, which is that of the stages.
PANELS = {
    "Train": (
        check.check,
        train.run,
        train.teach,
        large_model.prompts,
        large_model.generate,
        large_model.rewrite,
        train.label,
        train.average_labels,
        train.import_labels,
        train.distill,
        train.attack,
        train.compress,
    ),
    "Export": (export.export, export.inspect, export.sign, export.verify),
    "Measure": (large_model.sheet, bench.bench, bench.compare, bench.devices),
    "Use": (predict.predict,),
}


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"kdedge {version('kdedge')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="show the version"),
    ] = False,
) -> None:
    """The options of kdedge itself."""


for panel, commands in PANELS.items():
    for command in commands:
        context = predict.CONTEXT if command is predict.predict else {}
        app.command(rich_help_panel=panel, context_settings=context)(command)
app.add_typer(report.app, name="report", rich_help_panel="Use")
app.add_typer(package.app, name="package", rich_help_panel="Use")
