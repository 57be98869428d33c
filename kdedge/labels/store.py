"""The store of soft labels: a folder of Parquet shards, keyed by text."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from kdedge.errors import KdedgeError
from kdedge.files import (
    new_file,
    new_folder,
    require_space,
    sha256,
    verify_checksums,
    write_checksums,
)
from kdedge.labels.index import Rows, TextIndex
from kdedge.tasks import Logits, StoredTask, Task, with_task
from kdedge.text.encoder import ENCODER, VOCABULARY, TextEncoder
from kdedge.text.pairs import TEXT_COLUMNS, Text, columns_of, from_columns
from kdedge.text.pretrained import SETTINGS, TOKENIZER
from kdedge.text.rules import quoted

FORMAT_VERSION = 3
# Version 2 was for classification only.
READABLE_VERSIONS = (2, FORMAT_VERSION)
STORE = "store.json"
TOKEN_VECTORS = "token_vectors.npy"
# Digits of a shard's SHA-256 that are in its name.
DIGITS = 16
REMEDY = "Copy the store again or label the texts again."
Features = npt.NDArray[np.float16]


class _Info(BaseModel):
    """The contents of `store.json`."""

    format_version: int
    teacher: str
    task: StoredTask
    has_features: bool
    shares_tokens: bool = True
    notes: dict[str, Any] = {}


class SoftLabels:
    """A teacher's logits and, if kdedge labelled, its sentence vectors, by text.

    A folder with `store.json` (version, teacher fingerprint, task) and shards
    `part-00000-....parquet` with the columns `text`, of pairs `text_pair`, `logits` float32
    [width] and, if the store has features, `pooled` float16 [hidden]. `SoftLabels(folder)` opens a
    store, `create` makes one. The name of a shard ends with the first digits of its SHA-256, so
    that shard and checksum appear together; `checksums.sha256` has those of the other files.

        >>> from kdedge.tasks import Classification
        >>> task = Classification(label_names=("bad", "good"))
        >>> store = SoftLabels.create(Path("soft_labels"), "my teacher", task, has_features=False)
        >>> store.add(["a funny film"], np.array([[-1.0, 2.0]], np.float32))
        >>> SoftLabels(Path("soft_labels")).lookup(["a funny film"])[0].tolist()
        [[-1.0, 2.0]]

    Raises:
        KdedgeError: not a store, of another version, or a file is damaged.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = folder = Path(folder)
        path = folder / STORE
        if not path.is_file():
            raise KdedgeError(
                f"{folder}: not a store of soft labels: {STORE} is missing. "
                "`kdedge label TEXTS --teacher DIR --out SOFT_LABELS_DIR` makes one."
            )
        info = _read_info(path)
        verify_checksums(folder, [STORE], REMEDY)
        self.teacher = info.teacher
        self.task = info.task
        self.has_features = info.has_features
        self.shares_tokens = info.shares_tokens
        # For each logit of the task, its column in the stored logits.
        self._columns = list(range(info.task.width))
        self.notes = info.notes
        self._shards = sorted(folder.glob("part-*.parquet"))
        self.index = TextIndex()
        # The first row of each shard, and the number of rows.
        self._starts = [0]
        for shard in self._shards:
            with _readable(shard):
                if not shard.stem.endswith(sha256(shard)[:DIGITS]):
                    raise ValueError("its SHA-256 is not the one in its name")
            self._remember(self._texts(shard))

    @classmethod
    def create(
        cls,
        folder: Path,
        teacher: str,
        task: Task,
        has_features: bool,
        shares_tokens: bool = True,
        notes: dict[str, Any] | None = None,
    ) -> "SoftLabels":
        """Open the store in `folder`, or make an empty one for this teacher.

        Args:
            folder: folder of the store.
            teacher: fingerprint of the teacher.
            task: task of the teacher's logits.
            has_features: whether the teacher returns sentence vectors.
            shares_tokens: whether students have the teacher's own tokens.
            notes: information for people about a new store, such as how its soft labels were found.

        Raises:
            KdedgeError: `folder` has a store of another teacher, or other files.
        """
        if (folder / STORE).is_file():
            store = cls(folder)
            if store.teacher != teacher or store.task != task:
                differ = f"{store.teacher[:12]}, this one is {teacher[:12]}"
                if store.teacher == teacher:
                    differ = f"{store.task.name}: {store.task}; this one is {task.name}: {task}"
                raise KdedgeError(
                    f"{folder}: these soft labels are another teacher's ({differ}). Name another "
                    "folder."
                )
            return store
        if folder.exists() and any(folder.iterdir()):
            raise KdedgeError(f"{folder} is not empty and holds no soft labels. Name another.")
        if folder.exists():
            folder.rmdir()
        info = _Info(
            format_version=FORMAT_VERSION,
            teacher=teacher,
            task=task,
            has_features=has_features,
            shares_tokens=shares_tokens,
            notes=notes or {},
        )
        with new_folder(folder) as partial:
            (partial / STORE).write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
            write_checksums(partial, [STORE])
        return cls(folder)

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[Text]:
        """The labelled texts in stored order; only one shard is in memory at a time."""
        return (text for shard in self._shards for text in self._texts(shard))

    @property
    def texts(self) -> tuple[Text, ...]:
        """The labelled texts in stored order."""
        return tuple(self)

    def missing(self, texts: Iterable[Text]) -> list[Text]:
        """The texts that have no soft label, each once."""
        return self.index.missing(texts)

    def rows(self, texts: Sequence[Text]) -> Rows:
        """The rows of the texts in the store, int64 [texts].

        Raises:
            KdedgeError: a text has no soft label.
        """
        rows = self.index.rows(texts)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            raise KdedgeError(
                f"{self.folder}: {len(missing)} of {len(texts)} texts have no soft label, first "
                f"{quoted(texts[missing[0]])}. Label them: `kdedge label TEXTS --teacher DIR --out "
                f"{self.folder}`."
            )
        return rows

    def lookup(self, texts: Sequence[Text]) -> tuple[Logits, Features | None]:
        """Logits float32 [texts, width] and sentence vectors float16 [texts, hidden] or None.

        Raises:
            KdedgeError: a text has no soft label.
        """
        return self.at(self.rows(texts))

    def at(self, rows: Rows, pooled_file: Path | None = None) -> tuple[Logits, Features | None]:
        """Logits float32 [rows, width] and sentence vectors float16 [rows, hidden] or None.

        Args:
            rows: rows of texts, from the method `rows`.
            pooled_file: a `.npy` file to write the sentence vectors to, and to map them from.
        """
        logits = np.empty((len(rows), self.task.width), np.float32)
        pooled: Features | None = None
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], self._starts)
        for i, shard in enumerate(self._shards):
            in_shard = order[bounds[i] : bounds[i + 1]]
            if not len(in_shard):
                continue
            within = rows[in_shard] - self._starts[i]
            logits[in_shard] = self._vectors(shard, "logits")[within][:, self._columns]
            if self.has_features:
                vectors = self._vectors(shard, "pooled")
                if pooled is None:
                    pooled = _new_array(pooled_file, (len(rows), vectors.shape[1]))
                pooled[in_shard] = vectors[within]
        return logits, pooled

    def in_order(self, order: Sequence[int], task: Task) -> "SoftLabels":
        """The same store with the logits of another task's outputs.

        Args:
            order: for each output of `task`, the index of the present one.
            task: a task with other names, or with the names in another order.
        """
        other = SoftLabels(self.folder)
        other._columns, other.task = [self._columns[i] for i in order], task
        return other

    def add(self, texts: Sequence[Text], logits: Logits, pooled: Features | None = None) -> None:
        """Store new texts as one shard.

        Args:
            texts: texts that are not in the store yet.
            logits: float32 [texts, width], finite.
            pooled: sentence vectors float16 [texts, hidden], if the store has features.
        """
        if logits.shape != (len(texts), self.task.width) or not np.isfinite(logits).all():
            raise KdedgeError(
                f"logits: shape {logits.shape}; finite numbers of shape "
                f"{(len(texts), self.task.width)} are needed."
            )
        if (pooled is not None) != self.has_features:
            raise KdedgeError(
                "pooled: sentence vectors are needed in this store."
                if self.has_features
                else "pooled: this store has no sentence vectors. Leave them out."
            )
        stored = np.empty_like(logits)
        stored[:, self._columns] = logits
        columns = {name: pa.array(of, pa.string()) for name, of in columns_of(texts).items()}
        columns["logits"] = _vectors(stored, pa.float32())
        if pooled is not None:
            columns["pooled"] = _vectors(pooled, pa.float16())
        if double := len(texts) - len(self.missing(texts)):
            raise KdedgeError(
                f"{self.folder}: {double} of {len(texts)} texts would be stored twice."
            )
        last = int(self._shards[-1].stem.split("-")[1]) if self._shards else -1
        written = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), written, compression="zstd")
        content = written.getvalue().to_pybytes()
        digest = hashlib.sha256(content).hexdigest()[:DIGITS]
        shard = self.folder / f"part-{last + 1:05d}-{digest}.parquet"
        with new_file(shard) as partial:
            partial.write_bytes(content)
        self._shards.append(shard)
        self._remember(texts)

    def keep(self, encoder: TextEncoder, token_vectors: Features | None) -> None:
        """Store the students' text encoder and, if given, the teacher's vectors of its tokens.

        Args:
            encoder: text encoder of students; the teacher's own if that is BERT's WordPiece.
            token_vectors: float16 [vocabulary, hidden].
        """
        encoder.save(self.folder)
        if token_vectors is not None:
            with new_file(self.folder / TOKEN_VECTORS) as partial, partial.open("wb") as file:
                np.save(file, token_vectors, allow_pickle=False)
        files = (STORE, TOKENIZER, VOCABULARY, ENCODER, SETTINGS, TOKEN_VECTORS)
        write_checksums(self.folder, [f for f in files if (self.folder / f).is_file()])

    @property
    def is_complete(self) -> bool:
        """Whether it has a text encoder, and token vectors if it has features."""
        last = TOKEN_VECTORS if self.has_features else TOKENIZER
        return last in verify_checksums(self.folder, [STORE], REMEDY)

    def token_vectors(self) -> Features | None:
        """The teacher's token vectors, float16 [vocabulary, hidden], or None.

        Raises:
            KdedgeError: the file is damaged or has no array of numbers.
        """
        if TOKEN_VECTORS not in verify_checksums(self.folder, [STORE], REMEDY):
            return None
        path = self.folder / TOKEN_VECTORS
        try:
            # Memory-mapped, because a header can claim any size.
            return np.array(np.load(path, allow_pickle=False, mmap_mode="r"))
        except Exception as error:  # numpy parses headers as Python and can raise anything
            raise KdedgeError(f"{path}: no array of numbers ({error}). {REMEDY}") from None

    def encoder(self) -> TextEncoder:
        """The text encoder of students: the teacher's own if `shares_tokens`.

        Raises:
            KdedgeError: the store has none, or a file is damaged.
        """
        verify_checksums(self.folder, [TOKENIZER, ENCODER], REMEDY)
        return TextEncoder.load(self.folder)

    def _remember(self, texts: Sequence[Text]) -> None:
        if len(self.missing(texts)) < len(texts):
            raise KdedgeError(f"{self.folder}: a text is stored twice. Label the texts again.")
        self.index.add(texts)
        self._starts.append(len(self))

    def _texts(self, shard: Path) -> list[Text]:
        with _readable(shard):
            names = [name for name in pq.read_schema(shard).names if name in TEXT_COLUMNS]
            table = pq.read_table(shard, columns=names)
            return from_columns({name: table[name].cast(pa.string()).to_pylist() for name in names})

    def _vectors(self, shard: Path, column: str) -> npt.NDArray[Any]:
        with _readable(shard):
            vectors = pq.read_table(shard, columns=[column])[column].combine_chunks()
            return np.asarray(vectors.flatten()).reshape(len(vectors), -1)


@contextmanager
def _readable(shard: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, AttributeError, KeyError, OSError, ValueError) as error:
        raise KdedgeError(
            f"{shard}: not a readable shard of soft labels ({error}). "
            "Remove it and run the labelling again."
        ) from None


def _read_info(path: Path) -> _Info:
    try:
        stored = json.loads(path.read_bytes())
        version = stored["format_version"]
        if version not in READABLE_VERSIONS:
            raise KdedgeError(
                f"{path}: format_version is {version} and this kdedge reads "
                f"{' and '.join(map(str, READABLE_VERSIONS))}. Install the kdedge that wrote it, "
                "or make the store again: `kdedge label`."
            )
        return _Info.model_validate(with_task(stored))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise KdedgeError(f"{path}: not readable: {error}. Label the texts again.") from None


def _vectors(matrix: npt.NDArray[np.generic], dtype: pa.DataType) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel(), dtype), matrix.shape[1])


def _new_array(file: Path | None, shape: tuple[int, int]) -> Features:
    if file is None:
        return np.empty(shape, np.float16)
    require_space(file.parent, 2 * shape[0] * shape[1])
    return np.lib.format.open_memmap(file, "w+", np.float16, shape)
