"""A sheet of test texts to label by hand, and what teacher and student score on it."""

import csv
import io
from pathlib import Path

import numpy as np

from kdedge.bench.report.model import HandLabels, OnSheet
from kdedge.errors import KdedgeError
from kdedge.files import write_text
from kdedge.students.trained import Student
from kdedge.tasks import MultiLabel, format_metric, wilson_interval
from kdedge.text.pairs import TEXT_COLUMNS, Pair, Text, parts_of
from kdedge.text.readers import LabelForm, iter_rows
from kdedge.text.rules import same_text

SHEET = "sheet.csv"


def write_sheet(student: Student, path: Path, count: int, seed: int) -> int:
    """Write a CSV file of test texts with an empty column for the label; returns how many.

    The texts are drawn at random, so that the score on them estimates the score on texts like those
    of the test split, and its interval is right. The models' answers are not in the file, so that
    they don't influence the person who labels. With several labels per text, there is a column for
    each label, for 0 or 1.

    Args:
        student: the student, for its test split.
        path: path of the file.
        count: number of texts; all of the test split if there are fewer.
        seed: seed of the draw.

    Raises:
        KdedgeError: the file exists.
    """
    if path.exists():
        raise KdedgeError(f"{path} exists already, and may have labels. Remove it or move it.")
    texts = student.test.texts
    places = np.random.default_rng(seed).permutation(len(texts))[:count]
    chosen = [texts[place] for place in places]
    names = _form(student).needed
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow((*TEXT_COLUMNS[: len(parts_of(chosen[0]))], *names))
    for text in chosen:
        writer.writerow((*parts_of(text), *[""] * len(names)))
    write_text(path, buffer.getvalue())
    return len(chosen)


def read_sheet(student: Student, path: Path) -> HandLabels:
    """Score teacher and student on the texts of a sheet that have a label.

    Args:
        student: the student, with its answers and its teacher's on the test split.
        path: path of the sheet, in which some or all labels are filled in.

    Raises:
        KdedgeError: the file can't be read, or a label is not one of the task's.
    """
    task, test, form = student.task, student.test, _form(student)
    places = {same_text(text): place for place, text in enumerate(test.texts)}
    rows = list(iter_rows(path, tell=lambda _: None))
    columns = (*TEXT_COLUMNS[: len(parts_of(test.texts[0]))], *form.needed)
    if missing := {*columns} - rows[0].fields.keys():
        raise KdedgeError(
            f"{path}: no column {', '.join(sorted(missing))}. `kdedge sheet` writes the columns "
            f"{', '.join(columns)}; only the labels are to be filled in."
        )
    given = {}
    foreign = 0
    for row in rows:
        place = places.get(same_text(_text(row.fields)))
        value, where = form.of(row)
        # A blank after a label is soon typed.
        label = task.parse(value.strip() if isinstance(value, str) else value, where)
        foreign += place is None
        if place is not None and label is not None:
            given[place] = label
    agreement = None
    known = [*given]
    labels = task.numbers([*given.values()], f"{path}: {form}") if given else None
    models = []
    logits = {"teacher": test.teacher_logits, "student": test.logits}
    tasks = {"teacher": student.teacher_task, "student": task}
    outputs = {name: tasks[name].outputs(own) for name, own in logits.items() if own is not None}
    for name, own in outputs.items():
        if labels is not None:
            score = tasks[name].score(own[known], labels)
            interval = tasks[name].interval(own[known], labels)
            models.append(OnSheet(name=name, score=score, interval=interval))
    if "teacher" in outputs:
        agreement = task.agreement(outputs["student"], outputs["teacher"], tasks["teacher"])
    return HandLabels(
        texts=len(rows),
        labelled=len(given),
        foreign=foreign,
        metric=task.metric,
        models=tuple(models),
        test_texts=len(test.texts),
        agreement=agreement,
        agreement_interval=None
        if agreement is None
        else wilson_interval(agreement, len(test.texts)),
    )


def lines(sheet: HandLabels) -> list[str]:
    """The scores as lines for a terminal."""
    sheet_lines = [f"{sheet.labelled} of {sheet.texts} texts are labelled by hand."]
    if sheet.foreign:
        sheet_lines.append(
            f"{sheet.foreign} texts are not in the test split and are left out: was the sheet "
            "made before the splits changed?"
        )
    for model in sheet.models:
        low, high = (format_metric(sheet.metric, end, 1) for end in model.interval)
        score = format_metric(sheet.metric, model.score, 1)
        sheet_lines.append(f"{model.name}: {sheet.metric} {score}, 95% interval {low} to {high}")
    if sheet.agreement is not None and sheet.agreement_interval is not None:
        low, high = (f"{end:.1%}" for end in sheet.agreement_interval)
        sheet_lines.append(
            f"teacher and student agree on {sheet.agreement:.1%} of {sheet.test_texts} test "
            f"texts, 95% interval {low} to {high}"
        )
    return sheet_lines


def _form(student: Student) -> LabelForm:
    task = student.task
    return LabelForm(columns=task.output_names) if isinstance(task, MultiLabel) else LabelForm()


def _text(fields: dict[str, object]) -> Text:
    parts = [str(fields[name]) for name in TEXT_COLUMNS if name in fields]
    return Pair(*parts) if len(parts) == 2 else "".join(parts)
