"""Options and functions that several commands share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdedge.cli.settings import split_list
from kdedge.errors import KdedgeError
from kdedge.recipe import LARGEST_SEED, Data

if TYPE_CHECKING:
    from kdedge.tasks import Task
    from kdedge.text.readers import LabelForm, TextFiles

Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        max=LARGEST_SEED,
        metavar="INTEGER",
        help="seed of everything random (0 or more)",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="folder to make")]
Bundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="folder that `kdedge export` wrote, or its zip")
]
Store = Annotated[Path, typer.Option("--soft-labels", help="store of soft labels")]
# Fields of [data] for a file of labelled texts.
LABELLED_FILE = (
    "path", "text", "text_pair", "label", "label_delimiter", "label_columns", "encoding",
    "delimiter", "quoting", "empty_texts",
)  # fmt: skip
OutStore = Annotated[Path, typer.Option("--out", help="store of soft labels to make")]


Map = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="NAME=LABEL,...",
        help="the data's label for each class that the model calls something else, for instance "
        "LABEL_0=negative",
    ),
]


def names_of(pairs: str | None) -> dict[str, str]:
    """Parse `--map`: the data's label for each name of the model.

        >>> names_of('LABEL_0=negative,"good, or fair=positive"')
        {'LABEL_0': 'negative', 'good, or fair': 'positive'}

    Raises:
        KdedgeError: the option is not of the form NAME=LABEL,...
    """
    from kdedge.tasks.classification import refuse_control_characters

    names: dict[str, str] = {}
    for pair in filter(None, split_list("--map", pairs or "")):
        name, equals, label = (part.strip() for part in pair.partition("="))
        if not equals or not name or not label or name in names:
            raise KdedgeError(f"--map: {pair!r}. Write NAME=LABEL, each name once.")
        refuse_control_characters(label, "--map: a label")
        names[name] = label
    return names


def say(text: str) -> None:
    """Print a message to standard error."""
    typer.echo(text, err=True)


def texts_of(data: Data) -> "TextFiles":
    """The texts of the data's files."""
    from kdedge.text.readers import Format, TextFiles

    form = Format(data.encoding, data.delimiter, data.quoting)
    return TextFiles(data.path, data.text, form, data.empty_texts, data.text_pair)


def labels_of(data: Data, task: "Task") -> "LabelForm":
    """The columns of the data that have the labels of a bundle's task.

    Raises:
        KdedgeError: there are columns of 0 and 1, but not for each label; or the options are for
            several labels, and the task is not.
    """
    from kdedge.text.readers import LabelForm

    columns = data.label_columns
    if task.name != "multi-label" and (data.label_delimiter or columns):
        flag = "--label-columns" if columns else "--label-delimiter"
        raise KdedgeError(
            f"{flag}: only for several labels, and the bundle's task is {task.name}, with one "
            "answer for each text. Leave it out."
        )
    # Without its column, a label would count as wrong wherever it is predicted.
    if columns and (missing := [name for name in task.output_names if name not in columns]):
        raise KdedgeError(
            f"--label-columns: {', '.join(columns)}; none for {', '.join(missing)}. Name a column "
            "for each label of the bundle."
        )
    return LabelForm(data.label, data.label_delimiter, data.label_columns)


def load_tensorflow() -> None:
    """Import TensorFlow without its start-up messages.

    Raises:
        KdedgeError: it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("tensorflow") is None or find_spec("transformers") is None:
        raise KdedgeError("TensorFlow is not installed: pip install 'kdedge[train]'")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import logging
    import warnings

    for name in ("tensorflow", "absl", "tf_keras", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="tf_keras|keras|tensorflow|transformers")
    # TensorFlow writes some lines while it is imported, whatever its log level.
    with _stderr_of_the_process_to(os.devnull):
        from kdedge.keras_environment import set_up_keras

        set_up_keras()


@contextmanager
def _stderr_of_the_process_to(path: str) -> Iterator[None]:
    stderr_copy = os.dup(2)
    with Path(path).open("w") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr_copy, 2)
        os.close(stderr_copy)
