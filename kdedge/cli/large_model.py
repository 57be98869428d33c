"""The commands for a large model: label --large-model, prompts, generate, rewrite, sheet."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdedge.cli.common import Seed, load_tensorflow, say, texts_of
from kdedge.cli.settings import Options, settings_as_options
from kdedge.errors import KdedgeError
from kdedge.recipe import Data, LargeModel
from kdedge.text.readers import LabelForm

if TYPE_CHECKING:
    from kdedge.students.trained import Student
    from kdedge.text.corpus import Corpus

OPTIONS = Options(
    main=("url", "model", "prompt", "way", "max_requests", "max_tokens", "max_cost"),
    without=("scores",),
    required="--large-model",
)
Asked = Annotated[LargeModel | None, OPTIONS]
PROMPT_OPTIONS = replace(
    OPTIONS,
    help={
        "url": "required: URL of a server with the OpenAI protocol",
        "prompt": "TOML file that describes the task; can be repeated, to compare prompts",
    },
)
RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="TOML file with teach.large_model")
]
TextsFile = Annotated[Path, typer.Option("--out", help=".jsonl file of the texts to make")]
Temperature = Annotated[
    float, typer.Option("--temperature", min=0, max=2, help="higher gives more varied texts")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only estimate the cost")]


def label_by_large_model(
    data: Data,
    settings: LargeModel,
    out: Path,
    tokenizer: str | None,
    max_length: int,
    dry_run: bool,
) -> None:
    """Run `kdedge label` with a large model."""
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
    texts.tell_empty()
    say(f"{out}: soft labels of {len(store)} texts.")


@settings_as_options
def prompts(
    data: Annotated[
        Data,
        Options(
            main=("text", "label"),
            only=(
                "path",
                "text",
                "text_pair",
                "label",
                "encoding",
                "delimiter",
                "quoting",
                "empty_texts",
            ),
            help={
                "path": "a handful of labelled texts: .csv, .tsv, .jsonl, .json, .parquet or "
                ".txt, also .gz"
            },
        ),
    ],
    large_model: Annotated[LargeModel | None, PROMPT_OPTIONS],
    out: Annotated[Path, typer.Option("--out", help="folder for the answers and prompts.json")],
) -> None:
    """Score prompts for a large model on labelled texts, and show the best one.

    The model answers each --prompt for each text. Answers are stored: the same command continues a
    run that was stopped, and with one more prompt it asks only that one.
    """
    if large_model is None:
        raise KdedgeError("--large-model URL is needed.")
    from kdedge.files import locked
    from kdedge.teachers.large_model.scores import score_prompts, table

    found = texts_of(data).with_labels(LabelForm(data.label))
    labelled = [(text, where, label) for text, (label, where) in found]
    with locked(out):
        scores = score_prompts(large_model, labelled, out, say)
    typer.echo(table(scores))


def generate(
    recipe: RecipeFile,
    out: TextsFile,
    per_label: Annotated[
        int, typer.Option("--per-label", min=1, help="number of new texts of each label")
    ] = 50,
    at_once: Annotated[
        int, typer.Option("--at-once", min=1, max=50, help="new texts in each request")
    ] = 10,
    examples: Annotated[
        int, typer.Option("--examples", min=0, help="training texts that a request shows")
    ] = 5,
    temperature: Temperature = 1.0,
    dry_run: DryRun = False,
) -> None:
    """Let a large model write more texts, for data.unlabelled of a recipe.

    The limits in teach.large_model hold. Copies and near copies of the data's texts are left out.
    The same command continues a run that was stopped.
    """
    from kdedge.files import locked
    from kdedge.teachers.large_model.generate import (
        Generation,
        estimate_generation,
        generate_texts,
    )

    settings, corpus, seed = _settings_and_corpus(recipe, out)
    how = Generation(per_label, at_once, examples, temperature, seed)
    if dry_run:
        say(f"About {estimate_generation(settings, corpus, how, out).line(settings)}.")
        return
    with locked(out):
        count = generate_texts(settings, corpus, how, out, say)
    if count:
        say(f'{out}: {count} texts. Name it in [data]: unlabelled = "{out}".')


def rewrite(
    recipe: RecipeFile,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run of this recipe")],
    out: TextsFile,
    per_label: Annotated[
        int, typer.Option("--per-label", min=1, help="training texts of each label to rewrite")
    ] = 20,
    at_once: Annotated[
        int, typer.Option("--at-once", min=1, max=50, help="new texts for each of them")
    ] = 3,
    temperature: Temperature = 1.0,
    dry_run: DryRun = False,
) -> None:
    """Let a large model rewrite training texts so that the student gets them wrong.

    The large model labels the new texts too. Those to which the student gives another answer are
    written, for data.unlabelled of the recipe. The limits in teach.large_model hold. The same
    command continues a run that was stopped.
    """
    settings, corpus, _ = _settings_and_corpus(recipe, out)
    student = _student_of(run)
    from kdedge.files import locked
    from kdedge.labels.store import SoftLabels
    from kdedge.students.trained import predict_logits
    from kdedge.teachers.large_model.label import ANSWERS
    from kdedge.teachers.large_model.rewrite import (
        Rewriting,
        Trained,
        estimate_rewriting,
        rewrite_texts,
    )

    trained = Trained(
        SoftLabels(run / "soft_labels"),
        lambda texts: student.task.outputs(predict_logits(student.model, student.encoder, texts)),
        run / ANSWERS,
    )
    how = Rewriting(per_label, at_once, temperature)
    if dry_run:
        say(f"About {estimate_rewriting(settings, corpus, trained, how, out).line(settings)}.")
        return
    with locked(run), locked(out):
        count = rewrite_texts(settings, corpus, trained, how, out, say)
    if count:
        say(f'{out}: {count} texts. Name it in [data]: unlabelled = "{out}".')


def sheet(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run of a recipe")],
    count: Annotated[int, typer.Option("--count", min=1, help="number of texts")] = 100,
    seed: Seed = 0,
) -> None:
    """Write test texts to label by hand into RUN/sheet.csv.

    Fill in labels, as many as you like, and run the recipe again: the report then has the accuracy
    of teacher and student on these texts.
    """
    student = _student_of(run)
    from kdedge.bench.report.sheet import SHEET, write_sheet

    written = write_sheet(student, run / SHEET, count, seed)
    names = ", ".join(student.task.output_names)
    say(f"{run / SHEET}: {written} texts to label: {names}. Then run the recipe again.")


def _settings_and_corpus(recipe: Path, out: Path) -> tuple[LargeModel, "Corpus", int]:
    """The large model, the corpus and the seed of a recipe, for commands that write texts.

    Raises:
        KdedgeError: the recipe has no large model, the data is wrong, or `out` is no .jsonl file.
    """
    from kdedge.check import corpus_of
    from kdedge.recipe import load_recipe

    loaded = load_recipe(recipe)
    settings = loaded.teach.large_model
    if settings is None:
        raise KdedgeError(f"{recipe}: no [teach.large_model]. Add it, with url, model and prompt.")
    if out.suffix != ".jsonl":
        raise KdedgeError(f"--out: {out}. A name that ends with .jsonl is needed.")
    # The recipe may already name the file that this command writes.
    data = loaded.data.model_copy(update={"unlabelled": None})
    return settings, corpus_of(loaded.model_copy(update={"data": data}), say), loaded.seed


def _student_of(run: Path) -> "Student":
    """The student of a run.

    Raises:
        KdedgeError: there is none.
    """
    trained = next((run / n for n in ("compressed", "student") if (run / n).is_dir()), None)
    if trained is None:
        raise KdedgeError(f"{run}: no student there. Name a folder that `kdedge run` wrote.")
    load_tensorflow()
    from kdedge.students.trained import Student

    return Student.load(trained)
