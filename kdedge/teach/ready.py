"""Uses a teacher that was fine-tuned elsewhere, by any program, without training it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdedge.check import full_teaching
from kdedge.errors import KdedgeError
from kdedge.files import new_folder, require_space
from kdedge.recipe import Teach
from kdedge.tasks import format_metric
from kdedge.teachers.bert import write_notes
from kdedge.teachers.checkpoints import find_pretrained, revision_of
from kdedge.teachers.classes import Counts, counts_of, order_of, swap_warning
from kdedge.teachers.label import run_teacher
from kdedge.teachers.load import AnyTeacher, load_any_teacher
from kdedge.text.corpus import Corpus
from kdedge.text.decoding import tell_once

# Number of texts of the valid split that the teacher is tried on before it labels.
TEXTS = 1000
BATCH = 64


def write_teacher(
    corpus: Corpus, settings: Teach, names: Mapping[str, str], out: Path
) -> AnyTeacher:
    """Write the teacher `settings.teacher` to a folder, with its classes in the data's order.

    Shows its score on texts of the valid split, and a warning if its classes look exchanged.

    Args:
        corpus: the data, for its classes and its valid split.
        settings: the recipe's section `teach`.
        names: the data's name for each class that the teacher calls something else.
        out: folder to write the teacher to.

    Raises:
        KdedgeError: the teacher does not exist or has other classes, or `out` exists.
    """
    if out.exists():
        raise KdedgeError(f"{out} exists already. Remove it or name another folder.")
    source = settings.teacher
    assert source
    teacher = load_any_teacher(source, max_length=full_teaching(corpus, settings).max_length)
    teacher_task, valid, task = teacher.task, corpus.valid, corpus.task
    step = -(-len(valid) // TEXTS)
    texts, labels = valid.texts[::step], valid.labels[::step]
    counts: Counts | None = None
    outputs = None
    if teacher_task.name == task.name and teacher_task.width == task.width:
        logits = run_teacher(teacher, texts, BATCH)["logits"]
        outputs = teacher_task.outputs(logits)
        counts = counts_of(logits, labels) if task.has_classes else None
    order = order_of(teacher_task, names, task, source, counts)
    assert outputs is not None
    teacher.reorder_logits(order, task)
    outputs = outputs[:, order]
    score = task.tuned(outputs, labels).score(outputs, labels)
    tell_once(
        f"{source}: {task.metric} {format_metric(task.metric, score, 1)} on {len(texts)} texts of "
        "the valid split."
    )
    teacher_classes = [teacher_task.output_names[i] for i in order]
    if counts is not None and (found := swap_warning(counts[order], task, teacher_classes)):
        tell_once(f"{source}: {found}")
    folder = find_pretrained(source)
    notes: dict[str, Any] = {
        "history": [],
        "source": source,
        "revision": revision_of(folder),
        "classes": dict(zip(task.output_names, teacher_classes, strict=True)),
        task.metric: score,
        "settings": settings.model_dump(),
    }
    require_space(out.parent, sum(f.stat().st_size for f in folder.iterdir() if f.is_file()))
    with new_folder(out) as partial:
        teacher.save_pretrained(partial)
        write_notes(partial, notes)
    return load_any_teacher(out, task=corpus.task)
