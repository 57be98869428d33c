"""Labels texts: runs a teacher on them and writes its soft labels into a store."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kdedge.files import (
    require_space,
)
from kdedge.labels.index import TextIndex
from kdedge.labels.store import Features, SoftLabels
from kdedge.progress import Advance, progress
from kdedge.teachers.bert import BertTeacher
from kdedge.text.batches import chunks
from kdedge.text.encoder import TextEncoder
from kdedge.text.readers import TextFiles

TEXTS_A_SHARD = 2048


def label_texts(
    teacher: BertTeacher, texts: Sequence[str] | TextFiles, folder: Path, batch_size: int = 64
) -> SoftLabels:
    """Label the texts that the store in `folder` lacks.

    Reads all texts first, so that invalid ones are reported before the long work. Shards are
    written one by one: a run that was killed continues with the rest, in the same batches, and ends
    with the same store. Also stores the teacher's token vectors, with which students start.
    """
    store, missing = open_for(teacher, texts, folder)
    with progress("labelling", missing, "texts") as advance:
        for shard in missing_in_shards(store, texts):
            outputs = run_teacher(teacher, shard, batch_size, advance)
            store.add(shard, outputs["logits"], outputs["pooled"].astype(np.float16))
    return store


def open_for(
    teacher: BertTeacher, texts: Sequence[str] | TextFiles, folder: Path
) -> tuple[SoftLabels, int]:
    """Open or make the store in `folder`, ready to add soft labels of `texts`.

    Returns:
        The store, and the number of texts that it lacks.

    Raises:
        KdedgeError: the store is another teacher's, `TextFiles` refuses the texts, or there is too
            little space.
    """
    store = SoftLabels.create(folder, teacher.fingerprint, teacher.task, has_features=True)
    wanted = TextIndex()
    for chunk in chunks(texts, TEXTS_A_SHARD):
        wanted.add(wanted.missing(store.missing(chunk)))
    missing = len(wanted)
    require_space(folder, missing * (2 * teacher.hidden_size + 300))
    if store.token_vectors() is None:
        store.keep(teacher.encoder, token_vectors(teacher))
    return store, missing


def missing_in_shards(store: SoftLabels, texts: Sequence[str] | TextFiles) -> Iterator[list[str]]:
    """The texts that the store lacks, each once, if each shard is added before taking the next."""
    waiting: list[str] = []
    for chunk in chunks(texts, TEXTS_A_SHARD):
        waiting = list(dict.fromkeys([*waiting, *store.missing(chunk)]))
        if len(waiting) >= TEXTS_A_SHARD:
            yield waiting[:TEXTS_A_SHARD]
            waiting = waiting[TEXTS_A_SHARD:]
    if waiting:
        yield waiting


def token_vectors(teacher: BertTeacher) -> Features:
    """The teacher's vector of each token: `pooled` of the input [CLS] token [SEP].

    Returns:
        float16 [vocabulary, hidden].
    """
    tokenizer = teacher.encoder.tokenizer
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    vectors = []
    for start in range(0, tokenizer.get_vocab_size(), 1024):
        entries = range(start, min(start + 1024, tokenizer.get_vocab_size()))
        ids = np.array([[first, entry, last] for entry in entries], np.int32)
        inputs = {"ids": ids, "mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
        vectors.append(teacher.run(inputs)["pooled"].astype(np.float16))
    return np.concatenate(vectors)


Outputs = dict[str, npt.NDArray[np.float32]]


def batches_by_length(
    encoder: TextEncoder, texts: Sequence[str], batch_size: int
) -> list[list[int]]:
    """Indices of the texts in batches, from the longest texts to the shortest.

    Texts of similar length need little padding. With the longest first, it shows at once whether
    they fit into memory, and the time left is an upper bound.
    """
    lengths = np.array([len(ids) for ids in encoder.token_ids(texts)])
    order = np.argsort(-lengths, kind="stable").tolist()
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def run_teacher(
    teacher: BertTeacher, texts: Sequence[str], batch_size: int, advance: Advance | None = None
) -> Outputs:
    """Run a teacher on texts, in their order.

    Returns:
        `logits` float32 [texts, classes] and `pooled` float32 [texts, hidden].
    """
    batches = batches_by_length(teacher.encoder, texts, batch_size)
    outputs = []
    for batch in batches:
        outputs.append(teacher.run(teacher.encoder.encode([texts[i] for i in batch]).inputs))
        if advance:
            advance(len(batch))
    order = np.argsort(np.concatenate(batches))
    return {name: np.concatenate([o[name] for o in outputs])[order] for name in outputs[0]}
