"""Runs a recipe's stages in order and skips what is done."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from kdedge.bench.report.model import BenchReport
from kdedge.bench.report.page import Disagreement, render_page
from kdedge.bench.report.tables import terminal_table
from kdedge.bench.run import bench_bundles
from kdedge.bench.scenario import scenario
from kdedge.compress.stage import compress_student
from kdedge.distill.stage import distill_student
from kdedge.distill.transfer_set import texts_to_label
from kdedge.explain import explain
from kdedge.export.stage import export_bundle
from kdedge.export.subject import Subject, subject_of
from kdedge.files import locked, write_text
from kdedge.labels.store import SoftLabels
from kdedge.progress import console
from kdedge.recipe import Data, Export, Recipe, fingerprint
from kdedge.students.trained import Evaluation, Student
from kdedge.teach.stage import finetune
from kdedge.teachers.bert import load_teacher, read_notes
from kdedge.teachers.label import label_texts
from kdedge.text.corpus import Corpus, load_corpus
from kdedge.text.splits import Split

DISAGREEMENTS_SHOWN = 12


def read_corpus(data: Data, seed: int) -> Corpus:
    """A recipe's corpus, cut to the sizes that it asks for."""
    corpus = load_corpus(
        data.path,
        text=data.text,
        label=data.label,
        split=data.split,
        id=data.id,
        unlabelled=data.unlabelled,
        valid_fraction=data.valid_fraction,
        test_fraction=data.test_fraction,
        seed=seed,
    )
    return corpus.subset(data.train_size, data.eval_size, seed)


def run(recipe: Recipe, out: Path) -> BenchReport:
    """Do the whole job in the folder `out`; the same call again goes on where it stopped.

    Leaves there teacher/, soft_labels/, student/, compressed/ if the recipe asks for it, bundle/,
    teacher_bundle/, results.json and report.html.

    Raises:
        KdedgeError: bad data or settings, or another run works in `out`.
    """
    corpus = read_corpus(recipe.data, recipe.seed)
    with locked(out):
        out.mkdir(exist_ok=True)
        stages = _Stages(out)
        teacher, labels, student = out / "teacher", out / "soft_labels", out / "student"
        bundle, teacher_bundle = out / "bundle", out / "teacher_bundle"
        key = fingerprint(recipe.teach, corpus.fingerprint(), str(recipe.seed))
        stages.run(
            "teach", key, teacher, lambda: finetune(corpus, recipe.teach, teacher, recipe.seed)
        )

        key = fingerprint(recipe.label, key)
        stages.run("label", key, labels, lambda: _label(recipe, corpus, teacher, labels))

        key = fingerprint(recipe.distill, key)
        stages.run("distill", key, student, lambda: _distill(recipe, corpus, labels, student))

        trained = student
        if recipe.compress.methods:
            trained = out / "compressed"
            key = fingerprint(recipe.compress, key)
            stages.run(
                "compress",
                key,
                trained,
                lambda: compress_student(
                    Student.load(student), SoftLabels(labels), recipe.compress, trained, recipe.seed
                ),
            )

        key = fingerprint(recipe.export, key)
        stages.run(
            "export",
            key,
            bundle,
            lambda: export_bundle(subject_of(Student.load(trained)), recipe.export, bundle),
        )
        stages.run(
            "export teacher",
            fingerprint("teacher", key),
            teacher_bundle,
            lambda: _export_teacher(recipe, corpus, teacher, labels, teacher_bundle),
        )
        results = out / "results.json"
        stages.run(
            "bench",
            fingerprint(recipe.bench.tier, key),
            results,
            lambda: bench_bundles([teacher_bundle, bundle], out, scenario(recipe.bench.tier)),
        )
        report = BenchReport.load(results)
        exported = Student.load(trained)
        page = render_page(
            report,
            title=recipe.name,
            training={
                "teacher": read_notes(teacher)["history"],
                "student": exported.notes["history"],
            },
            disagreements=_explained(_disagreements(exported), exported, teacher)
            if recipe.bench.quote_texts
            else None,
            stages=stages.seconds(),
        )
        write_text(out / "report.html", page)
    Console(highlight=False).print(terminal_table(report))
    console.print(f"{out / 'report.html'} has the whole report; the bundle is {bundle}.")
    return report


def _label(recipe: Recipe, corpus: Corpus, teacher: Path, labels: Path) -> None:
    model = load_teacher(teacher)
    texts = texts_to_label(model, corpus, recipe.label, recipe.seed)
    label_texts(model, texts, labels, recipe.label.batch_size)


def _distill(recipe: Recipe, corpus: Corpus, labels: Path, student: Path) -> None:
    store = SoftLabels(labels)
    needed = recipe.distill.student == "mini-cut" or recipe.distill.needs_teacher
    teacher = labels.parent / "teacher" if needed else None
    distill_student(corpus, store, store.encoder(), recipe.distill, student, recipe.seed, teacher)


def _export_teacher(
    recipe: Recipe, corpus: Corpus, teacher: Path, labels: Path, bundle: Path
) -> None:
    model = load_teacher(teacher)
    store = SoftLabels(labels)

    def said_of(split: Split) -> Evaluation:
        return Evaluation(split.texts, split.labels, store.lookup(split.texts)[0])

    subject = Subject(
        name="teacher",
        model=model,
        parameters=model.transformer.count_params(),
        encoder=model.encoder,
        task=model.task,
        valid=said_of(corpus.valid),
        test=said_of(corpus.test),
        variables=model.transformer,
    )
    # What the student is compared with; the teacher's own losses are no reason to stop.
    settings = Export(
        artifacts=recipe.export.teacher_artifacts,
        lengths=recipe.export.lengths,
        max_accuracy_drop=100,
    )
    export_bundle(subject, settings, bundle)


def _disagreements(student: Student) -> list[Disagreement]:
    task, e = student.task, student.test
    if e.teacher_logits is None:
        return []
    teacher, said = task.outputs(e.teacher_logits), task.outputs(e.logits)
    apart = np.flatnonzero(~task.same(teacher, said))
    by_teacher, by_student = task.confidence(teacher), task.confidence(said)
    surest_first = apart[np.argsort(-(by_teacher + by_student)[apart], kind="stable")]
    return [
        Disagreement(
            text=e.texts[i],
            label=task.label_of(e.labels[i]),
            teacher=task.answer(teacher[i]).text(),
            teacher_confidence=float(by_teacher[i]),
            student=task.answer(said[i]).text(),
            student_confidence=float(by_student[i]),
        )
        for i in surest_first[:DISAGREEMENTS_SHOWN]
    ]


def _explained(
    disagreements: list[Disagreement], student: Student, teacher: Path
) -> list[Disagreement]:
    """With the word pieces that made teacher and student decide."""
    if not disagreements:
        return []
    texts = [d.text for d in disagreements]
    model = load_teacher(teacher)
    by_teacher = explain(model, model.encoder, texts)
    by_student = explain(student.model, student.encoder, texts)
    return [
        replace(d, teacher_pieces=said, student_pieces=answered)
        for d, said, answered in zip(disagreements, by_teacher, by_student, strict=True)
    ]


class _Stages:
    """Which stages are done, by the fingerprint of everything that goes into them."""

    def __init__(self, out: Path) -> None:
        self.path = out / "stages.json"
        self.done = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self.asked_for: list[str] = []

    def run(self, name: str, key: str, result: Path, work: Callable[[], object]) -> None:
        self.asked_for.append(name)
        entry = self.done.get(name, {})
        if entry.get("key") == key and "seconds" in entry and result.exists():
            console.print(f"{name}: done already, in {entry['seconds']:.0f} s")
            return
        # A result of other settings goes; one of these settings is a part to go on with.
        if entry.get("key") != key:
            _remove(result)
            self._note(name, {"key": key})
        elif result.exists() and name != "label":
            _remove(result)
        start = time.monotonic()
        console.print(f"{name} ...")
        work()
        seconds = time.monotonic() - start
        self._note(name, {"key": key, "seconds": seconds})
        console.print(f"{name}: {seconds:.0f} s")

    def seconds(self) -> dict[str, float]:
        """How long each of the recipe's stages took."""
        return {name: self.done[name]["seconds"] for name in self.asked_for}

    def _note(self, name: str, entry: dict[str, object]) -> None:
        self.done[name] = entry
        write_text(self.path, json.dumps(self.done, indent=2) + "\n")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
