"""The command predict."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kdedge.cli.common import say, texts_of
from kdedge.cli.settings import Options, settings_as_options
from kdedge.errors import KdedgeError
from kdedge.recipe import Data

# Texts may begin with a dash.
CONTEXT = {"ignore_unknown_options": True}
# What begins like this was meant as an option.
OPTION = re.compile(r"--[a-z][a-z-]*(=|$)")


@settings_as_options
def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE_DIR")],
    data: Annotated[
        Data | None,
        Options(
            main=("path", "text", "label", "empty_texts"),
            only=("path", "text", "label", "encoding", "delimiter", "quoting", "empty_texts"),
            required="--file",
            help={
                "path": ".txt with one text a line, or a data file",
                "label": "column of the labels: says how many of the answers are right",
            },
            defaults={"label": "none", "empty_texts": "skip"},
        ),
    ],
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...")] = None,
    artifact: Annotated[
        str | None,
        typer.Option("--artifact", help="name of the model; default: the bundle's default"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object for each text")
    ] = False,
) -> None:
    """Classify texts: the arguments, the texts of a file, or the lines of standard input.

    Empty lines of a file and of standard input are left out and counted.
    """
    from kdedge.runtime import load_bundle
    from kdedge.text.readers import split_lines

    for text in texts or []:
        if OPTION.match(text):
            raise KdedgeError(f"{text}: no such option. If it is a text, write -- before it.")
    if texts and data:
        raise KdedgeError("--file: given beside texts; one of the two is needed.")
    given: list[Any] = []
    empty = 0
    if data:
        if "empty_texts" not in data.model_fields_set:
            data = data.model_copy(update={"empty_texts": "skip"})
        label = data.label if "label" in data.model_fields_set else None
        files = texts_of(data)
        pairs = list(files.with_labels(label))
        lines, given, empty = [text for text, _ in pairs], [of for _, of in pairs], files.empty_seen
    elif texts:
        lines = texts
    else:
        lines, empty = split_lines(sys.stdin.buffer.read(), "standard input")
    classifier = load_bundle(bundle, artifact)
    task = classifier.manifest.task
    outputs: Any = classifier.outputs(lines) if lines else []
    for line, row in zip(lines, outputs, strict=True):
        answer = task.answer(row)
        if as_json:
            typer.echo(json.dumps({"text": line, **answer.fields()}, ensure_ascii=False))
        else:
            typer.echo(f"{answer.line()}\t{line}")
    if empty:
        say("1 empty text was left out." if empty == 1 else f"{empty:,} empty texts were left out.")
    if data and label:
        say(_score(task, outputs, given, label))


def _score(task: Any, outputs: Any, given: list[Any], label: str) -> str:
    import numpy as np

    parsed = [task.parse(value, f"{where}: {label}") for where, value in given]
    labelled = [i for i, value in enumerate(parsed) if value is not None]
    if not labelled:
        raise KdedgeError(f"--label: column {label!r} has no labels.")
    labels = task.numbers([parsed[i] for i in labelled], f"column {label!r}")
    score = task.score(np.asarray(outputs)[labelled], labels)
    low, high = task.interval(score, len(labelled))
    return (
        f"{task.metric} {100 * score:.2f}% of {len(labelled):,} labelled texts "
        f"(95% interval {100 * low:.2f} to {100 * high:.2f})"
    )
