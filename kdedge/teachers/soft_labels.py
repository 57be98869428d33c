"""The store of what a teacher said: Parquet shards that appear whole, keyed by text."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kdedge.errors import KdedgeError
from kdedge.files import new_file, require_space, write_text
from kdedge.progress import progress
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.engines import Outputs, batches_by_length, teacher_function
from kdedge.text.corpus import read_texts
from kdedge.text.encoder import TextEncoder

FORMAT_VERSION = 1
STORE = "store.json"
TOKEN_VECTORS = "token_vectors.npy"
TEXTS_A_SHARD = 2048

Logits = npt.NDArray[np.float32]
Features = npt.NDArray[np.float16]


class SoftLabels:
    """Teacher logits, and if it was kdedge that labelled, the teacher's pooled vectors.

    A folder with `store.json` (versions, teacher fingerprint, label names) and shards
    `part-00000.parquet` with the columns `text`, `logits` float32 [classes] and, where there are
    features, `pooled` float16 [hidden]. Opened by `SoftLabels(folder)`, made by `create`.

    Raises:
        KdedgeError: not a store, a newer version's, or a shard that can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / STORE
        if not path.is_file():
            raise KdedgeError(
                f"{folder}: not a store of soft labels: {STORE} is missing. "
                "`kdedge label TEXTS --teacher DIR --out SOFT_LABELS_DIR` makes one."
            )
        info = json.loads(path.read_text(encoding="utf-8"))
        if info.get("format_version") != FORMAT_VERSION:
            raise KdedgeError(
                f"{path}: format_version is {info.get('format_version')} and this kdedge reads "
                f"{FORMAT_VERSION}."
            )
        self.teacher: str = info["teacher"]
        self.label_names: tuple[str, ...] = tuple(info["label_names"])
        self.has_features: bool = info["has_features"]
        self._row_of: dict[str, int] = {}
        self._logits: list[Logits] = []
        self._pooled: list[Features] = []
        for shard in sorted(folder.glob("part-*.parquet")):
            self._remember(*self._read(shard))

    @classmethod
    def create(
        cls, folder: Path, teacher: str, label_names: Sequence[str], has_features: bool
    ) -> "SoftLabels":
        """Open the store in `folder`, or make an empty one for this teacher fingerprint.

        Raises:
            KdedgeError: there is one, of another teacher.
        """
        if (folder / STORE).is_file():
            store = cls(folder)
            if store.teacher != teacher or store.label_names != tuple(label_names):
                raise KdedgeError(
                    f"{folder}: these soft labels are another teacher's "
                    f"({store.teacher[:12]}, this one is {teacher[:12]}). Name another folder."
                )
            return store
        if folder.exists() and any(folder.iterdir()):
            raise KdedgeError(f"{folder} is not empty and holds no soft labels. Name another.")
        folder.mkdir(parents=True, exist_ok=True)
        info = {
            "format_version": FORMAT_VERSION,
            "teacher": teacher,
            "label_names": list(label_names),
            "has_features": has_features,
        }
        write_text(folder / STORE, json.dumps(info, indent=2) + "\n")
        return cls(folder)

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def texts(self) -> tuple[str, ...]:
        """The labelled texts, in the order they were stored."""
        return tuple(self._row_of)

    def missing(self, texts: Iterable[str]) -> list[str]:
        """Those of the texts that have no soft label, each once."""
        return [text for text in dict.fromkeys(texts) if text not in self._row_of]

    def lookup(self, texts: Sequence[str]) -> tuple[Logits, Features | None]:
        """Logits float32 [texts, classes] and pooled float16 [texts, hidden] or None.

        Raises:
            KdedgeError: a text has no soft label.
        """
        if missing := self.missing(texts):
            raise KdedgeError(
                f"{self.folder}: {len(missing)} of {len(texts)} texts have no soft label, first "
                f"{missing[0][:60]!r}. Label them: `kdedge label TEXTS --teacher DIR --out "
                f"{self.folder}`."
            )
        rows = [self._row_of[text] for text in texts]
        pooled = np.concatenate(self._pooled)[rows] if self.has_features else None
        return np.concatenate(self._logits)[rows], pooled

    def add(self, texts: Sequence[str], logits: Logits, pooled: Features | None = None) -> None:
        """Store new texts as one shard.

        Args:
            texts: not in the store yet.
            logits: float32 [texts, classes], finite.
            pooled: float16 [texts, hidden] if the store has features.
        """
        if logits.shape != (len(texts), len(self.label_names)) or not np.isfinite(logits).all():
            raise KdedgeError(
                f"logits: shape {logits.shape}; finite numbers of shape "
                f"{(len(texts), len(self.label_names))} are needed."
            )
        if (pooled is not None) != self.has_features:
            raise KdedgeError(f"pooled: this store has features: {self.has_features}.")
        columns = {"text": pa.array(texts, pa.string()), "logits": _vectors(logits, pa.float32())}
        if pooled is not None:
            columns["pooled"] = _vectors(pooled, pa.float16())
        name = f"part-{len(list(self.folder.glob('part-*.parquet'))):05d}.parquet"
        with new_file(self.folder / name) as partial:
            pq.write_table(pa.table(columns), partial, compression="zstd")
        self._remember(list(texts), logits, pooled)

    def token_vectors(self) -> Features | None:
        """Teacher's vectors of the vocabulary, float16 [vocabulary, hidden], or None."""
        path = self.folder / TOKEN_VECTORS
        return np.load(path, allow_pickle=False) if path.is_file() else None

    def encoder(self) -> TextEncoder:
        """The teacher's text encoder, which students use too.

        Raises:
            KdedgeError: the store has none.
        """
        return TextEncoder.load(self.folder)

    def _read(self, shard: Path) -> tuple[list[str], Logits, Features | None]:
        try:
            table = pq.read_table(shard)
            logits = _matrix(table["logits"])
            pooled = _matrix(table["pooled"]) if self.has_features else None
            return table["text"].to_pylist(), logits, pooled
        except (pa.ArrowException, KeyError, OSError, ValueError) as error:
            raise KdedgeError(
                f"{shard}: not a readable shard of soft labels ({error}). "
                "Remove it and run the labelling again."
            ) from None

    def _remember(self, texts: list[str], logits: Logits, pooled: Features | None) -> None:
        first = len(self._row_of)
        self._row_of.update((text, first + i) for i, text in enumerate(texts))
        if len(self._row_of) != first + len(texts):
            raise KdedgeError(f"{self.folder}: a text is stored twice.")
        self._logits.append(logits)
        if pooled is not None:
            self._pooled.append(pooled)


def label_texts(
    teacher: BertTeacher, texts: Iterable[str], folder: Path, batch_size: int = 64
) -> SoftLabels:
    """Have the teacher label the texts that the store in `folder` lacks.

    Shards appear as they are done; a killed run goes on with the rest. Also stores the teacher's
    vector of each vocabulary entry, from which students start.
    """
    store = SoftLabels.create(folder, teacher.fingerprint, teacher.label_names, has_features=True)
    missing = store.missing(texts)
    require_space(folder, len(missing) * (2 * teacher.hidden_size + 300))
    teacher.encoder.save(folder)
    if store.token_vectors() is None:
        vectors = token_vectors(teacher)
        with new_file(folder / TOKEN_VECTORS) as partial, partial.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
    with progress("labelling", len(store) + len(missing), "texts", len(store)) as advance:
        shard: list[tuple[list[int], Outputs]] = []
        for rows, outputs in batches_by_length(teacher, missing, batch_size):
            shard.append((rows, outputs))
            advance(len(rows))
            if len(shard) * batch_size >= TEXTS_A_SHARD:
                _store(store, missing, shard)
                shard = []
        if shard:
            _store(store, missing, shard)
    return store


def _store(store: SoftLabels, texts: list[str], shard: list[tuple[list[int], Outputs]]) -> None:
    store.add(
        [texts[row] for rows, _ in shard for row in rows],
        np.concatenate([outputs["logits"] for _, outputs in shard]),
        np.concatenate([outputs["pooled"] for _, outputs in shard]).astype(np.float16),
    )


def token_vectors(teacher: BertTeacher) -> Features:
    """What the teacher makes of each vocabulary entry as the text [CLS] entry [SEP].

    Returns:
        `pooled` of each entry, float16 [vocabulary, hidden].
    """
    tokenizer = teacher.encoder.tokenizer
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    run = teacher_function(teacher)
    vectors = []
    for start in range(0, tokenizer.get_vocab_size(), 1024):
        entries = range(start, min(start + 1024, tokenizer.get_vocab_size()))
        ids = np.array([[first, entry, last] for entry in entries], np.int32)
        inputs = {"ids": ids, "mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
        vectors.append(run(inputs)["pooled"].astype(np.float16))
    return np.concatenate(vectors)


def import_soft_labels(path: Path, folder: Path, label_names: Sequence[str]) -> SoftLabels:
    """Make a store from another teacher's labels: a Parquet file with `text` and one of `logits`,
    `probabilities`, each a list of as many numbers as there are labels.

    Raises:
        KdedgeError: a column is missing, or the numbers are not logits or probabilities.
    """  # noqa: D205
    texts = read_texts(path)
    names = pq.read_schema(path).names
    kind = next((name for name in ("logits", "probabilities") if name in names), None)
    if kind is None:
        raise KdedgeError(f"{path}: needs a column logits or probabilities; has {names}.")
    try:
        values = np.array(pq.read_table(path, columns=[kind])[kind].to_pylist(), np.float32)
    except ValueError:
        raise KdedgeError(f"{path}: {kind} must have as many numbers in each row.") from None
    if kind == "probabilities":
        if (values < 0).any() or not np.allclose(values.sum(-1), 1, atol=1e-3):
            raise KdedgeError(f"{path}: probabilities must be at least 0 and sum to 1.")
        values = np.log(np.maximum(values, 1e-7))
    store = SoftLabels.create(folder, f"imported:{path.name}", label_names, has_features=False)
    new = dict(zip(texts, values, strict=True))
    missing = store.missing(new)
    if missing:
        store.add(missing, np.stack([new[text] for text in missing]))
    return store


def _vectors(matrix: npt.NDArray[np.generic], dtype: pa.DataType) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel(), dtype), matrix.shape[1])


def _matrix(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    vectors = column.combine_chunks()
    return np.asarray(vectors.flatten()).reshape(len(vectors), -1)
