"""The command check."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdedge.cli.common import load_tensorflow
from kdedge.errors import KdedgeError

if TYPE_CHECKING:
    from kdedge.check import Report
    from kdedge.recipe import Recipe
    from kdedge.text.rules import Finding

EXIT = {"ok": 0, "odd": 1, "impossible": 2}
MEANING = {
    "ok": "the recipe can run",
    "odd": "the recipe can run; first look at the lines that begin with odd",
    "impossible": "the recipe can't run; see the lines that begin with impossible",
}


def check(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="TOML file of the recipe")],
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON object")] = False,
) -> None:
    """Check the data and settings of a recipe; exit with 0 ok, 1 odd, 2 impossible."""
    from kdedge.check import check_recipe
    from kdedge.recipe import load_recipe

    asked = load_recipe(recipe)
    report = check_recipe(asked)
    # Without these sections the settings are the defaults. Loading TensorFlow takes seconds.
    if report.verdict != "impossible" and (
        asked.label.model_fields_set or asked.distill.model_fields_set
    ):
        report.findings += _settings_together(asked)
    if as_json:
        typer.echo(json.dumps(report.fields(), indent=2, ensure_ascii=False))
    else:
        for line in _lines(report):
            typer.echo(line)
    raise typer.Exit(EXIT[report.verdict])


def _settings_together(recipe: "Recipe") -> list["Finding"]:
    """A finding if teacher, student and losses don't go together."""
    from kdedge.text.rules import Finding

    try:
        load_tensorflow()
    except KdedgeError as error:
        what = "students, losses, adversaries and prompts were not checked"
        return [Finding("not checked", 1, f"{error}; {what}", "", "")]
    from kdedge.pipeline import check_settings

    try:
        check_settings(recipe)
    except KdedgeError as error:
        return [Finding("settings", 1, str(error), "", "", impossible=True)]
    return []


def _lines(report: "Report") -> list[str]:
    lines = [*report.recognised]
    if report.rows:
        lines.append(", ".join(f"{name} {count:,}" for name, count in report.rows.items()))
    for name, of in report.classes.items():
        lines.append(f"  {name}: " + ", ".join(f"{part} {n:,}" for part, n in of.items()))
    if seen := report.lengths:
        lines.append(
            f"tokens of {seen.texts:,} texts: median {seen.median}, 95% within {seen.p95}, longest "
            f"{seen.longest}; {seen.truncated:.1%} of the texts are truncated to {seen.limit}, "
            f"{seen.unknown:.1%} of the tokens are unknown"
        )
    for finding in report.findings:
        lines.append(f"{'impossible' if finding.impossible else 'odd'}: {finding.line()}")
    if rough := report.estimate:
        lines.append(
            f"very roughly, without a GPU: {minutes_range(rough.minutes)}, "
            f"{rough.memory_gb:.1f} GB of memory, {rough.disk_gb:.1f} GB of disk"
        )
    return [*lines, f"{report.verdict}: {MEANING[report.verdict]}"]


def minutes_range(least: float) -> str:
    """A range of minutes, from `least` to twice as many."""
    if 2 * least < 1:
        return "less than a minute"
    return f"{max(1, round(least)):,} to {math.ceil(2 * least):,} minutes"
