"""Runs the stages of a recipe in order, and skips those that are done."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from kdedge.bench.report.disagreements import disagreements_of
from kdedge.bench.report.model import BenchReport
from kdedge.bench.report.page import render_page
from kdedge.bench.report.quality import quality_of, quality_table
from kdedge.bench.report.sheet import SHEET, lines, read_sheet
from kdedge.bench.report.tables import terminal_table
from kdedge.bench.run import bench_bundles
from kdedge.bench.scenario import scenario
from kdedge.bundle.decision import Trust
from kdedge.bundle.manifest import read_manifest, trusts_of
from kdedge.check import (
    NO_END,
    check_decide,
    check_pretrained,
    check_teaching,
    corpus_of,
    full_teaching,
    in_and_out_of_scope,
    texts_out_of_scope,
)
from kdedge.compress.stage import compress_student
from kdedge.distill.plan import need_devices
from kdedge.distill.stage import distill_student
from kdedge.distill.terms import (
    ONNX_ONLY,
    check,
    check_logits_only,
    check_own_vocabulary,
    check_prompts,
    needs_teacher,
    settings_for_store,
)
from kdedge.distill.transfer_set import check_mixture, texts_to_label
from kdedge.errors import KdedgeError
from kdedge.export.stage import RefusedArtifactsError, export_bundle
from kdedge.export.subject import subject_of, subject_of_teacher
from kdedge.files import locked, write_text
from kdedge.labels.store import SoftLabels
from kdedge.progress import console
from kdedge.recipe import Recipe, Section, fingerprint
from kdedge.students.presets import find_preset
from kdedge.students.trained import Student
from kdedge.teach.baselines import read_baselines, write_baselines
from kdedge.teach.ready import write_teacher
from kdedge.teach.stage import finetune
from kdedge.teachers.bert import load_teacher, read_notes
from kdedge.teachers.checkpoints import content_of, find_pretrained, onnx_file, read_config
from kdedge.teachers.label import label_texts, token_vectors
from kdedge.teachers.large_model.label import ANSWERS, estimate, label_by_prompts
from kdedge.teachers.large_model.scores import read_scores
from kdedge.teachers.load import load_any_teacher
from kdedge.text.corpus import Corpus
from kdedge.text.decoding import tell_once
from kdedge.text.encoder import TextEncoder
from kdedge.text.pairs import Text, key_of
from kdedge.text.unlabelled import UNKNOWN_TEST, with_answers
from kdedge.text.vocabulary import student_encoder

# The file or folder that each stage writes into the run's folder.
RESULTS = {
    "teach": "teacher",
    "baselines": "baselines.json",
    "label": "soft_labels",
    "distill": "student",
    "compress": "compressed",
    "export": "bundle",
    "export teacher": "teacher_bundle",
    "bench": "results.json",
}
# What accuracy means if no test text has a label.
AGREEMENT = "accuracy is agreement with the large model"


def run(recipe: Recipe, out: Path) -> BenchReport:
    """Run a recipe in the folder `out`. Call it again to continue a run that was stopped.

    Writes teacher/, baselines.json, soft_labels/, student/, bundle/, teacher_bundle/, results.json,
    report.html, and compressed/ if the recipe has [compress].

    Raises:
        KdedgeError: the data or settings are invalid, or another run is working in `out`.
    """
    corpus, out_of_scope = _checked(recipe)
    with locked(out):
        out.mkdir(exist_ok=True)
        stages = _Stages(out, _first_key(recipe, corpus))
        teacher, baselines = None, None
        # A large model is not fine-tuned, and there are no labels to fit baselines on.
        if recipe.teach.large_model is None:
            teacher = stages.run("teach", partial(_teach, recipe, corpus))
            fit = partial(write_baselines, corpus, read_notes(teacher))
            baselines = stages.write_once("baselines", fit, "baselines")
        labels = stages.run("label", partial(_label, recipe, corpus, teacher), recipe.label)
        if teacher is None:
            store = SoftLabels(labels)
            corpus = with_answers(corpus, store.texts, store.lookup(store.texts)[0])
        student = stages.run(
            "distill", partial(_distill, recipe, corpus, teacher, labels), recipe.distill
        )
        if recipe.compress.methods:
            smaller = partial(_compress, recipe, student, labels)
            student = stages.run("compress", smaller, recipe.compress)
        else:
            stages.forget("compress")
        export = partial(_export, recipe, student, out_of_scope)
        keys = map(key_of, out_of_scope)
        bundle = stages.run("export", export, recipe.export, recipe.decide, *keys)
        bundles = [bundle]
        if teacher and onnx_file(teacher):
            console.print("export teacher: left out, it is an ONNX file already")
        elif teacher:
            export = partial(_export_teacher, recipe, corpus, teacher, labels)
            bundles.insert(0, stages.write_once("export teacher", export, "teacher"))
        bench = partial(_bench, recipe, corpus, teacher, bundles, baselines, student)
        results = stages.write_once("bench", bench, recipe.bench.tier)
        report = BenchReport.load(results)
        by_hand = _by_hand(student, out / SHEET)
        title = f"{recipe.name} ({AGREEMENT})" if _unlabelled_test(corpus) else recipe.name
        trusts, seconds = trusts_of(bundles), stages.seconds()
        page = _page(recipe, report, student, teacher, seconds, title, trusts, by_hand)
        write_text(out / "report.html", page)
    _show(report, corpus, out, by_hand)
    if refused := {*recipe.export.artifacts} - {
        one.name for one in read_manifest(bundle).artifacts
    }:
        console.print(
            f"{', '.join(sorted(refused))}: not in the bundle, because of the loss of "
            f"{corpus.task.metric}. Allow more: max_accuracy_drop in [export], or compare others: "
            "artifacts in [export].",
            markup=False,
        )
    console.print(f"{out / 'report.html'} has the whole report; the bundle is {bundle}.")
    return report


def _checked(recipe: Recipe) -> tuple[Corpus, tuple[Text, ...]]:
    """The corpus and the texts out of scope, after everything that can be checked before training.

    Raises:
        KdedgeError: the data or settings are invalid.
    """
    check_settings(recipe)
    corpus = corpus_of(recipe)
    check_teaching(corpus, recipe.teaching, recipe.data.labels, recipe.given_lengths)
    for finding in check_decide(corpus, recipe.decide, recipe.data.out_of_scope):
        raise KdedgeError(finding.line())
    out_of_scope = texts_out_of_scope(recipe.data)
    for finding in in_and_out_of_scope(corpus, out_of_scope):
        tell_once(finding.line())
    return corpus, out_of_scope


def _first_key(recipe: Recipe, corpus: Corpus) -> str:
    """The fingerprint of everything that the first stage depends on."""
    teaching = recipe.teaching
    # The path of a model can change although its files don't, and its files although the path
    # doesn't.
    if Path(teaching.source).exists():
        name = "teacher" if teaching.teacher else "pretrained"
        teaching = teaching.model_copy(update={name: content_of(teaching.source)})
    return fingerprint(teaching, corpus.fingerprint(), str(recipe.seed), str(recipe.data.labels))


def check_settings(recipe: Recipe) -> None:
    """Check that teacher, student and losses go together, without reading the data.

    Raises:
        KdedgeError: they don't.
    """
    settings, preset = recipe.distill, find_preset(recipe.distill.student)
    check(settings, preset)
    check_prompts(settings, recipe.data.task, recipe.data.text_pair is not None)
    need_devices(settings.devices)
    retrained = {*recipe.compress.methods} - {"vocabulary"}
    if settings.prompt == "task" and retrained:
        raise KdedgeError(
            f"compress.methods: {', '.join(sorted(retrained))}; a student with prompt = 'task' can "
            "only be compressed by vocabulary."
        )
    if recipe.teach.large_model:
        if preset.needs_teacher or needs_teacher(settings):
            raise KdedgeError(
                "teach.large_model: a large model only labels texts. In [distill], some students "
                f"(student is {settings.student!r}), adversaries and losses, hidden_weight and "
                "attention_weight need a teacher that runs beside the student. Leave them out."
            )
        return
    folder = find_pretrained(recipe.teach.source, weights=False)
    is_onnx = onnx_file(recipe.teach.source) is not None
    if not is_onnx:
        # Without a model_type, the names of the weights tell it later.
        preset.check_teacher(read_config(folder).get("model_type", "bert"))
    is_berts = TextEncoder.from_pretrained(folder, NO_END).is_berts
    check_mixture(recipe.label.mixture, has_words=is_berts and not is_onnx)
    if is_onnx:
        check_logits_only(settings, preset)
        if recipe.bench.quote_texts:
            raise KdedgeError(
                f"bench.quote_texts: it explains a teacher's answers, but {ONNX_ONLY}"
            )
    if not is_berts:
        check_own_vocabulary(settings, preset)


def _teach(recipe: Recipe, corpus: Corpus, out: Path) -> None:
    settings, names = recipe.teaching, recipe.data.labels
    if settings.teacher:
        write_teacher(corpus, settings, names, out)
    else:
        finetune(corpus, settings, out, recipe.seed, names)


def _label(recipe: Recipe, corpus: Corpus, teacher: Path | None, out: Path) -> None:
    if teacher is None:
        _ask(recipe, corpus, out)
        return
    model = load_any_teacher(teacher, task=corpus.task)
    texts = texts_to_label(model, corpus, recipe.label, recipe.seed)
    label_texts(model, texts, out, recipe.label.batch_size)


def _ask(recipe: Recipe, corpus: Corpus, out: Path) -> None:
    """Label with the large model, and store the tokenizer and token vectors of `pretrained`."""
    large_model, settings = recipe.teach.large_model, recipe.label
    assert large_model
    full = full_teaching(corpus, recipe.teaching)
    pretrained = load_teacher(full.pretrained, task=corpus.task, max_length=full.max_length)
    # Each text costs money: augmented texts only if the recipe says how many, and no random words.
    mixture = settings.mixture.model_copy(update={"words": settings.mixture.words or 0})
    changes = {"augmented": settings.augmented or 0, "mixture": mixture}
    settings = settings.model_copy(update=changes)
    texts = texts_to_label(pretrained, corpus, settings, recipe.seed)
    # Not in the store, which is removed if the recipe changes: the answers cost money.
    answers = out.with_name(ANSWERS)
    store = label_by_prompts(large_model, texts, out, answers=answers)
    if any(cost.requests for cost in estimate(large_model, texts, out, answers).values()):
        raise KdedgeError("stopped at a limit of [teach.large_model]; the same command continues.")
    students = student_encoder(pretrained.encoder, texts)
    store.keep(students, token_vectors(pretrained, students))


def _distill(recipe: Recipe, corpus: Corpus, teacher: Path | None, labels: Path, out: Path) -> None:
    store = SoftLabels(labels)
    settings = settings_for_store(store, recipe.distill)
    distill_student(corpus, store, store.encoder(), settings, out, recipe.seed, teacher)


def _compress(recipe: Recipe, student: Path, labels: Path, out: Path) -> None:
    loaded, store = Student.load(student), SoftLabels(labels)
    compress_student(loaded, store, recipe.compress, out, recipe.seed)


def _export(recipe: Recipe, student: Path, out_of_scope: tuple[Text, ...], out: Path) -> None:
    subject = replace(subject_of(Student.load(student)), out_of_scope=out_of_scope)
    try:
        export_bundle(subject, recipe.export, out, recipe.decide)
    except RefusedArtifactsError as error:
        console.print(str(error), markup=False)


def _export_teacher(recipe: Recipe, corpus: Corpus, teacher: Path, labels: Path, out: Path) -> None:
    subject = subject_of_teacher(load_teacher(teacher), corpus, SoftLabels(labels))
    # Only for comparison with the student, so at its length, and whatever accuracy it loses.
    longest = recipe.distill.max_length
    changes = {
        "artifacts": recipe.export.teacher_artifacts,
        "lengths": recipe.export.lengths or ((longest,) if longest else None),
        "max_accuracy_drop": 100.0,
    }
    export_bundle(subject, recipe.export.model_copy(update=changes), out)


def _bench(
    recipe: Recipe,
    corpus: Corpus,
    teacher: Path | None,
    bundles: list[Path],
    baselines: Path | None,
    student: Path,
    out: Path,
) -> None:
    """Measure bundles, and write the report with the quality of the models."""
    notes = read_notes(teacher) if teacher else {}
    report = bench_bundles(bundles, out.parent, scenario(recipe.bench.tier))
    _, findings = check_pretrained(corpus, full_teaching(corpus, recipe.teaching))
    beside = read_baselines(baselines) if baselines else []
    quality = quality_of(Student.load(student), corpus, notes, beside, findings)
    report.model_copy(update={"quality": quality}).save(out)


def _unlabelled_test(corpus: Corpus) -> bool:
    """Whether no test text has a label, so that accuracy is agreement with the large model."""
    return any(finding.kind == UNKNOWN_TEST for finding in corpus.findings)


def _by_hand(student: Path, sheet: Path) -> list[str]:
    """Lines with the student's score on texts that were labelled by hand; [] if there are none."""
    return lines(read_sheet(Student.load(student), sheet)) if sheet.is_file() else []


def _show(report: BenchReport, corpus: Corpus, out: Path, by_hand: list[str]) -> None:
    """Print the report's tables and verdicts."""
    terminal = Console(highlight=False)
    terminal.print(terminal_table(report))
    if report.quality:
        terminal.print(quality_table(report.quality))
        for line in report.quality.verdicts:
            terminal.print(line, markup=False)
    if _unlabelled_test(corpus):
        terminal.print(
            f"No test text has a label: {AGREEMENT}. `kdedge sheet {out}` writes texts to label."
        )
    for line in by_hand:
        terminal.print(line, markup=False)


def _page(
    recipe: Recipe,
    report: BenchReport,
    student: Path,
    teacher: Path | None,
    seconds: dict[str, float],
    title: str,
    trusts: dict[str, Trust],
    by_hand: list[str],
) -> str:
    loaded = Student.load(student)
    quoted = disagreements_of(loaded, teacher) if recipe.bench.quote_texts else None
    notes = {"teacher": read_notes(teacher)} if teacher else {}
    notes["student"] = loaded.notes
    asked = recipe.teach.large_model
    training = {model: of["history"] for model, of in notes.items() if of["history"]}
    return render_page(
        report,
        title=title,
        training=training,
        disagreements=quoted,
        stages=seconds,
        trusts=trusts,
        sheet=by_hand,
        prompts=read_scores(asked.scores) if asked and asked.scores else (),
    )


class _Stages:
    """Runs stages and stores which are done, by the fingerprint of everything they depend on.

    Args:
        out: the run's folder.
        key: fingerprint of what the first stage depends on.

    Raises:
        KdedgeError: `out` has files with the names of results that no run made.
    """

    def __init__(self, out: Path, key: str) -> None:
        self.out, self.path, self.key = out, out / "stages.json", key
        self.done = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self.asked_for: list[str] = []
        others = [r for name, r in RESULTS.items() if name not in self.done and (out / r).exists()]
        if others:
            raise KdedgeError(
                f"{out} has {', '.join(others)}, which kdedge run would replace and has not made. "
                "Name another folder: --out."
            )

    def run(self, name: str, work: Callable[[Path], object], *settings: str | Section) -> Path:
        """Run a stage that the later ones depend on; see `write_once`."""
        self.key = self._key(settings)
        return self.write_once(name, work)

    def write_once(
        self, name: str, work: Callable[[Path], object], *settings: str | Section
    ) -> Path:
        """Let `work` write the result into the run's folder if it is not there; return its path.

        Args:
            name: name of the stage.
            work: writes the result.
            settings: settings that the stage depends on, besides the stages before it.
        """
        key = self._key(settings)
        self.asked_for.append(name)
        path, entry = self.out / RESULTS[name], self.done.get(name, {})
        if entry.get("key") == key and "seconds" in entry and path.exists():
            console.print(f"{name}: done already, in {entry['seconds']:.0f} s")
            return path
        # The result of other settings is removed; a partial one of these settings is continued.
        if entry.get("key") != key:
            if path.exists():
                console.print(
                    f"{name}: data or settings have changed, so {path} is made anew", markup=False
                )
            _remove(path)
            self._note(name, {"key": key})
        elif path.exists() and name != "label":
            _remove(path)
        start = time.monotonic()
        console.print(f"{name} ...")
        work(path)
        seconds = time.monotonic() - start
        self._note(name, {"key": key, "seconds": seconds})
        console.print(f"{name}: {seconds:.0f} s")
        return path

    def forget(self, name: str) -> None:
        """Remove the result of a stage that the recipe no longer has."""
        if name in self.done:
            _remove(self.out / RESULTS[name])
            del self.done[name]
            self._write()

    def seconds(self) -> dict[str, float]:
        """How long each of the recipe's stages took."""
        return {name: self.done[name]["seconds"] for name in self.asked_for}

    def _key(self, settings: tuple[str | Section, ...]) -> str:
        return fingerprint(*settings, self.key) if settings else self.key

    def _note(self, name: str, entry: dict[str, object]) -> None:
        self.done[name] = entry
        self._write()

    def _write(self) -> None:
        write_text(self.path, json.dumps(self.done, indent=2) + "\n")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
