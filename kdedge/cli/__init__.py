"""The command line: a thin skin over the stages. Stages are imported where they are used, so that
`kdedge --help` is quick and `kdedge predict` needs no TensorFlow."""  # noqa: D205, D209

from typing import Any

import typer
from typer.core import TyperGroup

from kdedge.cli import bench, check, export, package, predict, train
from kdedge.errors import errors_as_lines


class Commands(TyperGroup):
    """Prints what a user can mend as one line, whichever command found it."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        with errors_as_lines():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Distil a BERT text classifier into a small student, export it, prove it, measure it.",
)

# In the order of the way from texts to an app, as `kdedge --help` lists them.
PANELS = {
    "Train": (
        check.check,
        train.run,
        train.teach,
        train.label,
        train.average_labels,
        train.import_labels,
        train.distill,
        train.attack,
        train.compress,
    ),
    "Export": (export.export, export.inspect, export.sign, export.verify),
    "Measure": (bench.bench, bench.compare, bench.devices),
    "Use": (predict.predict,),
}
for panel, commands in PANELS.items():
    for command in commands:
        context = predict.CONTEXT if command is predict.predict else {}
        app.command(rich_help_panel=panel, context_settings=context)(command)
app.add_typer(package.app, name="package", rich_help_panel="Use")
