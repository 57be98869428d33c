"""Rows of CSV, TSV, JSONL, Parquet and plain text files, each also gzipped."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from kdedge.errors import KdedgeError

MAX_TEXT_CHARS = 100_000
# A .gz or Parquet file that expands past this is refused: it may be a decompression bomb.
MAX_FILE_BYTES = 8 * 2**30
# A longer line is refused, for memory holds it whole.
MAX_LINE_BYTES = 64 * 2**20
PARQUET_ROWS_AT_ONCE = 4096
SURROGATE = re.compile("[\ud800-\udfff]")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
QUOTING_HINT = (
    "A field with a delimiter, a quote or a line break in it must be in quotes, its own doubled."
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
                    need_columns(path, [row], [column])
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


def need_columns(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Check that a file has these columns.

    Raises:
        KdedgeError: one is missing.
    """
    # JSON objects can differ in their fields: a column is there if any row has it.
    there = dict.fromkeys(name for row in rows for name in row.fields)
    for column in columns:
        if column not in there:
            raise KdedgeError(f"{path}: no column {column!r}. There are: {', '.join(there)}.")
