"""Test texts to which teacher and student give different answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from kdedge.bench.report.page import Disagreement
from kdedge.explain import explain
from kdedge.students.trained import Student
from kdedge.teachers.bert import load_teacher

SHOWN = 12


def disagreements_of(student: Student, teacher: Path) -> list[Disagreement]:
    """Those that both are surest of, with the word pieces that made them decide.

    Args:
        student: with its teacher's logits of the test texts; without them there are none.
        teacher: the teacher's folder.
    """
    found = _surest(student)
    if not found:
        return []
    texts = [d.text for d in found]
    model = load_teacher(teacher)
    by_teacher = explain(model, model.encoder, texts, task=student.task)
    by_student = explain(student.model, student.encoder, texts, task=student.task)
    return [
        replace(d, teacher_pieces=said, student_pieces=answered)
        for d, said, answered in zip(found, by_teacher, by_student, strict=True)
    ]


def _surest(student: Student) -> list[Disagreement]:
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
        for i in surest_first[:SHOWN]
    ]
