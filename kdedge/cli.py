"""The command line: a thin skin over the stages. Stages are imported where they are used, so that
`kdedge --help` is quick and `kdedge predict` needs no TensorFlow."""  # noqa: D205, D209

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kdedge.errors import KdedgeError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Distil a BERT text classifier into a small student, export it, prove it, measure it.",
)

DataFile = Annotated[
    Path, typer.Argument(metavar="DATA", help=".csv, .tsv, .jsonl or .parquet, also .gz")
]
Text = Annotated[str, typer.Option("--text", help="column of the texts")]
Label = Annotated[str, typer.Option("--label", help="column of the labels")]
Split = Annotated[str | None, typer.Option("--split", help="column that says train, valid or test")]
Seed = Annotated[int, typer.Option("--seed", min=0)]
Out = Annotated[Path, typer.Option("--out", help="folder to make")]


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="a recipe, TOML")],
    out: Annotated[
        Path | None, typer.Option("--out", help="folder of the run; default: runs/NAME")
    ] = None,
) -> None:
    """Do a recipe's whole job; run it again to go on where it stopped."""
    with told_as_a_line():
        from kdedge.recipe import load_recipe

        loaded = load_recipe(recipe)
        _train_extra()
        from kdedge.pipeline import run as run_recipe

        run_recipe(loaded, out or Path("runs") / loaded.name)


@app.command()
def teach(
    data: DataFile,
    pretrained: Annotated[
        str, typer.Option("--pretrained", help="folder, hub id or package:NAME/FOLDER of a BERT")
    ],
    out: Out,
    text: Text = "text",
    label: Label = "label",
    split: Split = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 2,
    max_length: Annotated[int, typer.Option("--max-length", min=3, help="tokens")] = 64,
    seed: Seed = 0,
) -> None:
    """Fine-tune a pretrained BERT on labelled texts."""
    with told_as_a_line():
        _train_extra()
        from kdedge.files import locked
        from kdedge.recipe import Teach
        from kdedge.teach.stage import finetune
        from kdedge.text.corpus import load_corpus

        corpus = load_corpus(data, text=text, label=label, split=split, seed=seed)
        settings = Teach(pretrained=pretrained, epochs=epochs, max_length=max_length)
        with locked(out):
            finetune(corpus, settings, out, seed)
        _say(f"{out}: the teacher.")


@app.command()
def label(
    texts: Annotated[
        Path,
        typer.Argument(
            metavar="TEXTS",
            help=".csv, .tsv, .jsonl, .parquet or .txt, also .gz; a folder of them, or a pattern "
            "in quotes: 'texts/*.parquet'",
        ),
    ],
    teacher: Annotated[Path, typer.Option("--teacher", help="the teacher's folder")],
    out: Annotated[Path, typer.Option("--out", help="store of soft labels, made or added to")],
    text: Text = "text",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 64,
    engine: Annotated[
        str, typer.Option("--engine", help="local, or ray: on several processes or machines")
    ] = "local",
    actors: Annotated[
        int | None, typer.Option("--actors", min=1, help="for ray: copies of the teacher; 1")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="for ray: of one that runs; default: one on this machine"),
    ] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            "--pattern",
            help="the teacher is a masked-language model and fills in a blank: "
            "'{text} It was [MASK].'; several are averaged",
        ),
    ] = None,
    verbalizer: Annotated[
        list[str] | None,
        typer.Option("--verbalizer", help="for a blank: LABEL=WORD, for each label: good=great"),
    ] = None,
    max_length: Annotated[
        int, typer.Option("--max-length", min=3, help="with --pattern: tokens of a text")
    ] = 64,
) -> None:
    """Have a teacher write soft labels of texts; those that are in the store are skipped."""
    with told_as_a_line():
        verbalizers: dict[str, list[str]] = {}
        for pair in verbalizer or ():
            name, equals, word = pair.partition("=")
            if not equals or not name or not word:
                raise KdedgeError(f"--verbalizer: {pair!r}. Write LABEL=WORD.")
            verbalizers.setdefault(name, []).append(word)
        if bool(pattern) != bool(verbalizers):
            raise KdedgeError("--pattern and --verbalizer: each needs the other.")
        if engine not in ("local", "ray"):
            raise KdedgeError(f"--engine: {engine!r}. Allowed: local, ray.")
        if engine != "ray" and (actors or address):
            raise KdedgeError("--actors and --address are for --engine ray.")
        _train_extra()
        from kdedge.files import locked
        from kdedge.teachers.bert import load_teacher
        from kdedge.teachers.label import label_texts
        from kdedge.teachers.prompted import load_prompted_teacher
        from kdedge.text.readers import TextFiles

        lines = TextFiles(texts, text)
        load = (
            partial(load_prompted_teacher, teacher, pattern, verbalizers, max_length=max_length)
            if pattern
            else partial(load_teacher, teacher)
        )
        with locked(out):
            if engine == "ray":
                from kdedge.teachers.on_ray import label_on_ray

                store = label_on_ray(load, lines, out, batch_size, actors or 1, address)
            else:
                store = label_texts(load(), lines, out, batch_size)
        _say(f"{out}: soft labels of {len(store)} texts.")


@app.command()
def average_labels(
    stores: Annotated[list[Path], typer.Argument(metavar="SOFT_LABELS_DIR...")],
    out: Annotated[Path, typer.Option("--out", help="store of soft labels to make")],
    weight: Annotated[
        list[float] | None, typer.Option("--weight", help="of each store in turn; default: 1")
    ] = None,
) -> None:
    """Make one store of several teachers' soft labels: the mean of their logits."""
    with told_as_a_line():
        _train_extra()
        from kdedge.labels.average import ensemble_soft_labels
        from kdedge.labels.store import SoftLabels

        made = ensemble_soft_labels([SoftLabels(store) for store in stores], out, weight)
        _say(f"{out}: soft labels of {len(made)} texts.")


@app.command()
def attack(
    data: DataFile,
    student: Annotated[Path, typer.Option("--student", help="the student's folder")],
    teacher: Annotated[Path, typer.Option("--teacher", help="the teacher's folder")],
    soft_labels: Annotated[
        Path, typer.Option("--soft-labels", help="store of soft labels, which is added to")
    ],
    text: Text = "text",
    label: Label = "label",
    split: Split = None,
    swaps: Annotated[int, typer.Option("--swaps", min=1, help="tokens of a text to change")] = 2,
    seed: Seed = 0,
) -> None:
    """Add training texts on which student and teacher part; distil again to learn from them."""
    with told_as_a_line():
        _train_extra()
        from kdedge.distill.adversaries.texts import adversarial_texts
        from kdedge.labels.store import SoftLabels
        from kdedge.students.trained import Student
        from kdedge.teachers.bert import load_teacher
        from kdedge.text.corpus import load_corpus

        corpus = load_corpus(data, text=text, label=label, split=split, seed=seed)
        attacked = Student.load(student)
        made, _ = adversarial_texts(
            attacked.model,
            attacked.encoder,
            load_teacher(teacher),
            corpus.train.texts,
            SoftLabels(soft_labels),
            swaps,
        )
        _say(f"{soft_labels}: {len(made)} texts more.")


@app.command()
def import_labels(
    rows: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help=".parquet or .jsonl, with text and logits or probabilities"
        ),
    ],
    labels: Annotated[
        str, typer.Option("--labels", help="the classes in the order of the numbers: bad,good")
    ],
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", help="folder, hub id or package:NAME/FOLDER of a BERT")
    ],
    out: Annotated[Path, typer.Option("--out", help="store of soft labels to make")],
    max_length: Annotated[int, typer.Option("--max-length", min=3, help="tokens")] = 64,
) -> None:
    """Take soft labels from another teacher: a PyTorch model, an LLM, any Keras classifier."""
    with told_as_a_line():
        _train_extra()
        from kdedge.labels.imported import import_soft_labels
        from kdedge.tasks import Classification
        from kdedge.teachers.bert import find_pretrained
        from kdedge.text.encoder import TextEncoder

        folder = find_pretrained(tokenizer, weights=False)
        encoder = TextEncoder.from_pretrained(folder, max_length)
        store = import_soft_labels(
            rows, out, Classification(label_names=labels.split(",")), encoder
        )
        _say(f"{out}: soft labels of {len(store)} texts.")


@app.command()
def distill(
    data: DataFile,
    soft_labels: Annotated[Path, typer.Option("--soft-labels", help="store of soft labels")],
    out: Out,
    student: Annotated[
        str, typer.Option("--student", help="nano, micro, mini or mini-cut")
    ] = "micro",
    text: Text = "text",
    label: Label = "label",
    split: Split = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 8,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", help="the teacher's folder, for mini-cut")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Train a student on soft labels."""
    with told_as_a_line():
        from kdedge.recipe import PRESETS

        if student not in PRESETS:
            raise KdedgeError(f"--student: {student!r}. Allowed: {', '.join(PRESETS)}.")
        _train_extra()
        from kdedge.distill.stage import distill_student
        from kdedge.files import locked
        from kdedge.labels.store import SoftLabels
        from kdedge.recipe import Distill
        from kdedge.text.corpus import load_corpus

        store = SoftLabels(soft_labels)
        corpus = load_corpus(data, text=text, label=label, split=split, seed=seed)
        encoder = store.encoder()
        settings = Distill(
            student=student,
            epochs=epochs,
            max_length=encoder.max_length,
            from_teacher=student == "mini-cut" or store.token_vectors() is not None,
        )
        with locked(out):
            trained = distill_student(corpus, store, encoder, settings, out, seed, teacher)
        _say(f"{out}: accuracy {100 * trained.notes['accuracy']:.2f}% on the test split.")


@app.command()
def compress(
    student: Annotated[Path, typer.Argument(metavar="STUDENT_DIR")],
    soft_labels: Annotated[Path, typer.Option("--soft-labels", help="store of soft labels")],
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="vocabulary, pruning, clustering, pruning-clustering or quantization-aware",
        ),
    ],
    out: Out,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1)] = None,
    sparsity: Annotated[
        float | None,
        typer.Option("--sparsity", min=0.01, max=0.99, help="share of weights that become 0"),
    ] = None,
    clusters: Annotated[
        int | None,
        typer.Option("--clusters", min=3, max=256, help="distinct values of a layer's weights"),
    ] = None,
    min_count: Annotated[
        int | None,
        typer.Option("--min-count", min=1, help="times a word piece must occur to be kept"),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Make a student smaller or fit for int8, and fine-tune it on the soft labels."""
    with told_as_a_line():
        from kdedge.recipe import COMPRESSIONS, Compress

        if method not in COMPRESSIONS:
            raise KdedgeError(f"--method: {method!r}. Allowed: {', '.join(COMPRESSIONS)}.")
        if out.exists():
            raise KdedgeError(f"{out} exists already. Remove it or name another folder.")
        given = {
            "epochs": epochs, "sparsity": sparsity, "clusters": clusters, "min_count": min_count
        }  # fmt: skip
        settings = Compress.model_validate({k: v for k, v in given.items() if v is not None})
        _train_extra()
        from kdedge.compress.stage import compress as compress_student
        from kdedge.labels.store import SoftLabels
        from kdedge.students.trained import Student

        loaded, store = Student.load(student), SoftLabels(soft_labels)
        if store.task != loaded.task:
            raise KdedgeError(
                f"{soft_labels}: the soft labels are for {store.task}, the "
                f"student has {loaded.task}."
            )
        held_out = {*loaded.valid.texts, *loaded.test.texts}
        texts = [text for text in store.texts if text not in held_out]
        if not texts:
            raise KdedgeError(
                f"{soft_labels}: no texts but the student's own valid and test texts."
            )
        logits, _ = store.lookup(texts)
        smaller = compress_student(loaded, method, texts, logits, settings, seed)
        smaller.save(out)
        before, after = smaller.notes["compression"][-1]["accuracy"]
        _say(
            f"{out}: accuracy {100 * after:.2f}% on the test split, {100 * before:.2f}% before; "
            f"{smaller.notes['parameters'] / 1e6:.2f} M parameters."
        )


@app.command()
def export(
    student: Annotated[Path, typer.Argument(metavar="STUDENT_DIR")],
    out: Out,
    artifacts: Annotated[
        str | None,
        typer.Option("--artifacts", help="names, as litert-int8,onnx-float32; or all"),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option("--lengths", help="tokens of the LiteRT models, as 64 or 64,128"),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="texts for the ranges of activations; default: valid"),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option("--samples", help="texts for the bundle to be measured with; default: test"),
    ] = None,
    integer_output: Annotated[
        bool, typer.Option("--integer-output", help="integer probabilities where all is integer")
    ] = False,
    max_accuracy_drop: Annotated[
        float, typer.Option("--max-accuracy-drop", help="points an artifact may lose")
    ] = 0.5,
) -> None:
    """Convert a student to TFLite and ONNX and prove each file."""
    with told_as_a_line():
        _train_extra()
        from kdedge.export.stage import export_bundle
        from kdedge.export.subject import subject_of
        from kdedge.recipe import ARTIFACTS, export_settings
        from kdedge.students.trained import Student
        from kdedge.text.readers import read_texts

        subject = subject_of(Student.load(student))
        if calibration:
            subject = replace(subject, calibration=tuple(read_texts(calibration)))
        if samples:
            subject = replace(subject, samples=tuple(read_texts(samples)))
        names = [*ARTIFACTS] if artifacts == "all" else artifacts and artifacts.split(",")
        settings = export_settings(
            artifacts=names or None,
            lengths=lengths.split(",") if lengths else [subject.encoder.max_length],
            max_accuracy_drop=max_accuracy_drop,
            integer_output=integer_output,
        )
        export_bundle(subject, settings, out)
        _show(out)


@app.command()
def bench(
    bundles: Annotated[list[Path] | None, typer.Argument(metavar="BUNDLE_DIR...")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="folder of the report")] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            help="local, ssh://USER@HOST:PORT, adb://SERIAL or browser; may be given again; "
            "default: local",
        ),
    ] = None,
    tier: Annotated[
        str, typer.Option("--tier", help="how long: quick, light, standard or full")
    ] = "light",
    scenario: Annotated[
        str,
        typer.Option("--scenario", help="single-stream, cold-start, sustained or throughput"),
    ] = "single-stream",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="labelled texts, to find the accuracy with on the device"),
    ] = None,
    text: Text = "text",
    label: Label = "label",
    split: Split = None,
    threads: Annotated[str, typer.Option("--threads", help="as 1 or 1,2,4")] = "1",
    lengths: Annotated[
        str | None, typer.Option("--lengths", help="tokens, as 16,64; default: the artifact's own")
    ] = None,
    batches: Annotated[
        str | None, typer.Option("--batches", help="texts an inference, as 1,8,32")
    ] = None,
    setup: Annotated[
        bool, typer.Option("--setup", help="make a virtual environment on ssh:// devices if needed")
    ] = False,
    benchmark_model: Annotated[
        Path | None,
        typer.Option("--benchmark-model", help="TensorFlow Lite's program, for adb:// devices"),
    ] = None,
    app_package: Annotated[
        str | None,
        typer.Option("--app", help="org.kdedge.demo: android_demo, installed on adb:// devices"),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="print the table as Markdown")
    ] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--compare",
            metavar="OLD.json NEW.json",
            help="measure nothing; say what changed, and exit with 1 if anything got worse",
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, help="percent that --compare lets pass")
    ] = 5.0,
) -> None:
    """Measure bundles on devices, or compare two reports."""
    with told_as_a_line():
        if compare:
            if bundles:
                raise KdedgeError("--compare: measures nothing; give no bundles with it.")
            _compare(*compare, threshold / 100, markdown)
            return
        if report is None:
            raise KdedgeError("--report: none given. It names the folder to write to.")
        from kdedge.bench import scenario as scenarios
        from kdedge.bench.devices import devices_of

        devices = devices_of(
            *(device or ["local"]),
            setup=setup,
            benchmark_model=benchmark_model,
            app=app_package,
        )
        how_long = scenarios.scenario(tier, scenario)
        _train_extra()
        from rich.console import Console

        from kdedge.bench.report.page import render_page
        from kdedge.bench.report.tables import markdown_table, terminal_table
        from kdedge.bench.run import Grid, Labelled, bench_bundles
        from kdedge.files import write_text

        labelled = None
        if data:
            from kdedge.text.corpus import load_corpus

            corpus = load_corpus(data, text=text, label=label, split=split)
            # Without a column that says which texts are for testing, all are.
            parts = [corpus.test] if split else [corpus.train, corpus.valid, corpus.test]
            labelled = Labelled(
                tuple(text for part in parts for text in part.texts),
                tuple(corpus.task.label_of(label) for part in parts for label in part.labels),
            )
        grid = Grid(
            _counts("threads", threads),
            _counts("lengths", lengths),
            _counts("batches", batches),
        )
        result = bench_bundles(
            bundles or [], report, how_long, devices=devices, labelled=labelled, grid=grid
        )
        page = render_page(
            result, title="benchmark", training=None, disagreements=None, stages=None
        )
        write_text(report / "report.html", page)
        if markdown:
            typer.echo(markdown_table(result), nl=False)
        else:
            Console(highlight=False).print(terminal_table(result))


def _counts(option: str, given: str | None) -> tuple[int, ...]:
    """Of `1,2,4`; none of None."""
    try:
        counts = tuple(int(count) for count in given.split(",")) if given else ()
    except ValueError:
        counts = (0,)
    if any(count < 1 for count in counts) or len(set(counts)) < len(counts):
        raise KdedgeError(f"--{option}: {given!r}. Whole numbers above 0, each once: 1,2,4.")
    return counts


def _compare(old: Path, new: Path, threshold: float, markdown: bool) -> None:
    from rich.console import Console

    from kdedge.bench.report.compare import (
        compare,
        comparison_markdown,
        comparison_rows,
        comparison_table,
    )
    from kdedge.bench.report.model import BenchReport

    before, after = BenchReport.load(old), BenchReport.load(new)
    comparison = compare(before, after)
    rows = comparison_rows(comparison, before, after)
    if markdown:
        typer.echo(comparison_markdown(rows), nl=False)
    else:
        Console(highlight=False, width=160).print(comparison_table(rows))
    for doubt in comparison.doubts:
        _say(f"careful: {doubt}")
    regressions = comparison.regressions(threshold)
    for line in regressions:
        _say(f"worse: {line}")
    if regressions:
        raise typer.Exit(1)


@app.command()
def devices(
    urls: Annotated[
        list[str] | None,
        typer.Argument(metavar="URL...", help="default: what is found on and at this machine"),
    ] = None,
) -> None:
    """List devices that can be measured on, with CPU, memory and runtimes."""
    with told_as_a_line():
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        from kdedge.bench.devices import look_at, reachable

        table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for column in ("device", "CPU", "cores", "memory, MB", "runtimes"):
            table.add_column(column)
        failures = []
        for url in urls or reachable():
            try:
                facts = look_at(url)
            except KdedgeError as error:
                failures.append(f"{url}: {error}")
            else:
                table.add_row(url, *facts)
        Console(highlight=False, width=160).print(table)
        if failures:
            raise KdedgeError("\n  ".join(["These can't be measured on:", *failures]))


@app.command()
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
    with told_as_a_line():
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


@app.command()
def inspect(bundle: Annotated[Path, typer.Argument(metavar="BUNDLE_DIR")]) -> None:
    """Show what is in a bundle and check every file against its checksum."""
    with told_as_a_line():
        _show(bundle)


@app.command()
def sign(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE_DIR")],
    key: Annotated[Path, typer.Option("--key", help="private key for P-256, PEM")],
) -> None:
    """Sign a bundle, so that an app can take those of its owner alone."""
    with told_as_a_line():
        from kdedge.bundle.signing import sign_bundle

        _say(f"{sign_bundle(bundle, key)}: the signature.")


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE_DIR")],
    public_key: Annotated[Path, typer.Option("--public-key", help="of who must have signed, PEM")],
) -> None:
    """Check that a bundle is whole and signed by a key's owner."""
    with told_as_a_line():
        from kdedge.bundle.signing import verify_signature

        verify_signature(bundle, public_key)
        _say(f"{bundle}: all files are as signed by the owner of {public_key}.")


def _show(bundle: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from kdedge.bundle.manifest import opened
    from kdedge.bundle.manifest import verify as verify_bundle

    with opened(bundle) as folder:
        manifest = verify_bundle(folder)
    source = manifest.source
    table = Table(title=f"{bundle}: {source.name}, {source.parameters / 1e6:.2f} M parameters")
    score = f"{source.score.metric}, %"
    for column in ("artifact", "size, MB", score, "max |difference|", "agreement, %"):
        table.add_column(column, justify="left" if column == "artifact" else "right")
    table.add_row("(Keras)", "", f"{100 * source.score.value:.2f}", "", "")
    for a in manifest.artifacts:
        table.add_row(
            a.name,
            f"{a.bytes / 1e6:.2f}",
            f"{100 * a.score.value:.2f}",
            f"{a.parity.max_difference:.1e}",
            f"{100 * a.parity.agreement:.2f}",
        )
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(
        f"{manifest.task.name}: {manifest.task}; at most {manifest.max_length} tokens; "
        f"{source.score.texts} test texts; all {len(manifest.files)} files are as exported."
    )


@contextmanager
def told_as_a_line() -> Iterator[None]:
    """Print what a user can mend as one line, and exit with status 2."""
    try:
        yield
    except KdedgeError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        # A full disk, a folder that can't be written: what a user can mend as well.
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {where}{error.strerror}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on with what was done", err=True)
        raise typer.Exit(130) from None


def _train_extra() -> None:
    """Check that TensorFlow is installed, and keep its start-up messages away."""
    from importlib.util import find_spec

    if find_spec("tensorflow") is None or find_spec("transformers") is None:
        raise KdedgeError("TensorFlow is not installed: pip install 'kdedge[train]'")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
    import logging
    import warnings

    for name in ("tensorflow", "absl", "tf_keras", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="tf_keras|keras|tensorflow|transformers")
    # While it is loaded TensorFlow writes lines of its own, whatever the level of its logs.
    with _stderr_of_the_process_to(os.devnull):
        import tensorflow  # noqa: F401


@contextmanager
def _stderr_of_the_process_to(path: str) -> Iterator[None]:
    kept = os.dup(2)
    with Path(path).open("w") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _say(text: str) -> None:
    typer.echo(text, err=True)
