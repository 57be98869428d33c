"""Converts a fine-tuned BERT-family checkpoint, without distillation, to a bundle.

    python -m converters.from_huggingface CHECKPOINT --data texts.csv --out bundle

For apps when there is no time to distil, and as a baseline for a student.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from kdedge import (
    KdedgeError,
    Subject,
    export_bundle,
    load_corpus,
    load_teacher,
    subject_of_classifier,
)
from kdedge.errors import errors_as_lines
from kdedge.recipe import Export, settings_of


def to_subject(
    checkpoint: str,
    data: Path,
    split: str | None,
    max_length: int,
    label_delimiter: str | None = None,
    text_pair: str | None = None,
) -> Subject:
    """The checkpoint, with its logits on the valid and test texts.

    Raises:
        KdedgeError: no such checkpoint, one without a head, or one with other labels than the data.
    """
    model = load_teacher(checkpoint, max_length=max_length)
    task = model.task
    corpus = load_corpus(
        data,
        text_pair=text_pair,
        task=task.name,
        label_delimiter=label_delimiter,
        split=split,
    )
    if {*task.output_names} != {*corpus.task.output_names}:
        raise KdedgeError(
            f"{checkpoint}: its labels are {task}, the data's are {corpus.task}. Name them alike "
            "in the checkpoint's config.json, id2label, or in the data."
        )
    # Checkpoint and corpus may have the labels in different orders.
    train, valid, test = (
        replace(part, labels=task.numbers([corpus.task.parsed(i) for i in part.labels], "data"))
        for part in (corpus.train, corpus.valid, corpus.test)
    )
    corpus = replace(corpus, task=task, train=train, valid=valid, test=test)
    return subject_of_classifier(Path(checkpoint).name, model, model.encoder, corpus)


@errors_as_lines()
def main(
    checkpoint: Annotated[str, typer.Argument(help="folder or hub id, fine-tuned, with its head")],
    data: Annotated[Path, typer.Option(help="labelled texts to check it with")],
    out: Annotated[Path, typer.Option(help="the bundle to make")],
    split: Annotated[str | None, typer.Option(help="column with train, valid, test")] = None,
    label_delimiter: Annotated[
        str | None, typer.Option(help="what is between the labels of a text, if it has several")
    ] = None,
    text_pair: Annotated[
        str | None, typer.Option(help="column of second texts, if labels are of two together")
    ] = None,
    length: Annotated[int, typer.Option(help="tokens that texts are truncated to")] = 64,
    artifacts: Annotated[
        str, typer.Option(help="separated by commas")
    ] = "litert-int8,onnx-float32",
    max_accuracy_drop: Annotated[float, typer.Option(help="points it may lose")] = 0.5,
) -> None:
    """Make a bundle of a fine-tuned BERT."""
    settings = settings_of(
        Export,
        artifacts=artifacts.split(","),
        lengths=[length],
        max_accuracy_drop=max_accuracy_drop,
    )
    manifest = export_bundle(
        to_subject(checkpoint, data, split, length, label_delimiter, text_pair), settings, out
    )
    for artifact in manifest.artifacts:
        typer.echo(f"{out}/{artifact.summary()}")


if __name__ == "__main__":
    typer.run(main)
