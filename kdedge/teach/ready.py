"""Takes a teacher as it is: fine-tuned elsewhere, by any program."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdedge.check import full_teaching
from kdedge.errors import KdedgeError
from kdedge.files import new_folder, require_space
from kdedge.recipe import Teach
from kdedge.tasks import Classification
from kdedge.teachers.bert import write_notes
from kdedge.teachers.checkpoints import find_pretrained, revision_of
from kdedge.teachers.classes import Counts, counts_of, exchanged, order_of
from kdedge.teachers.label import run_teacher
from kdedge.teachers.load import AnyTeacher, load_any_teacher
from kdedge.text.corpus import Corpus
from kdedge.text.decoding import tell_once

# Of the valid split, that it is tried on before it labels.
TEXTS = 1000
BATCH = 64


def take_teacher(
    corpus: Corpus, settings: Teach, names: Mapping[str, str], out: Path
) -> AnyTeacher:
    """Write the teacher `settings.teacher` to a folder, with its classes in the data's order.

    Says how many texts of the valid split it answers right, and if its classes look exchanged.

    Args:
        corpus: has the classes, and the valid split.
        settings: the recipe's section `teach`.
        names: the data's names for the teacher's classes, where they differ.
        out: folder to write the teacher to.

    Raises:
        KdedgeError: there is no such teacher, or it has other classes, or `out` exists.
    """
    if out.exists():
        raise KdedgeError(f"{out} exists already. Remove it or name another folder.")
    source = settings.teacher
    assert source
    teacher = load_any_teacher(source, max_length=full_teaching(corpus, settings).max_length)
    if not isinstance(teacher.task, Classification) or teacher.task.name != corpus.task.name:
        raise KdedgeError(
            f"{source}: a teacher for {teacher.task.name}, and the data is for {corpus.task.name}. "
            f"Only classifiers are used as they are: fine-tune it, [teach] pretrained = {source!r}."
        )
    own, valid = teacher.task.output_names, corpus.valid
    step = -(-len(valid) // TEXTS)
    texts, labels = valid.texts[::step], valid.labels[::step]
    counts: Counts | None = None
    if len(own) == corpus.task.width:
        logits = run_teacher(teacher, texts, BATCH)["logits"]
        counts = counts_of(logits, labels)
    order = order_of(own, names, corpus.task, source, counts)
    assert counts is not None
    teacher.take_order(order, corpus.task)
    score = float(np.trace(counts[order]) / len(texts))
    tell_once(
        f"{source}: {corpus.task.metric} {100 * score:.1f}% on {len(texts)} texts of the valid "
        "split."
    )
    if found := exchanged(counts[order], corpus.task, [own[i] for i in order]):
        tell_once(f"{source}: {found}")
    folder = find_pretrained(source)
    notes: dict[str, Any] = {
        "history": [],
        "source": source,
        "revision": revision_of(folder),
        "classes": dict(zip(corpus.task.output_names, (own[i] for i in order), strict=True)),
        corpus.task.metric: score,
        "settings": settings.model_dump(),
    }
    require_space(out.parent, sum(f.stat().st_size for f in folder.iterdir() if f.is_file()))
    with new_folder(out) as partial:
        teacher.save_pretrained(partial)
        write_notes(partial, notes)
    return load_any_teacher(out, task=corpus.task)
