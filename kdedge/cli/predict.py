"""The command predict."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from kdedge.cli.common import LABELLED_FILE, Bundle, labels_of, say, texts_of
from kdedge.cli.settings import MORE, Options, settings_as_options
from kdedge.errors import KdedgeError
from kdedge.recipe import Data

if TYPE_CHECKING:
    from kdedge.runtime import CalibratedOutputs
    from kdedge.tasks import Labels, Task
    from kdedge.text.pairs import Text
    from kdedge.text.readers import LabelForm

# Texts may begin with a dash.
CONTEXT = {"ignore_unknown_options": True}
# Arguments that look like this are mistyped options, not texts.
OPTION = re.compile(r"--[a-z][a-z-]*(=|$)")
TEXT_FILE = re.compile(r"\.(txt|csv|tsv|jsonl?|parquet)(\.gz)?$")
LABELS = {"label", "label_delimiter", "label_columns"}


@settings_as_options
def predict(
    bundle: Bundle,
    data: Annotated[
        Data | None,
        Options(
            main=("path", "text", "label", "empty_texts"),
            only=LABELLED_FILE,
            without=("encoding",),
            required="--file",
            help={
                "path": ".txt with one text on each line, or a data file",
                "label": "column of the labels, to compute the score of the answers",
            },
            defaults={
                "label": "none",
                "empty_texts": "skip",
                "text_pair": "text_pair if the bundle takes pairs",
            },
        ),
    ],
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...")] = None,
    artifact: Annotated[
        str | None,
        typer.Option("--artifact", help="name of the model; default: the bundle's default"),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding",
            help="encoding of the file or of standard input, for instance utf-8 or cp1252; "
            "default: detected",
            rich_help_panel=MORE,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object for each text")
    ] = False,
) -> None:
    """Classify texts: the arguments, the texts of a file, or the lines of standard input.

    A bundle for pairs takes two arguments for each pair, or lines with a tab between the two texts.
    Empty lines of a file or of standard input are left out and counted.
    """
    from kdedge.runtime import load_bundle
    from kdedge.text.pairs import columns_of, in_one_line, parts_of

    _refuse_wrong_arguments(texts or [], data, encoding)
    classifier = load_bundle(bundle, artifact)
    manifest = classifier.manifest
    task, pairs = manifest.task, manifest.pairs
    if data:
        given = _of_file(data.model_copy(update={"encoding": encoding}), task, pairs)
    elif texts:
        given = GivenTexts(_pairs_of(texts) if pairs else [*texts])
    else:
        given = _of_standard_input(encoding, pairs)
    # Raises errors of labels before the answers, which may take long.
    known = _known(task, given) if given.labels else None
    calibrated = classifier.calibrated_outputs(given.texts)
    for text, answer in zip(given.texts, classifier.answers(calibrated), strict=True):
        if as_json:
            fields = {name: of[0] for name, of in columns_of([text]).items()}
            typer.echo(json.dumps({**fields, **answer.fields()}, ensure_ascii=False))
        else:
            typer.echo("\t".join([answer.line(), *map(in_one_line, parts_of(text))]))
    if n := given.empty:
        say("1 empty text was left out." if n == 1 else f"{n:,} empty texts were left out.")
    encoder = classifier.encoder
    longest = classifier.engine.length or encoder.max_length
    special = len(encoder.first) + (2 if pairs else 1) * len(encoder.last)
    if full := int((calibrated.lengths + special >= longest).sum()):
        say(
            f"{full:,} of {len(given.texts):,} texts have {longest} or more tokens; longer ones "
            f"are truncated to {longest}."
        )
    trust = manifest.artifact(artifact).trust
    if trust and trust.margin:
        of = trust.margin
        say(f"About {of.share:.0%} of the true scores are within {of.margin:.3g} of these.")
    if known:
        say(_score(task, calibrated, *known))


class GivenTexts(NamedTuple):
    """The texts of a call.

    Attributes:
        texts: the texts.
        labels: the label of each text and its place in the file, if a column of labels is named.
        form: the columns of the labels.
        empty: number of empty texts, which are left out.
    """

    texts: "list[Text]"
    labels: Sequence[tuple[Any, str]] = ()
    form: "LabelForm | None" = None
    empty: int = 0


def _refuse_wrong_arguments(texts: list[str], data: Data | None, encoding: str | None) -> None:
    for text in texts:
        if OPTION.match(text) and "--" not in sys.argv:
            raise KdedgeError(f"{text}: no such option. If it is a text, write -- before it.")
        if TEXT_FILE.search(text) and "--" not in sys.argv and Path(text).is_file():
            raise KdedgeError(f"{text}: a file. Write --file before it; if it is a text, --.")
    if texts and data:
        raise KdedgeError("--file: give either a file or texts, not both.")
    if texts and encoding:
        raise KdedgeError("--encoding: only for a file or standard input. Leave it out.")


def _of_file(data: Data, task: "Task", pairs: bool) -> GivenTexts:
    fields = data.model_fields_set
    if "empty_texts" not in fields:
        data = data.model_copy(update={"empty_texts": "skip"})
    if pairs and data.text_pair is None:
        data = data.model_copy(update={"text_pair": "text_pair"})
    files = texts_of(data)
    if not LABELS & fields:
        texts = list(files)
        return GivenTexts(texts, empty=files.empty_seen)
    form = labels_of(data, task)
    rows = list(files.with_labels(form))
    return GivenTexts([text for text, _ in rows], [of for _, of in rows], form, files.empty_seen)


def _of_standard_input(encoding: str | None, pairs: bool) -> GivenTexts:
    from kdedge.text.readers import split_lines

    if sys.stdin.isatty():
        say("Write a text on each line; Ctrl-D ends.")
    lines, empty = split_lines(sys.stdin.buffer.read(), "standard input", encoding)
    if not lines:
        raise KdedgeError("standard input: no texts. Write one on each line.")
    return GivenTexts([_pair_in(line) for line in lines] if pairs else [*lines], empty=empty)


def _pairs_of(texts: list[str]) -> "list[Text]":
    from kdedge.text.pairs import Pair

    if len(texts) % 2:
        raise KdedgeError(
            f"TEXT: {len(texts)} texts; this bundle takes pairs, so an even number is needed."
        )
    return [Pair(*texts[i : i + 2]) for i in range(0, len(texts), 2)]


def _pair_in(line: str) -> "Text":
    from kdedge.text.pairs import Pair

    texts = line.split("\t")
    if len(texts) != 2:
        raise KdedgeError(
            f"standard input: {line!r:.40} has {len(texts) - 1} tabs; one is needed, between two "
            "texts. Write a file with columns, for instance labels, as .tsv, and name it: --file."
        )
    return Pair(*texts)


def _known(task: "Task", given: GivenTexts) -> "tuple[list[int], Labels]":
    """The indices of the texts that have a label, and their labels."""
    parsed = [task.parse(value, where) for value, where in given.labels]
    labelled = [i for i, value in enumerate(parsed) if value is not None]
    if not labelled:
        raise KdedgeError(f"--label: {given.form} has no labels.")
    return labelled, task.numbers([parsed[i] for i in labelled], str(given.form))


def _score(
    task: "Task", calibrated: "CalibratedOutputs", labelled: list[int], labels: "Labels"
) -> str:
    import numpy as np

    # The score is of the labels that are printed: as outputs, 1 and 0 are on the right side of any
    # threshold.
    outputs = calibrated.predicted.astype(np.float32) if task.has_confidence else calibrated.outputs
    outputs, unsure = outputs[labelled], calibrated.unsure[labelled]
    line = _score_line(task, outputs, labels, "labelled texts")
    if unsure.any() and not unsure.all():
        line += "\n" + _score_line(task, outputs[~unsure], labels[~unsure], "that are not unsure")
    return line


def _score_line(task: "Task", outputs: Any, labels: Any, what: str) -> str:
    from kdedge.tasks import format_metric

    low, high = (
        format_metric(task.metric, bound).rstrip("%") for bound in task.interval(outputs, labels)
    )
    first, *others = (
        f"{name} {format_metric(name, v)}" for name, v in task.measures(outputs, labels).items()
    )
    return f"{first} of {len(labels):,} {what} (95% interval {low} to {high})" + "".join(
        f", {other}" for other in others
    )
