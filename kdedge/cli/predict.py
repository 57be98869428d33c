"""The command that asks a bundle."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from kdedge.errors import KdedgeError


def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE_DIR")],
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help=".txt, a text a line, or a data file with a column text"),
    ] = None,
    artifact: Annotated[
        str | None,
        typer.Option("--artifact", help="a model by name; the bundle's default"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="a JSON object a text")] = False,
) -> None:
    """Classify texts: arguments, a file's lines, or the lines of standard input."""
    from kdedge.runtime import load_bundle
    from kdedge.text.readers import read_texts, split_lines

    if texts and file:
        raise KdedgeError("--file: given beside texts; one of the two is needed.")
    if file:
        lines = read_texts(file)
    else:
        lines = texts or split_lines(sys.stdin.buffer.read(), "standard input")
    classifier = load_bundle(bundle, artifact)
    for line, said in zip(lines, classifier.predict(lines), strict=True):
        if as_json:
            typer.echo(json.dumps({"text": line, **said.fields()}, ensure_ascii=False))
        else:
            typer.echo(f"{said.line()}\t{line}")
