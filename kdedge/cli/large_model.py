"""The commands that ask a large model: label --large-model, and prompts."""

from pathlib import Path
from typing import Annotated

import typer

from kdedge.cli.common import say, texts_of
from kdedge.cli.settings import Options, settings_as_options
from kdedge.errors import KdedgeError
from kdedge.recipe import Data, LargeModel
from kdedge.text.readers import LabelForm

OPTIONS = Options(
    main=("url", "model", "prompt", "way", "max_requests", "max_tokens", "max_cost"),
    required="--large-model",
)
Asked = Annotated[LargeModel | None, OPTIONS]


def label_by_large_model(
    data: Data,
    settings: LargeModel,
    out: Path,
    tokenizer: str | None,
    max_length: int,
    dry_run: bool,
) -> None:
    """`kdedge label` with a large model; see there."""
    from kdedge.files import locked
    from kdedge.teachers.checkpoints import find_pretrained
    from kdedge.teachers.large_model.label import estimate, label_by_prompts
    from kdedge.text.encoder import TextEncoder
    from kdedge.text.vocabulary import wordpiece_of

    texts = texts_of(data)
    if dry_run:
        for way, spent in estimate(settings, texts, out).items():
            say(f"way {way}: about {spent.line(settings)}.")
        return
    if tokenizer is None:
        encoder = wordpiece_of(texts, max_length)
    else:
        encoder = TextEncoder.from_pretrained(find_pretrained(tokenizer, weights=False), max_length)
    with locked(out):
        store = label_by_prompts(settings, texts, out, encoder, say)
    say(f"{out}: soft labels of {len(store)} texts.")


@settings_as_options
def prompts(
    data: Annotated[
        Data,
        Options(
            main=("text", "label"),
            only=("path", "text", "label", "encoding", "delimiter", "quoting", "empty_texts"),
            help={"path": "a handful of labelled texts: .csv, .tsv, .jsonl or .parquet"},
        ),
    ],
    large_model: Asked,
    out: Annotated[Path, typer.Option("--out", help="folder for the answers and prompts.json")],
) -> None:
    """Score prompts for a large model on labelled texts, and say which one is best.

    Each --prompt is asked about each text. Answers are kept: the same command continues, and with
    one more prompt asks only that one.
    """
    if large_model is None:
        raise KdedgeError("--large-model URL is needed.")
    from kdedge.files import locked
    from kdedge.teachers.large_model.scores import score_prompts, table

    found = texts_of(data).with_labels(LabelForm(data.label))
    labelled = [(text, where, label) for text, (label, where) in found if isinstance(text, str)]
    with locked(out):
        scores = score_prompts(large_model, labelled, out, say)
    typer.echo(table(scores))
