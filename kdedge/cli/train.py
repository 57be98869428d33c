"""The commands from texts to a student: run, teach, label, distill, compress and others."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdedge.cli.common import (
    Map,
    Out,
    OutStore,
    Seed,
    Store,
    load_tensorflow,
    names_of,
    say,
    texts_of,
)
from kdedge.cli.large_model import Asked, label_by_large_model
from kdedge.cli.settings import Options, settings_as_options, split_list
from kdedge.errors import KdedgeError
from kdedge.recipe import COMPRESSIONS, LARGEST_SEED, Compress, Data, Distill, Label, Teach

if TYPE_CHECKING:
    from kdedge.teachers.teacher import Teacher

TeacherDir = Annotated[Path, typer.Option("--teacher", help="the teacher's folder")]
# Fields of [data] that apply to texts without labels.
OF_TEXTS = {"path", "text", "text_pair", "encoding", "delimiter", "quoting", "empty_texts"}
# These commands use labelled texts only.
Labelled = Annotated[
    Data,
    Options(main=("text", "label", "split"), without=("unlabelled", "labels", "out_of_scope")),
]


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="TOML file of the recipe")],
    out: Annotated[
        Path | None, typer.Option("--out", help="folder of the run; default: runs/NAME")
    ] = None,
) -> None:
    """Run a recipe; run it again to continue a run that was stopped."""
    from kdedge.recipe import load_recipe

    loaded = load_recipe(recipe)
    load_tensorflow()
    from kdedge.pipeline import run as run_recipe

    run_recipe(loaded, out or Path("runs") / loaded.name)


@settings_as_options
def teach(
    data: Labelled,
    out: Out,
    settings: Annotated[
        Teach,
        Options(main=("pretrained", "epochs", "max_length"), without=("teacher", "large_model")),
    ],
    names: Map = None,
    seed: Seed = 0,
) -> None:
    """Fine-tune a pretrained BERT on labelled texts."""
    from kdedge.check import check_teaching, read_corpus

    corpus, labels = read_corpus(data, seed), names_of(names)
    check_teaching(corpus, settings, labels)
    load_tensorflow()
    from kdedge.files import locked
    from kdedge.teach.stage import finetune

    with locked(out):
        finetune(corpus, settings, out, seed, labels)
    say(f"{out}: teacher written.")


@settings_as_options
def label(
    data: Annotated[
        Data,
        Options(
            main=("text",),
            required="TEXTS",
            without=("labels", "out_of_scope"),
            help={
                "path": ".csv, .tsv, .jsonl, .json, .parquet or .txt, also .gz; a folder of such "
                "files, or a pattern in quotes: 'texts/*.parquet'. With --augmented: one file of "
                "labelled texts"
            },
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="store of soft labels to make or to add to")],
    settings: Annotated[
        Label, Options(main=("batch_size", "augmented"), defaults={"augmented": "0"})
    ],
    large_model: Asked,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            help="folder, hub id, package:NAME/FOLDER or .onnx file; needed without --large-model",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            help="with --large-model: folder, hub id or package:NAME/FOLDER of a BERT whose "
            "tokenizer students get; default: a vocabulary learned from the texts",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="with --large-model: only estimate the cost")
    ] = False,
    engine: Annotated[
        str, typer.Option("--engine", help="local, or ray for several processes or machines")
    ] = "local",
    actors: Annotated[
        int | None,
        typer.Option(
            "--actors", min=1, help="with --engine ray: copies of the teacher; default: 1"
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="with --engine ray: HOST:PORT of a running Ray; default: one on this machine",
        ),
    ] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            "--pattern",
            help="use a masked-language model that fills in a blank, without fine-tuning: "
            "'{text} It was \\[MASK].'; can be repeated, the answers are averaged",
        ),
    ] = None,
    verbalizer: Annotated[
        list[str] | None,
        typer.Option(
            "--verbalizer",
            help="with --pattern: LABEL=WORD for each label, for instance good=great",
        ),
    ] = None,
    max_length: Annotated[
        int,
        typer.Option(
            "--max-length",
            min=3,
            help="tokens that texts are truncated to; a teacher of kdedge has its own",
        ),
    ] = 64,
    names: Map = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            max=LARGEST_SEED,
            help="with --augmented: seed of the split and the augmented texts (0 or more); "
            "default: 0",
        ),
    ] = None,
) -> None:
    """Label texts with a teacher, and store the soft labels. Texts in the store are skipped.

    With --augmented it labels the same texts as `kdedge run`: those of the data, --unlabelled
    texts, and augmented texts.
    """
    if engine not in ("local", "ray"):
        raise KdedgeError(f"--engine: {engine!r}. Allowed: local, ray.")
    if engine != "ray" and (actors or address):
        raise KdedgeError("--actors and --address: only with --engine ray.")
    augmented = "augmented" in settings.model_fields_set and settings.augmented
    if augmented and engine == "ray":
        raise KdedgeError("--augmented: only with --engine local.")
    needless = (data.model_fields_set - OF_TEXTS) | (settings.model_fields_set & {"mixture"})
    if seed is not None:
        needless.add("seed")
    if needless and not augmented:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(needless))
        raise KdedgeError(f"{options}: only with --augmented.")
    if (teacher is None) == (large_model is None):
        raise KdedgeError("--teacher DIR or --large-model URL: one of them is needed.")
    if large_model is not None:
        others = {
            "--augmented": augmented,
            "--batch-size": "batch_size" in settings.model_fields_set,
            "--engine": engine == "ray",
            "--pattern": pattern,
            "--verbalizer": verbalizer,
            "--map": names,
        }
        if found := [option for option, given in others.items() if given]:
            raise KdedgeError(f"{', '.join(found)}: not with --large-model.")
        label_by_large_model(data, large_model, out, tokenizer, max_length, dry_run)
        return
    assert teacher
    if tokenizer or dry_run:
        raise KdedgeError("--tokenizer, --dry-run: only with --large-model.")
    if pattern and names:
        raise KdedgeError("--map: not with --pattern; --verbalizer names the labels.")
    load = _teacher_loader(teacher, pattern or [], verbalizer or [], max_length, names_of(names))
    from kdedge.files import locked
    from kdedge.teachers.label import label_texts

    with locked(out):
        if augmented:
            from kdedge.check import read_corpus
            from kdedge.distill.transfer_set import texts_to_label

            corpus = read_corpus(data, seed or 0)
            model = load() if pattern else load(corpus.task)
            texts = texts_to_label(model, corpus, settings, seed or 0)
            store = label_texts(model, texts, out, settings.batch_size)
        elif engine == "ray":
            from kdedge.teachers.on_ray import label_on_ray

            lines = texts_of(data)
            store = label_on_ray(load, lines, out, settings.batch_size, actors or 1, address)
        else:
            lines = texts_of(data)
            store = label_texts(load(), lines, out, settings.batch_size)
            lines.tell_empty()
    say(f"{out}: soft labels of {len(store)} texts.")


def _teacher_loader(
    source: str,
    patterns: list[str],
    verbalizer: list[str],
    max_length: int,
    names: dict[str, str],
) -> "Callable[..., Teacher]":
    """A function that loads the teacher, in any process, and takes the task as an option."""
    verbalizers: dict[str, list[str]] = {}
    for pair in verbalizer:
        name, equals, word = pair.partition("=")
        if not equals or not name or not word:
            raise KdedgeError(f"--verbalizer: {pair!r}. Write LABEL=WORD.")
        verbalizers.setdefault(name, []).append(word)
    if bool(patterns) != bool(verbalizers):
        raise KdedgeError("--pattern and --verbalizer: each needs the other.")
    load_tensorflow()
    from kdedge.teachers.load import load_in_order
    from kdedge.teachers.prompted import load_prompted_teacher

    if patterns:
        return partial(load_prompted_teacher, source, patterns, verbalizers, max_length=max_length)
    return partial(load_in_order, source, names=names, max_length=max_length)


def average_labels(
    stores: Annotated[list[Path], typer.Argument(metavar="SOFT_LABELS_DIR...")],
    out: OutStore,
    weight: Annotated[
        list[float] | None,
        typer.Option(
            "--weight", help="weight of each store, in their order; default: equal weights"
        ),
    ] = None,
) -> None:
    """Average the soft labels of several teachers, as the mean of their logits."""
    load_tensorflow()
    from kdedge.files import locked
    from kdedge.labels.average import ensemble_soft_labels
    from kdedge.labels.store import SoftLabels

    with locked(out):
        first, *others = (SoftLabels(store) for store in stores)
        stored = ensemble_soft_labels([first, *others], out, weight)
    for other in others:
        if more := len(other) - len(first):
            say(f"{other.folder}: {more:,} texts are left out, as {first.folder} lacks them.")
    say(f"{out}: soft labels of {len(stored)} texts.")


def import_labels(
    rows: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help=".parquet or .jsonl with text and either logits or probabilities; or score",
        ),
    ],
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", help="folder, hub id or package:NAME/FOLDER of a BERT")
    ],
    out: OutStore,
    labels: Annotated[
        str,
        typer.Option(
            "--labels",
            help="labels in the order of the logits, for instance bad,good; those with a comma in "
            "quotes; leave out for scores",
        ),
    ] = "",
    task: Annotated[
        str, typer.Option("--task", help="classification, multi-label or regression")
    ] = "classification",
    max_length: Annotated[
        int, typer.Option("--max-length", min=3, help="tokens that texts are truncated to")
    ] = 64,
) -> None:
    """Import the soft labels of another teacher: a PyTorch model, an LLM, any Keras classifier."""
    if labels and task == "regression":
        raise KdedgeError(f"--labels: {labels!r}; scores have none. Leave it out.")
    from kdedge.tasks.classification import refuse_control_characters

    names = split_list("--labels", labels)
    for name in names:
        refuse_control_characters(name, "--labels: a label")
    load_tensorflow()
    from kdedge.files import locked
    from kdedge.labels.imported import import_soft_labels
    from kdedge.tasks import task_of_names
    from kdedge.teachers.checkpoints import find_pretrained
    from kdedge.text.encoder import TextEncoder

    folder = find_pretrained(tokenizer, weights=False)
    encoder = TextEncoder.from_pretrained(folder, max_length)
    with locked(out):
        store = import_soft_labels(rows, out, task_of_names(task, names), encoder)
    say(f"{out}: soft labels of {len(store)} texts.")


@settings_as_options
def distill(
    data: Labelled,
    soft_labels: Store,
    out: Out,
    settings: Annotated[
        Distill,
        Options(
            main=("student", "epochs"),
            defaults={
                "from_teacher": "true if the store has token vectors",
                "max_length": "the length of the store",
            },
        ),
    ],
    teacher: Annotated[
        Path | None,
        typer.Option(
            "--teacher", help="the teacher's folder, for students and losses that need it"
        ),
    ] = None,
    names: Map = None,
    seed: Seed = 0,
) -> None:
    """Train a student on soft labels."""
    load_tensorflow()
    from kdedge.check import all_labelled, read_corpus, read_unlabelled
    from kdedge.distill.stage import distill_student
    from kdedge.distill.terms import check, settings_for_store
    from kdedge.distill.transfer_set import in_order_of_corpus
    from kdedge.files import locked
    from kdedge.labels.store import SoftLabels
    from kdedge.students.presets import find_preset
    from kdedge.text.unlabelled import with_answers

    check(settings, find_preset(settings.student))
    store = SoftLabels(soft_labels)
    # A large model labels texts that have no labels.
    if "way" in store.notes and not all_labelled(data):
        corpus = read_unlabelled(data, store.task, seed)
        corpus = with_answers(corpus, store.texts, store.lookup(store.texts)[0])
    else:
        corpus = read_corpus(data, seed)
    store = in_order_of_corpus(store, corpus, names_of(names))
    encoder = store.encoder()
    settings = settings_for_store(store, settings)
    with locked(out):
        trained = distill_student(corpus, store, encoder, settings, out, seed, teacher)
    from kdedge.tasks import format_metric

    metric = trained.task.metric
    say(f"{out}: {metric} {format_metric(metric, trained.notes[metric])} on the test split.")


@settings_as_options
def attack(
    data: Labelled,
    student: Annotated[Path, typer.Option("--student", help="the student's folder")],
    teacher: TeacherDir,
    soft_labels: Annotated[
        Path, typer.Option("--soft-labels", help="store of soft labels to add to")
    ],
    swaps: Annotated[int, typer.Option("--swaps", min=1, help="tokens of a text to change")] = 2,
    seed: Seed = 0,
) -> None:
    """Find texts on which student and teacher differ, for training: distil again afterwards."""
    load_tensorflow()
    from kdedge.check import read_corpus
    from kdedge.distill.adversaries.texts import adversarial_texts
    from kdedge.files import locked
    from kdedge.labels.store import SoftLabels
    from kdedge.students.trained import Student
    from kdedge.teachers.bert import load_teacher

    corpus = read_corpus(data, seed)
    attacked = Student.load(student)
    with locked(soft_labels):
        stored, _ = adversarial_texts(
            attacked.model,
            attacked.encoder,
            load_teacher(teacher),
            corpus.train.texts,
            SoftLabels(soft_labels),
            swaps,
        )
    say(f"{soft_labels}: {len(stored)} texts added.")


@settings_as_options
def compress(
    student: Annotated[Path, typer.Argument(metavar="STUDENT_DIR")],
    soft_labels: Store,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="vocabulary, pruning, clustering, pruning-clustering or quantization-aware",
        ),
    ],
    out: Out,
    settings: Annotated[
        Compress,
        Options(main=("epochs", "sparsity", "clusters", "min_count"), without=("methods",)),
    ],
    seed: Seed = 0,
) -> None:
    """Make a student smaller or robust against int8 quantization, and fine-tune it."""
    if method not in COMPRESSIONS:
        raise KdedgeError(f"--method: {method!r}. Allowed: {', '.join(COMPRESSIONS)}.")
    load_tensorflow()
    from kdedge.compress.stage import compress_student
    from kdedge.files import locked
    from kdedge.labels.store import SoftLabels
    from kdedge.students.trained import Student

    with locked(out):
        loaded, store = Student.load(student), SoftLabels(soft_labels)
        settings = settings.model_copy(update={"methods": (method,)})
        smaller = compress_student(loaded, store, settings, out, seed)
    from kdedge.tasks import format_metric

    metric = smaller.task.metric
    before, after = (format_metric(metric, v) for v in smaller.notes["compression"][-1][metric])
    say(
        f"{out}: {metric} {after} on the test split, {before} before; "
        f"{smaller.notes['parameters'] / 1e6:.2f} M parameters."
    )
