"""The command report drift."""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdedge.cli.common import Bundle, say
from kdedge.errors import KdedgeError

if TYPE_CHECKING:
    from kdedge.drift import Log
    from kdedge.runtime import TextModel

app = typer.Typer(
    no_args_is_help=True, help="Compare a bundle's answers in the field with those in its tests."
)


@app.callback()
def _group() -> None:
    """Without a callback, typer would make `report` itself the only command, without `drift`."""


@app.command()
def drift(
    bundle: Bundle,
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            help="file of texts, or of answers that `kdedge predict --json` printed",
        ),
    ],
    text: Annotated[str, typer.Option("--text", help="column of the texts")] = "text",
    artifact: Annotated[
        str | None,
        typer.Option("--artifact", help="name of the model; default: the bundle's default"),
    ] = None,
    label_next: Annotated[
        int | None,
        typer.Option("--label-next", min=1, help="how many texts to label next; needs --out"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="CSV file of the texts to label next")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON object")] = False,
) -> None:
    """Show whether texts are still like those of the test split, and which to label next."""
    if (label_next is None) != (out is None):
        raise KdedgeError("--label-next and --out: each needs the other.")
    if out and out.exists():
        raise KdedgeError(
            f"--out: {out} exists already, and may have labels. Remove it or name another file."
        )
    from kdedge.drift import drift_of
    from kdedge.runtime import load_bundle

    model = load_bundle(bundle, artifact)
    trust = model.manifest.artifact(artifact).trust
    if trust is None:
        raise KdedgeError(
            f"{bundle}: its manifest does not have statistics of the test texts. Export it again, "
            "with texts in the valid split."
        )
    if model.manifest.pairs:
        raise KdedgeError(f"{bundle}: kdedge report drift takes single texts only, not pairs.")
    field_log = _read(model, log, text)
    found = drift_of(trust.typical, field_log, model.manifest.task.output_names)
    if as_json:
        typer.echo(json.dumps(found.fields(), indent=2, ensure_ascii=False))
    else:
        for change in found.changes:
            typer.echo(f"{'changed' if change.changed else 'as before'}: {change.words}")
        typer.echo(f"{found.advice}: {found.texts:,} texts, {trust.typical.texts:,} test texts")
    if label_next and out:
        _write_next(field_log, trust.decision.max_unknown, label_next, out)


def _read(model: "TextModel", path: Path, text: str) -> "Log":
    from kdedge.drift import log_of_answers, log_of_texts
    from kdedge.text.pairs import single
    from kdedge.text.readers import TextFiles, iter_rows

    task = model.manifest.task
    if path.is_file() and path.name.lower().removesuffix(".gz").endswith((".json", ".jsonl")):
        first = next(iter_rows(path, tell=lambda _: None), None)
        if first and text not in first.fields and task.field in first.fields:
            return log_of_answers(path, task)
    files = TextFiles(path, text, empty="skip")
    field_log = log_of_texts(model, list(single(files, "kdedge report drift")))
    files.tell_empty()
    return field_log


def _write_next(log: "Log", max_unknown: float, count: int, out: Path) -> None:
    """Write the texts to label next, with an empty column for the label."""
    from kdedge.drift import next_to_label
    from kdedge.files import write_text

    chosen = next_to_label(log, max_unknown, count)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("text", "label", "answer", "probability"))
    if log.texts is not None and log.predicted is not None and log.confidence is not None:
        for i in chosen:
            probability = f"{log.confidence[i]:.4f}"
            writer.writerow((log.texts[i], "", log.predicted[i], probability))
    write_text(out, buffer.getvalue())
    say(f"{out}: {len(chosen):,} texts to label; the model is least sure of the first ones")
