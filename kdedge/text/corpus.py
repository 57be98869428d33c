"""Texts and labels from CSV, TSV, JSONL, Parquet and plain text, each also gzipped."""

import csv
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from kdedge.errors import KdedgeError

MAX_TEXT_CHARS = 100_000
# A .gz or Parquet file that expands past this is refused: it may be a decompression bomb.
MAX_FILE_BYTES = 8 * 2**30
# A longer line is refused, for memory holds it whole.
MAX_LINE_BYTES = 64 * 2**20
PARQUET_ROWS_AT_ONCE = 4096
WHOLE_NUMBER = re.compile("-?[0-9]{1,18}")
SURROGATE = re.compile("[\ud800-\udfff]")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
QUOTING_HINT = (
    "A field with a delimiter, a quote or a line break in it must be in quotes, its own doubled."
)
SPLITS = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "dev": "valid",
    "eval": "valid",
    "test": "test",
}


@dataclass(frozen=True)
class Split:
    """A part of a corpus: texts, and labels int32 [texts]."""

    texts: tuple[str, ...]
    labels: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Corpus:
    """Labelled texts in three splits, and texts without labels."""

    label_names: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    unlabelled: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        return len(self.label_names)

    def fingerprint(self) -> str:
        """SHA-256 over everything in it: equal corpora give equal values."""
        splits = [[s.texts, s.labels.tolist()] for s in (self.train, self.valid, self.test)]
        content = json.dumps([self.label_names, splits, self.unlabelled])
        return hashlib.sha256(content.encode()).hexdigest()

    def subset(self, train_size: int | None, eval_size: int | None, seed: int) -> "Corpus":
        """A smaller corpus with the same share of each label; None keeps all of a split.

        Raises:
            KdedgeError: a size is too small; each label must stay in train.
        """
        sizes = (("train_size", train_size, self.num_classes), ("eval_size", eval_size, 1))
        for name, size, least in sizes:
            if size is not None and size < least:
                raise KdedgeError(f"{name}: {size}. At least {least} is needed for this corpus.")
        return Corpus(
            self.label_names,
            _smaller(self.train, train_size, seed),
            _smaller(self.valid, eval_size, seed),
            _smaller(self.test, eval_size, seed),
            self.unlabelled,
        )


@dataclass(frozen=True)
class Row:
    """A row of a file.

    Attributes:
        where: file and line, or row of a Parquet file: what messages begin with.
        fields: by column.
    """

    where: str
    fields: dict[str, Any]

    def text(self, column: str) -> str:
        """The text in a column.

        Raises:
            KdedgeError: there is none, or not one that `check_text` takes.
        """
        text = self.fields.get(column)
        if not isinstance(text, str):
            raise KdedgeError(f"{self.where}: {column} is {text!r:.40}; a text is needed.")
        check_text(text, f"{self.where}, column {column!r}")
        return text


def load_corpus(
    path: Path | str,
    *,
    text: str = "text",
    label: str = "label",
    split: str | None = None,
    id: str | None = None,
    unlabelled: Path | None = None,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Corpus:
    """Read a corpus; columns by name.

    Args:
        path: `.csv`, `.tsv`, `.jsonl` or `.parquet`, each also with `.gz`.
        text: column of the texts.
        label: column of the labels: names or whole numbers; sorted, they give the order of the
            classes. A row without one is an unlabelled text.
        split: column that says `train`, `valid` (or `validation`, `dev`, `eval`) or `test`. If no
            row is `valid`, `valid_fraction` of the training rows become those.
            None divides the rows, with the same share of each label in every split.
        id: column of ids, each of which may occur once.
        unlabelled: a file of more texts, as for `read_texts`.
        valid_fraction: of each label's rows, where the file does not say.
        test_fraction: of each label's rows, where the file does not say.
        seed: equal seeds divide the rows equally.

    Raises:
        KdedgeError: anything that is not as it says here, with the line or row.
    """
    # Written so that NaN fails too.
    if not (valid_fraction > 0 and test_fraction > 0 and valid_fraction + test_fraction < 1):
        raise KdedgeError(
            f"valid_fraction, test_fraction: {valid_fraction}, {test_fraction}. "
            "Both must be above 0 and their sum below 1."
        )
    path = Path(path)
    rows = read_rows(path)
    _need_columns(path, rows, [text, label, *filter(None, (split, id))])
    if id:
        _need_unique(rows, id)
    labelled: list[Row] = []
    texts: list[str] = []
    given: list[str] = []
    without_label: list[str] = []
    for row in rows:
        content, name = row.text(text), _label(row, label)
        if name is None:
            without_label.append(content)
        else:
            labelled.append(row)
            texts.append(content)
            given.append(name)
    # Sorted as what they are: 9 before 10, but "b10" before "b9".
    if all(WHOLE_NUMBER.fullmatch(name) for name in given):
        given = [str(int(name)) for name in given]
        names = tuple(sorted(set(given), key=int))
    else:
        names = tuple(sorted(set(given)))
    if len(names) < 2:
        raise KdedgeError(
            f"{path}: column {label!r} has {len(names)} different labels "
            f"({', '.join(names) or 'none'}); at least two are needed."
        )
    number = {name: i for i, name in enumerate(names)}
    labels = np.array([number[name] for name in given], np.int32)

    rng = np.random.default_rng(seed)
    parts = np.full(len(labels), "train", "U5")
    if split:
        parts[:] = [_part(row, split) for row in labelled]
        if "valid" not in parts:
            _divide(path, names, parts, labels, {"valid": valid_fraction}, rng)
    else:
        shares = {"valid": valid_fraction, "test": test_fraction}
        _divide(path, names, parts, labels, shares, rng)
    for part in ("train", "valid", "test"):
        if part not in parts:
            raise KdedgeError(
                f"{path}: column {split!r} puts no labelled row in {part}. "
                "Add some, or give no split column and have kdedge split the rows."
            )
    unknown = ~np.isin(labels, labels[parts == "train"])
    if unknown.any():
        first = int(unknown.argmax())
        raise KdedgeError(
            f"{labelled[first].where}: label {names[labels[first]]!r} is in {parts[first]} and "
            "not in train. Add training rows with it or leave it out."
        )

    def chosen(part: str) -> Split:
        positions = np.flatnonzero(parts == part)
        return Split(tuple(texts[i] for i in positions), labels[positions])

    more = read_texts(unlabelled, text) if unlabelled else []
    return Corpus(names, chosen("train"), chosen("valid"), chosen("test"), (*without_label, *more))


class TextFiles:
    """The texts of one file or several, which memory does not hold: iterating reads them anew.

    Args:
        path: a file as for `load_corpus`, a `.txt` with a text a line, a folder of such files, or
            a pattern such as `texts/*.parquet`. Several are read in the order of their names.
        text: column of the texts; a `.txt` has none.

    Raises:
        KdedgeError: there is no such file; in iterating as `load_corpus`.
    """

    def __init__(self, path: Path, text: str = "text") -> None:
        self.files, self.text = _files(path), text

    def __iter__(self) -> Iterator[str]:
        for path in self.files:
            column = "text" if _suffix(path) == ".txt" else self.text
            for number, row in enumerate(iter_rows(path)):
                if number == 0:
                    _need_columns(path, [row], [column])
                yield row.text(column)


def read_texts(path: Path, text: str = "text") -> list[str]:
    """The texts of `TextFiles` as a list.

    Raises:
        KdedgeError: as `TextFiles`.
    """
    return list(TextFiles(path, text))


def split_lines(content: bytes, source: str) -> list[str]:
    """The texts of UTF-8 content, a text a line.

    Args:
        content: for instance what standard input gave.
        source: what messages call it.

    Raises:
        KdedgeError: not UTF-8, or a line is not a text.
    """
    return [row.text("text") for row in _text_rows(source, _decoded(source, io.BytesIO(content)))]


def check_text(text: str, where: str) -> None:
    """Check that a text has something in it and is no book.

    Raises:
        KdedgeError: it is blank, longer than `MAX_TEXT_CHARS`, or has half a surrogate pair.
    """
    if not text.strip():
        raise KdedgeError(f"{where}: the text is empty. Fill it in or leave it out.")
    if len(text) > MAX_TEXT_CHARS:
        raise KdedgeError(
            f"{where}: the text has {len(text):,} characters; at most {MAX_TEXT_CHARS:,} are "
            "allowed. A model reads its first words only: split it."
        )
    # JSON can hold one and Python can too, but tokenizers cannot.
    if SURROGATE.search(text):
        raise KdedgeError(f"{where}: the text has half a surrogate pair. Write it as UTF-8 again.")


def read_rows(path: Path) -> list[Row]:
    """The rows of `iter_rows` as a list.

    Raises:
        KdedgeError: as `iter_rows`.
    """
    return list(iter_rows(path))


def iter_rows(path: Path) -> Iterator[Row]:
    """Read the rows of any kind of file that `TextFiles` takes, one after the other.

    Raises:
        KdedgeError: as `load_corpus`, or it has none.
    """
    suffix = _suffix(path)
    if not path.is_file():
        raise KdedgeError(f"{path}: no such file.")
    if suffix == ".parquet":
        rows = _parquet_rows(path)
    elif suffix == ".jsonl":
        rows = _json_rows(path, _decoded(path, _lines(path)))
    elif suffix == ".txt":
        rows = _text_rows(path, _decoded(path, _lines(path)))
    else:
        delimiter = "," if suffix == ".csv" else "\t"
        rows = _csv_rows(path, _decoded(path, _lines(path)), delimiter)
    row = None
    for row in rows:
        yield row
    if row is None:
        raise KdedgeError(f"{path}: no rows. At least one is needed.")


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.name.removesuffix(".gz").endswith(SUFFIXES))
    elif path.is_file():
        files = [path]
    else:
        files = sorted(path.parent.glob(path.name))
    if not files:
        kinds = f", none of {', '.join(SUFFIXES)}, each also with .gz" if path.is_dir() else ""
        raise KdedgeError(f"{path}: no such file{kinds}.")
    return files


def _suffix(path: Path) -> str:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in SUFFIXES:
        raise KdedgeError(
            f"{path}: unknown kind of file {suffix!r}. "
            f"Allowed: {', '.join(SUFFIXES)}, each also with .gz."
        )
    return suffix


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]
    except EOFError:
        raise KdedgeError(f"{path}: this .gz ends too early. Copy it again.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise KdedgeError(f"{path}: this .gz is damaged ({error}). Copy it again.") from None
    except OSError as error:
        raise KdedgeError(f"{path}: cannot be read: {error.strerror}.") from None


def _check_size(path: Path, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise KdedgeError(
            f"{path}: expands to more than {MAX_FILE_BYTES:,} bytes, which is the most allowed. "
            "Split it if it is meant to."
        )


def _lines(path: Path) -> Iterator[bytes]:
    size = 0
    with _opened(path) as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            size += len(line)
            if path.suffix == ".gz":
                _check_size(path, size)
            if len(line) > MAX_LINE_BYTES:
                raise KdedgeError(
                    f"{path}: a line is longer than {MAX_LINE_BYTES:,} bytes, which is the most "
                    "allowed. Split it, or leave out what is not its text."
                )
            yield line


def _decoded(path: Path | str, lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise KdedgeError(
                f"{path}, line {number}: not UTF-8 (byte {error.object[error.start]:#04x}). "
                "Convert it, for instance with iconv -f LATIN1 -t UTF-8."
            ) from None


def _csv_rows(path: Path, lines: Iterable[str], delimiter: str) -> Iterator[Row]:
    # What a lone carriage return ends is a line as well.
    lines = (part for line in lines for part in io.StringIO(line, newline=""))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    # A row in quotes can go over many lines: messages name its first.
    line = 1
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise KdedgeError(f"{path}, line 1: a column name occurs twice: {', '.join(header)}.")
        line = reader.line_num + 1
        for values in reader:
            where = f"{path}, line {line}"
            line = reader.line_num + 1
            if not values:
                continue
            if len(values) != len(header):
                raise KdedgeError(
                    f"{where}: {len(values)} fields where the header has {len(header)}. "
                    f"{QUOTING_HINT}"
                )
            yield Row(where, dict(zip(header, values, strict=True)))
    except csv.Error as error:
        raise KdedgeError(f"{path}, line {line}: broken row: {error}. {QUOTING_HINT}") from None


def _json_rows(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line:
            continue
        where = f"{path}, line {number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise KdedgeError(f"{where}: not JSON: {error}. A line is one JSON object.") from None
        if not isinstance(fields, dict):
            raise KdedgeError(f"{where}: {line:.40} is no JSON object. A line is one JSON object.")
        yield Row(where, fields)


def _text_rows(path: Path | str, lines: Iterable[str]) -> Iterator[Row]:
    # Not splitlines: it also splits at form feeds and other characters that texts may have.
    parts = (part for line in lines for part in io.StringIO(line, newline=None))
    for number, line in enumerate(parts, 1):
        yield Row(f"{path}, line {number}", {"text": line.removesuffix("\n")})


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise KdedgeError(f"{path}: Parquet needs pip install 'kdedge[train]'.") from None
    source: Any = path
    if path.suffix == ".gz":
        with _opened(path) as compressed:
            content = compressed.read(MAX_FILE_BYTES + 1)
        _check_size(path, len(content))
        source = pa.BufferReader(content)
    try:
        strings = [f.name for f in pq.read_schema(source) if pa.types.is_string(f.type)]
        # A text that occurs a million times is stored once: count before they are laid out.
        size = 0
        with pq.ParquetFile(source, read_dictionary=strings) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                size += table.nbytes + sum(_laid_out(table[name]) for name in strings)
                _check_size(path, size)
        with pq.ParquetFile(source) as file:
            batches = file.iter_batches(PARQUET_ROWS_AT_ONCE)
            rows = (fields for batch in batches for fields in batch.to_pylist())
            for number, fields in enumerate(rows, 1):
                yield Row(f"{path}, row {number}", fields)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise KdedgeError(f"{path}: not a readable Parquet file: {error}") from None


def _laid_out(column: Any) -> int:
    """Bytes of all strings of a dictionary-encoded column."""
    import pyarrow.compute as pc

    return sum(
        pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0
        for chunk in column.chunks
    )


def _need_columns(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    # JSON objects can differ in their fields: a column is there if any row has it.
    there = dict.fromkeys(name for row in rows for name in row.fields)
    for column in columns:
        if column not in there:
            raise KdedgeError(f"{path}: no column {column!r}. There are: {', '.join(there)}.")


def _need_unique(rows: Sequence[Row], column: str) -> None:
    first: dict[str, str] = {}
    for row in rows:
        value = str(row.fields.get(column))
        if value in first:
            raise KdedgeError(
                f"{row.where}: {column} {value!r} again, first at {first[value]}. "
                "Each may occur once."
            )
        first[value] = row.where


def _label(row: Row, column: str) -> str | None:
    label = row.fields.get(column)
    if label is None or not str(label).strip():
        return None
    # bool is a kind of int.
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise KdedgeError(
            f"{row.where}: {column} is {label!r:.40}; a name or a whole number is needed."
        )
    return str(label)


def _part(row: Row, column: str) -> str:
    value = str(row.fields.get(column))
    if value not in SPLITS:
        raise KdedgeError(f"{row.where}: {column} {value!r:.40}. Allowed: {', '.join(SPLITS)}.")
    return SPLITS[value]


def _divide(
    path: Path,
    names: Sequence[str],
    parts: npt.NDArray[np.str_],
    labels: npt.NDArray[np.int32],
    shares: dict[str, float],
    rng: np.random.Generator,
) -> None:
    """Move shares of each label's training rows to other parts, at least one row to each."""
    for label in np.unique(labels[parts == "train"]):
        rows = rng.permutation(np.flatnonzero((parts == "train") & (labels == label)))
        counts = [max(1, round(share * len(rows))) for share in shares.values()]
        if sum(counts) >= len(rows):
            raise KdedgeError(
                f"{path}: label {names[label]!r} has {len(rows)} rows, which leaves none for train "
                f"after {' and '.join(shares)}. Add rows (each label needs at least "
                f"{len(shares) + 1}), lower the fractions or leave the label out."
            )
        start = 0
        for part, count in zip(shares, counts, strict=True):
            parts[rows[start : start + count]] = part
            start += count


def _smaller(split: Split, size: int | None, seed: int) -> Split:
    if size is None or size >= len(split):
        return split
    rng = np.random.default_rng(seed)
    # Each label's rows in random order, from 0 to 1; the first of all labels laid side by side.
    rank = np.empty(len(split))
    for label in np.unique(split.labels):
        rows = np.flatnonzero(split.labels == label)
        rank[rows] = rng.permutation(len(rows)) / len(rows)
    chosen = np.sort(np.argsort(rank, kind="stable")[:size])
    return Split(tuple(split.texts[i] for i in chosen), split.labels[chosen])
