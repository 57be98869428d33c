"""Labels texts: runs a teacher and stores its outputs as soft labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kdedge.files import require_space
from kdedge.labels.index import TextIndex
from kdedge.labels.store import Features, SoftLabels
from kdedge.progress import Advance, progress
from kdedge.teachers.teacher import Teacher, TeacherOutputs
from kdedge.text.batches import chunks
from kdedge.text.encoder import TextEncoder, Tokens, padded
from kdedge.text.pairs import Text
from kdedge.text.readers import TextFiles
from kdedge.text.vocabulary import student_encoder, text_of

TEXTS_A_SHARD = 2048
VECTORS_AT_ONCE = 1024


def label_texts(
    teacher: Teacher, texts: Sequence[Text] | TextFiles, folder: Path, batch_size: int = 64
) -> SoftLabels:
    """Label the texts that have no soft label in the store `folder` yet.

    All texts are read first, so that invalid ones are reported before the long work. Shards are
    written one by one: a run that was killed continues with the remaining texts, in the same
    batches, and ends with the same store. The teacher's token vectors, with which students are
    initialized, are stored too.
    """
    store, missing = open_for(teacher, texts, folder)
    with progress("labelling", missing, "texts") as advance:
        for shard in missing_in_shards(store, texts):
            outputs = run_teacher(teacher, shard, batch_size, advance)
            store.add(shard, outputs["logits"], as_float16(outputs.get("pooled")))
    return store


def open_for(
    teacher: Teacher, texts: Sequence[Text] | TextFiles, folder: Path
) -> tuple[SoftLabels, int]:
    """Open or create the store `folder`, to add soft labels of `texts`.

    Returns:
        The store, and the number of texts without a soft label.

    Raises:
        KdedgeError: the store is another teacher's, a text is invalid, or there is too little disk
            space.
    """
    store = SoftLabels.create(
        folder,
        teacher.fingerprint,
        teacher.task,
        has_features=teacher.hidden_size is not None,
        shares_tokens=teacher.encoder.is_berts,
    )
    unlabelled = TextIndex()
    for chunk in chunks(texts, TEXTS_A_SHARD):
        unlabelled.add(unlabelled.missing(store.missing(chunk)))
    missing = len(unlabelled)
    require_space(folder, missing * (2 * (teacher.hidden_size or 0) + 300))
    if not store.is_complete:
        students = student_encoder(teacher.encoder, texts)
        store.keep(students, token_vectors(teacher, students))
    return store, missing


def missing_in_shards(store: SoftLabels, texts: Sequence[Text] | TextFiles) -> Iterator[list[Text]]:
    """Yield the texts without a soft label in shards, each text once.

    Add each shard to the store before you take the next one.
    """
    waiting: list[Text] = []
    for chunk in chunks(texts, TEXTS_A_SHARD):
        waiting = list(dict.fromkeys([*waiting, *store.missing(chunk)]))
        if len(waiting) >= TEXTS_A_SHARD:
            yield waiting[:TEXTS_A_SHARD]
            waiting = waiting[TEXTS_A_SHARD:]
    if waiting:
        yield waiting


def token_vectors(teacher: Teacher, students: TextEncoder) -> Features | None:
    """The teacher's vector of each token of its students: `pooled` of [CLS] token [SEP].

    If students have another vocabulary, it is `pooled` of the word piece as a text, which can be
    several tokens of the teacher.

    Returns:
        float16 [vocabulary, hidden]; None if the teacher gives no `pooled`.
    """
    if teacher.hidden_size is None:
        return None
    encoder = teacher.encoder
    if not encoder.is_berts:
        pieces = [text_of(piece) for piece in students.vocabulary]
        return run_teacher(teacher, pieces, VECTORS_AT_ONCE)["pooled"].astype(np.float16)
    vectors = []
    for start in range(0, len(encoder.vocabulary), VECTORS_AT_ONCE):
        entries = range(start, min(start + VECTORS_AT_ONCE, len(encoder.vocabulary)))
        rows = [Tokens.of_text([*encoder.first, entry, *encoder.last]) for entry in entries]
        inputs = padded(rows).inputs
        vectors.append(teacher.run(inputs)["pooled"].astype(np.float16))
    return np.concatenate(vectors)


def as_float16(vectors: npt.NDArray[np.float32] | None) -> Features | None:
    """Convert sentence vectors to float16, as the store keeps them."""
    return None if vectors is None else vectors.astype(np.float16)


def batches_by_length(
    encoder: TextEncoder, texts: Sequence[Text], batch_size: int
) -> list[list[int]]:
    """Group the indices of texts into batches, from the longest texts to the shortest.

    Texts of similar length need little padding. With the longest first, too little memory shows at
    once, and the estimated time left is an upper bound.
    """
    lengths = np.array([len(ids) for ids in encoder.token_ids(texts)])
    order = np.argsort(-lengths, kind="stable").tolist()
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def run_teacher(
    teacher: Teacher, texts: Sequence[Text], batch_size: int, advance: Advance | None = None
) -> TeacherOutputs:
    """Run a teacher on texts; rows of the outputs are in the order of the texts.

    Returns:
        `logits` float32 [texts, classes] and, if the teacher has it, `pooled` float32 [texts,
        hidden].
    """
    batches = batches_by_length(teacher.encoder, texts, batch_size)
    outputs = []
    for batch in batches:
        outputs.append(teacher.run(teacher.encoder.encode([texts[i] for i in batch]).inputs))
        if advance:
            advance(len(batch))
    order = np.argsort(np.concatenate(batches))
    return {name: np.concatenate([o[name] for o in outputs])[order] for name in outputs[0]}
