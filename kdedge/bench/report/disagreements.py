"""Finds test texts to which teacher and student give different answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from kdedge.bench.report.page import Disagreement
from kdedge.explain import explain
from kdedge.students.trained import Student
from kdedge.teachers.bert import load_teacher
from kdedge.text.pairs import parts_of

SHOWN = 12


def disagreements_of(student: Student, teacher: Path | None) -> list[Disagreement]:
    """The disagreements in which both models are most confident, with attributions.

    Args:
        student: a student; without its teacher's logits on the test texts, the list is empty.
        teacher: the teacher's folder; None leaves out the attributions.
    """
    found = _surest(student)
    if not found or teacher is None:
        return found
    texts = [d.text for d in found]
    model = load_teacher(teacher)
    by_teacher = explain(model, model.encoder, texts, task=student.teacher_task)
    by_student = explain(student.model, student.encoder, texts, task=student.task)
    return [
        replace(d, teacher_tokens=of_teacher, student_tokens=of_student)
        for d, of_teacher, of_student in zip(found, by_teacher, by_student, strict=True)
    ]


def _surest(student: Student) -> list[Disagreement]:
    task, own, e = student.task, student.teacher_task, student.test
    if e.teacher_logits is None:
        return []
    teacher, student_outputs = own.outputs(e.teacher_logits), task.outputs(e.logits)
    differ = np.flatnonzero(~task.same(student_outputs, teacher, own))
    of_teacher, of_student = own.confidence(teacher), task.confidence(student_outputs)
    apart = task.difference(teacher, student_outputs)[differ]
    surest_first = differ[np.argsort(-apart, kind="stable")]
    return [
        Disagreement(
            text=" | ".join(parts_of(e.texts[i])),
            label=task.label_of(e.labels[i]),
            teacher=own.answer(teacher[i].tolist()).text(),
            teacher_confidence=_known(of_teacher[i]),
            student=task.answer(student_outputs[i].tolist()).text(),
            student_confidence=_known(of_student[i]),
        )
        for i in surest_first[:SHOWN]
    ]


def _known(confidence: float) -> float | None:
    return None if np.isnan(confidence) else float(confidence)
