"""Reads the rows of CSV, TSV, JSON, Parquet, fastText and plain text files, also gzipped."""

import functools
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from kdedge.errors import KdedgeError, listed
from kdedge.text.decoding import Tell, decoded_lines, tell_once
from kdedge.text.delimited import DELIMITERS, delimited_rows
from kdedge.text.pairs import Pair, Text, check_text

# A .gz or Parquet file that expands past this is refused: it may be a decompression bomb.
MAX_FILE_BYTES = 8 * 2**30
# Longer lines are refused, because a whole line is held in memory.
MAX_LINE_BYTES = 64 * 2**20
PARQUET_ROWS_AT_ONCE = 4096
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt")
FASTTEXT = "__label__"
# First bytes of files that are not text, and what to do with them.
NO_TEXT = {
    b"PK\x03\x04": "a zip archive or an Excel workbook. Unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook. Save the sheet as CSV",
    b"\x1f\x8b": "gzipped, or gzipped twice. Its name must end in .gz, or unpack it",
    b"BZh": "a bzip2 file. Unpack it, or compress it with gzip",
    b"PAR1": "a Parquet file. Its name must end in .parquet",
}


@dataclass(frozen=True)
class Format:
    """Format of a text file. A value of None is detected, and shown if it is unusual.

    Attributes:
        encoding: a name that Python knows, for instance utf-8 or cp1252.
        delimiter: delimiter of .csv and .tsv files.
        quoting: whether fields of .csv and .tsv files can be in double quotes.
    """

    encoding: str | None = None
    delimiter: str | None = None
    quoting: bool | None = None


DETECTED = Format()


@dataclass(frozen=True)
class Row:
    """A row of a file.

    Attributes:
        where: file and line, or row of a Parquet file; messages begin with it.
        fields: value of each column.
    """

    where: str
    fields: dict[str, Any]

    def text(self, column: str) -> str:
        """The text in a column.

        Raises:
            KdedgeError: there is no text, or `check_text` refuses it.
        """
        text = self.fields.get(column)
        if not isinstance(text, str | None):
            raise KdedgeError(
                f"{self.where}: {column} is {text!r:.40}; a text is needed, as a string."
            )
        where = f"{self.where}, column {column!r}"
        if text is None or not text.strip():
            raise KdedgeError(
                f'{where}: the text is empty. Fill it in, or leave it out: empty_texts = "skip" in '
                "[data], or --empty-texts skip."
            )
        check_text(text, where)
        return text

    def text_of(self, columns: Sequence[str]) -> Text:
        """The text in one column, or the pair in two.

        Raises:
            KdedgeError: as `text`.
        """
        texts = [self.text(column) for column in columns]
        return Pair(*texts) if len(texts) == 2 else texts[0]

    def is_empty(self, *columns: str) -> bool:
        """Whether the text in one of the columns is missing or blank."""
        texts = [self.fields.get(column) for column in columns]
        return any(t is None or (isinstance(t, str) and not t.strip()) for t in texts)


@dataclass(frozen=True)
class LabelForm:
    """The columns of a file that have the labels.

    Attributes:
        column: column of the labels.
        delimiter: separator of several labels in that column; None for one label or a list.
        columns: columns of 0 and 1 instead of `column`; their names are the label names.
    """

    column: str = "label"
    delimiter: str | None = None
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The columns, for messages."""
        if self.columns:
            return f"columns {', '.join(map(repr, self.columns))}"
        return f"column {self.column!r}"

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that the file must have."""
        return self.columns or (self.column,)

    @property
    def by_setting(self) -> dict[str, tuple[str, ...]]:
        """The columns that the file must have, by the setting that names them."""
        return {"label_columns" if self.columns else "label": self.needed}

    def of(self, row: Row) -> tuple[Any, str]:
        """The label of a row as `Task.parse` takes it, and its position.

        Raises:
            KdedgeError: a column of 0 and 1 has something else.
        """
        if self.columns:
            return self._of_columns(row), f"{row.where}: the labels"
        value, where = row.fields.get(self.column), f"{row.where}: {self.column}"
        if self.delimiter and isinstance(value, str):
            delimiter = "\t" if self.delimiter == "tab" else self.delimiter
            value = [part.strip() for part in value.split(delimiter)] if value.strip() else []
        return value, where

    def _of_columns(self, row: Row) -> list[str] | None:
        # Spaces around the numbers are ignored.
        fields = {name: row.fields.get(name) for name in self.columns}
        values = {n: v.strip() if isinstance(v, str) else v for n, v in fields.items()}
        empty = [name for name, value in values.items() if value is None or value == ""]
        if len(empty) == len(values):
            return None
        for name, value in values.items():
            if name in empty or str(value).lower() not in ZERO_OR_ONE:
                raise KdedgeError(
                    f"{row.where}: {name} is {value!r:.40}; 0 or 1 is needed in each of the "
                    f"{self}, or nothing in all of them."
                )
        return [name for name, value in values.items() if ZERO_OR_ONE[str(value).lower()]]


ZERO_OR_ONE = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def text_columns(text: str, pair: str | None = None) -> dict[str, tuple[str, ...]]:
    """The columns of the texts, by the setting that names them."""
    return {"text": (text,), **({"text_pair": (pair,)} if pair else {})}


class TextFiles:
    """The texts of one or more files; each iteration reads the files again.

        >>> from pathlib import Path
        >>> _ = Path("texts.txt").write_text("a moving film\\na waste of time\\n")
        >>> list(TextFiles(Path("texts.txt")))
        ['a moving film', 'a waste of time']

    Args:
        path: a file as for `load_corpus`, a `.txt` with one text on each line, a folder of such
            files, or a pattern such as `texts/*.parquet`. Files are read in the order of names.
        text: column of the texts; not used for `.txt`.
        form: format of the files.
        empty: `error`, or `skip` to leave out rows without text.
        pair: column of the second texts, for pairs.

    Attributes:
        empty_seen: number of rows that the last iteration left out.

    Raises:
        KdedgeError: no such file; during iteration also those of `load_corpus`.
    """

    def __init__(
        self,
        path: Path,
        text: str = "text",
        form: Format = DETECTED,
        empty: Literal["error", "skip"] = "error",
        pair: str | None = None,
    ) -> None:
        self.path, self.files = path, _files(path)
        self.text, self.form, self.empty, self.pair = text, form, empty, pair
        self.empty_seen = 0

    def __iter__(self) -> Iterator[Text]:
        return (row.text_of(columns) for row, columns in self._rows({}))

    def with_labels(
        self, label: LabelForm, wanted: Callable[[Row], bool] = lambda _: True
    ) -> Iterator[tuple[Text, tuple[Any, str]]]:
        """Each text or pair with its label, of the rows that are wanted.

        Raises:
            KdedgeError: as during iteration, or as `LabelForm.of`.
        """
        return (
            (row.text_of(columns), label.of(row))
            for row, columns in self._rows(label.by_setting)
            if wanted(row)
        )

    def tell_empty(self) -> None:
        """Show how many rows without text the last iteration left out, if any."""
        if self.empty_seen:
            tell_once(f"{self.path}: empty texts left out: {self.empty_seen:,}")

    def _rows(self, needed: Mapping[str, Sequence[str]]) -> Iterator[tuple[Row, tuple[str, ...]]]:
        """Each row with text, and the columns of the text.

        Raises:
            KdedgeError: a file lacks one of these columns or one of `needed`.
        """
        self.empty_seen = 0
        for path in self.files:
            column = "text" if _suffix(path) == ".txt" else self.text
            columns = (column, self.pair) if self.pair else (column,)
            of_texts: Mapping[str, Sequence[str]] = text_columns(*columns)
            at_once, later = {**of_texts, **needed}, dict[str, Sequence[str]]()
            # JSON objects can have different fields: one of them must have the needed ones.
            if _suffix(path).startswith(".json"):
                later, at_once = at_once, {} if self.empty == "skip" else {**of_texts}
            fields = dict[str, Any]()
            for number, row in enumerate(iter_rows(path, self.form)):
                if number == 0:
                    need_columns(path, [row], at_once)
                if later:
                    fields |= row.fields
                if self.empty == "skip" and row.is_empty(*columns):
                    self.empty_seen += 1
                else:
                    yield row, columns
            if fields:
                need_columns(path, [Row("", fields)], later)


def read_texts(
    path: Path,
    text: str = "text",
    form: Format = DETECTED,
    empty: Literal["error", "skip"] = "error",
    pair: str | None = None,
) -> list[Text]:
    """The texts or pairs of `TextFiles` as a list; the number of empty ones is shown.

    Raises:
        KdedgeError: as `TextFiles`.
    """
    files = TextFiles(path, text, form, empty, pair)
    texts = list(files)
    files.tell_empty()
    return texts


def split_lines(content: bytes, source: str, encoding: str | None = None) -> tuple[list[str], int]:
    """Split bytes into texts, one on each line, and count the empty lines that are left out.

    Args:
        content: for instance the bytes of standard input.
        source: name for messages.
        encoding: a name that Python knows, for instance utf-8 or cp1252; None detects it.

    Raises:
        KdedgeError: unknown encoding, or a line is refused by `check_text`.
    """
    lines = decoded_lines(source, lambda: io.BytesIO(content), encoding)
    rows = list(_text_rows(source, lines))
    texts = [row.text("text") for row in rows if not row.is_empty("text")]
    return texts, len(rows) - len(texts)


def read_rows(path: Path, form: Format = DETECTED) -> list[Row]:
    """The rows of `iter_rows` as a list.

    Raises:
        KdedgeError: as `iter_rows`.
    """
    return list(iter_rows(path, form))


def iter_rows(path: Path, form: Format = DETECTED, tell: Tell = tell_once) -> Iterator[Row]:
    """Iterate over the rows of any kind of file that `TextFiles` takes.

    Args:
        path: path of one file.
        form: format of the file.
        tell: called with a line if the detected format is unusual.

    Raises:
        KdedgeError: as `load_corpus`, or the file has no rows.
    """
    suffix = _suffix(path)
    if path.is_dir():
        raise KdedgeError(f"{path}: a folder. One file is needed here.")
    if not path.is_file():
        raise KdedgeError(f"{path}: no such file.")
    if suffix != ".parquet":
        _check_is_text(path)

    # The format may be detected before the file is read.
    tell = functools.cache(tell)

    def lines() -> Iterator[str]:
        return decoded_lines(path, lambda: _lines(path), form.encoding, tell)

    rows: Iterator[Row]
    if is_delimited(path):
        usual = _usual_delimiter(path)
        found = delimited_rows(path, lines, usual, form.delimiter, form.quoting, tell)
        rows = (Row(where, fields) for where, fields in found)
    elif suffix == ".parquet":
        rows = _parquet_rows(path)
    elif suffix in (".jsonl", ".json") and _first_character(lines()) == "[":
        rows = _json_list_rows(path, lines())
    elif suffix in (".jsonl", ".json"):
        rows = _json_rows(path, lines())
    else:
        rows = _text_rows(path, lines())
    row = None
    for row in rows:
        yield row
    if row is None:
        raise KdedgeError(f"{path}: no rows. At least one is needed.")


def is_delimited(path: Path) -> bool:
    """Whether a file is .csv or .tsv, also gzipped."""
    return _suffix(path) in (".csv", ".tsv")


def _usual_delimiter(path: Path) -> str:
    return "," if _suffix(path) == ".csv" else "\t"


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        names = {file: file.name.lower().removesuffix(".gz") for file in path.iterdir()}
        files = sorted(file for file, name in names.items() if name.endswith(SUFFIXES))
    elif path.is_file():
        files = [path]
    else:
        files = sorted(path.parent.glob(path.name))
    if not files:
        kinds = f", none of {', '.join(SUFFIXES)}, each also with .gz" if path.is_dir() else ""
        raise KdedgeError(f"{path}: no such file{kinds}.")
    return files


def _suffix(path: Path) -> str:
    suffix = (Path(path.stem).suffix if _is_gzipped(path) else path.suffix).lower()
    if suffix not in SUFFIXES:
        raise KdedgeError(
            f"{path}: unknown kind of file {suffix!r}. "
            f"Allowed: {', '.join(SUFFIXES)}, each also with .gz."
        )
    return suffix


def _is_gzipped(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _check_is_text(path: Path) -> None:
    with _opened(path) as file:
        head = file.read(max(map(len, NO_TEXT)))
    for begins, what in NO_TEXT.items():
        if head.startswith(begins):
            raise KdedgeError(f"{path}: not a text file, but {what}.")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with gzip.open(path) if _is_gzipped(path) else path.open("rb") as file:
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
            "If that is right, split the file."
        )


def _lines(path: Path) -> Iterator[bytes]:
    size = 0
    with _opened(path) as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            size += len(line)
            if _is_gzipped(path):
                _check_size(path, size)
            if len(line) > MAX_LINE_BYTES:
                raise KdedgeError(
                    f"{path}: a line is longer than {MAX_LINE_BYTES:,} bytes, which is the most "
                    "allowed. Split the text, or remove columns that are not needed."
                )
            yield line


def _json_rows(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line:
            continue
        where = f"{path}, line {number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise KdedgeError(
                f"{where}: not JSON: {error}. Each line must be one JSON object and nothing else, "
                "or the whole file a list of objects."
            ) from None
        if not isinstance(fields, dict):
            raise KdedgeError(f"{where}: {line:.40} is not a JSON object. Each line must be one.")
        yield Row(where, fields)


def _first_character(lines: Iterable[str]) -> str:
    return next((line.lstrip()[0] for line in lines if line.strip()), "")


def _json_list_rows(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    try:
        items = json.loads("".join(lines))
    except (ValueError, RecursionError) as error:
        raise KdedgeError(f"{path}: not JSON: {error}. A list of JSON objects is needed.") from None
    for number, fields in enumerate(items, 1):
        where = f"{path}, item {number}"
        if not isinstance(fields, dict):
            raise KdedgeError(f"{where}: {fields!r:.40} is not a JSON object. Each item must be.")
        yield Row(where, fields)


def _text_rows(path: Path | str, lines: Iterable[str]) -> Iterator[Row]:
    # str.splitlines also splits at form feeds and other characters of texts.
    parts = (part for line in lines for part in io.StringIO(line, newline=None))
    fasttext: bool | None = None
    for number, line in enumerate(parts, 1):
        where, text = f"{path}, line {number}", line.removesuffix("\n")
        if fasttext is None and text.strip():
            fasttext = text.startswith(FASTTEXT)
        yield Row(where, _fasttext_fields(where, text) if fasttext else {"text": text})


def _fasttext_fields(where: str, line: str) -> dict[str, Any]:
    """The text, and the label or a list of several; an empty line has neither."""
    labels, text = list[str](), line
    while text.startswith(FASTTEXT):
        label, *rest = re.split(r"[ \t]", text, maxsplit=1)
        labels.append(label.removeprefix(FASTTEXT))
        text = rest[0].lstrip() if rest else ""
    if line.strip() and not labels:
        raise KdedgeError(
            f"{where}: {line!r:.40}. Each line must begin with {FASTTEXT}NAME and a space, because "
            "the first line does."
        )
    if re.search(rf"\s{FASTTEXT}\S", text):
        raise KdedgeError(
            f"{where}: {text!r:.40} has a label after the text begins. Move all labels to the "
            "beginning of the line."
        )
    return {"text": text, "label": labels if len(labels) > 1 else "".join(labels)}


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise KdedgeError(f"{path}: Parquet needs pip install 'kdedge[train]'.") from None
    source: Any = path
    if _is_gzipped(path):
        with _opened(path) as compressed:
            content = compressed.read(MAX_FILE_BYTES + 1)
        _check_size(path, len(content))
        source = pa.BufferReader(content)
    try:
        schema = pq.read_schema(source)
        if len({*schema.names}) < len(schema.names):
            raise KdedgeError(
                f"{path}: two columns have the same name. There are: {listed(schema.names)}. "
                "Rename or remove one of them."
            )
        strings = [field.name for field in schema if pa.types.is_string(field.type)]
        # Repeated texts are stored once: check the size before they are expanded.
        size = 0
        with pq.ParquetFile(source, read_dictionary=strings) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                size += table.nbytes + sum(_expanded_bytes(table[name]) for name in strings)
                _check_size(path, size)
        with pq.ParquetFile(source) as file:
            names = _class_names(file.schema_arrow.metadata or {})
            for column, labels in names.items():
                if len({*labels}) < len(labels):
                    raise KdedgeError(
                        f"{path}: {column}: two classes have the same name. There are: "
                        f"{listed(labels)}. Rename one of them."
                    )
            batches = file.iter_batches(PARQUET_ROWS_AT_ONCE)
            rows = (fields for batch in batches for fields in batch.to_pylist())
            for number, fields in enumerate(rows, 1):
                where = f"{path}, row {number}"
                named = {key: _named(where, key, fields.get(key), names[key]) for key in names}
                yield Row(where, fields | named)
    except OverflowError as error:
        raise KdedgeError(
            f"{path}: a date or time that Python can't read ({error}). Remove its column, or "
            "correct it."
        ) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise KdedgeError(f"{path}: not a readable Parquet file: {error}") from None


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Label names of the columns of ClassLabel, or lists of it, of Hugging Face datasets."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        stored = {column: _item(feature) for column, feature in features.items()}
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in stored.items()
            if feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return {}


def _item(feature: Any) -> Any:
    """The feature of the items if a feature of Hugging Face datasets is a list, or the feature."""
    return feature[0] if isinstance(feature, list) else feature.get("feature", feature)


def _named(where: str, column: str, number: Any, names: Sequence[str]) -> Any:
    if isinstance(number, list):
        return [_named(where, column, one, names) for one in number]
    # datasets uses -1 for no label.
    if number is None or number == -1:
        return None
    if not isinstance(number, int) or not 0 <= number < len(names):
        raise KdedgeError(
            f"{where}: {column} is {number!r}, but the file names the classes 0 to "
            f"{len(names) - 1}."
        )
    return names[number]


def _expanded_bytes(column: Any) -> int:
    """Size in bytes of a dictionary-encoded column after expansion."""
    import pyarrow.compute as pc

    return sum(
        pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0
        for chunk in column.chunks
    )


def need_columns(path: Path, rows: Sequence[Row], columns: Mapping[str, Sequence[str]]) -> set[str]:
    """Check that a file has the columns that settings name, and return its other columns.

    Args:
        path: the file, for messages.
        rows: rows of the file.
        columns: names of columns, by the setting of [data] that names them.

    Raises:
        KdedgeError: a column is missing, or named twice.
    """
    # JSON objects can have different fields: it is enough that one row has the column.
    there = dict.fromkeys(name for row in rows for name in row.fields)
    used = dict[str, str]()
    for setting, names in columns.items():
        for column in names:
            if column in used:
                twice = f"{used[column]} and {setting}" if used[column] != setting else setting
                raise KdedgeError(
                    f"{twice}: column {column!r} is named twice. Each needs a column of its own."
                )
            used[column] = setting
            if column not in there:
                several = _several_columns(path, there)
                raise KdedgeError(
                    f"{path}: no column {column!r}. The columns are: {listed(there)}. Name the "
                    f"right one: {setting} in [data], --{setting.replace('_', '-')}."
                    + (
                        f" If {listed([several])} should be several columns, set delimiter in "
                        "[data], --delimiter."
                        if several
                        else ""
                    )
                )
    return {*there} - {*used}


def _several_columns(path: Path, names: Iterable[str]) -> str | None:
    """The name of a column that may be several ones, read with the wrong delimiter."""
    if not is_delimited(path):
        return None
    first, *others = names
    unusual = {*DELIMITERS} - {_usual_delimiter(path)}
    return first if not others else next((n for n in (first, *others) if unusual & {*n}), None)
