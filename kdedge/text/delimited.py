"""Reads the rows of .csv and .tsv files. Settings that are not given are detected by these rules:

Delimiter: the one that a first line such as `sep=;` names, as Excel writes it. Else the comma of a
.csv or the tab of a .tsv, if the header has one. Else the one of comma, semicolon, tab and | that
occurs most often in the header. A line is shown unless it is the usual delimiter.

Header: the first line that is not empty.

Quoting: fields can be in double quotes. But a file with tabs is read without quoting, and a line is
shown, if all its lines have as many fields as the header and a field that is not quoted has a
quote. So a stray quote never joins lines.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from kdedge.errors import KdedgeError
from kdedge.text.decoding import Tell

DELIMITERS = (",", ";", "\t", "|")
NAMES = {"tab": "\t", r"\t": "\t"}
NAMED_DELIMITER = re.compile(r"sep=(.)[\r\n]*")
# The csv module refuses longer fields. Its own limit of 131,072 is less than raw pages have.
MAX_FIELD_CHARS = 64 * 2**20
# A column's values are kept to recognize rows: short ones, such as labels, and not all of many.
MAX_VALUE_CHARS, MOST_VALUES = 200, 10_000
DECIMAL = re.compile(r"[+-]?[0-9]*\.[0-9]+")
QUOTED_FIELD = re.compile(r'"(?:[^"]|"")*"')
QUOTING_HINT = (
    "A field with a delimiter, a quote or a line break in it must be in quotes, with its own "
    "quotes doubled. If quotes have no meaning in this file: quoting = false in [data], or "
    "--quoting false."
)


def delimited_rows(
    path: Path,
    lines: Callable[[], Iterable[str]],
    usual: str,
    delimiter: str | None,
    quoting: bool | None,
    tell: Tell,
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the position of each row, for messages, and its fields by column.

    Args:
        path: path of the file, for messages.
        lines: called for the lines of the file.
        usual: the usual delimiter of this kind of file.
        delimiter: the delimiter; None detects it.
        quoting: whether fields can be in double quotes; None detects it.
        tell: called with a line if the detected format is unusual.

    Raises:
        KdedgeError: a row does not match the header, or a quote is not closed.
    """

    def parts() -> Iterator[str]:
        # A lone carriage return ends a line too.
        return (part for line in lines() for part in io.StringIO(line, newline=""))

    # Lines before the header: empty ones, and that of Excel.
    first = 0
    for text in parts():
        if named := NAMED_DELIMITER.fullmatch(text):
            if delimiter is None:
                delimiter = named[1]
                tell(f"{path}: the delimiter is {delimiter!r}, as line {first + 1} says.")
        elif text.strip("\r\n"):
            break
        first += 1
    else:
        return

    def rows() -> Iterator[str]:
        return islice(parts(), first, None)

    if delimiter is None:
        delimiter = _delimiter(path, next(rows()), usual, tell)
    else:
        delimiter = NAMES.get(delimiter, delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise KdedgeError(f"delimiter: {delimiter!r}. One character is needed, or tab.")
    detected = quoting is None
    if quoting is None:
        quoting = delimiter != "\t" or _quoted(path, rows(), tell)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARS))
    if quoting:
        reader = csv.reader(rows(), delimiter=delimiter, strict=True)
    else:
        reader = csv.reader(rows(), delimiter=delimiter, quoting=csv.QUOTE_NONE)
    # A quoted row can have many lines: messages name the first.
    line = first + 1
    try:
        header = next(reader)
        if doubles := {name for name in header if header.count(name) > 1}:
            raise KdedgeError(
                f"{path}, line {line}: the header has the column "
                f"{' and '.join(map(repr, sorted(doubles)))} twice. Rename or remove one of them."
            )
        line = first + reader.line_num + 1
        joined = _JoinedRows(len(header), delimiter) if detected and quoting else None
        for values in reader:
            where = f"{path}, line {line}"
            line = first + reader.line_num + 1
            if not values:
                # In a file with one column, an empty line is an empty field.
                if len(header) > 1:
                    continue
                values = [""]
            if len(values) != len(header):
                raise KdedgeError(
                    f"{where}: {len(values)} fields where the header has {len(header)}, "
                    f"{delimiter.join(values)!r:.60} under {delimiter.join(header)!r:.60}. "
                    f"{QUOTING_HINT} If {delimiter!r} is not the delimiter, name it: delimiter in "
                    "[data], or --delimiter."
                )
            if (
                joined
                and delimiter == "\t"
                and any("\t" in v and ("\n" in v or "\r" in v) for v in values)
            ):
                raise KdedgeError(
                    f"{where}: a quote opens a field of several lines with tabs in it. If that is "
                    "right: quoting = true in [data], or --quoting true. If quotes have no meaning "
                    "in this file, set it to false."
                )
            if joined:
                joined.add(where, values)
            yield where, dict(zip(header, values, strict=True))
        if joined:
            joined.check()
    except csv.Error as error:
        raise KdedgeError(f"{path}, line {line}: broken row: {error}. {QUOTING_HINT}") from None


class _JoinedRows:
    """Finds rows inside of a field, which a stray quote has joined.

    The first line of such a field is the end of a row, the last line the start of one, and those
    between are whole rows. A line looks like that if its number of fields is right, and one of
    them, for instance a label, is a value of its column too. Columns whose values all differ, such
    as numbers of rows, show nothing. Numbers with a point count as equal, since scores can all be
    different.

    Args:
        columns: number of columns of the file.
        delimiter: delimiter of the file.
    """

    def __init__(self, columns: int, delimiter: str) -> None:
        self._delimiter = delimiter
        self._values: list[set[str]] = [set() for _ in range(columns)]
        # Columns with a value that is there twice.
        self._repeating: set[int] = set()
        # By column and value: the position and the line that look like a row if that is one.
        self._found: dict[tuple[int, str], tuple[str, str]] = {}

    def add(self, where: str, values: Sequence[str]) -> None:
        """Add a row.

        Raises:
            KdedgeError: one of its fields contains a row.
        """
        for column, value in enumerate(values):
            known, alike = self._values[column], _alike(value)
            if alike in known:
                self._repeating.add(column)
            elif alike and len(known) < MOST_VALUES:
                known.add(alike)
        for column, value in enumerate(values):
            if "\n" in value or "\r" in value:
                self._look(where, column, value.splitlines())

    def check(self) -> None:
        """Check the rows that were added, once the values of all are known.

        Raises:
            KdedgeError: a field contains a row.
        """
        for found in self._found:
            self._check(found)

    def _look(self, where: str, column: int, lines: Sequence[str]) -> None:
        last = len(lines) - 1
        for number, line in enumerate(lines if last > 0 else ()):
            start = column if number == 0 else 0
            end = column + 1 if number == last else len(self._values)
            fields = line.split(self._delimiter)
            if len(fields) != end - start:
                continue
            for place, field in enumerate(fields, start):
                if place != column and (alike := _alike(field)):
                    self._found.setdefault((place, alike), (where, line))
                    self._check((place, alike))

    def _check(self, found: tuple[int, str]) -> None:
        column, value = found
        if column in self._repeating and value in self._values[column]:
            where, line = self._found[found]
            raise KdedgeError(
                f"{where}: a field in quotes has several lines, and one of them, {line!r:.60}, "
                "looks like a row of the file: a stray quote? Remove it, or if the field is right: "
                "quoting = true in [data], or --quoting true. If quotes have no meaning in this "
                "file, set it to false."
            )


def _alike(value: str) -> str:
    """A value in a form that is the same for similar ones; "" for a long one."""
    value = value.strip()
    if len(value) > MAX_VALUE_CHARS:
        return ""
    return "0.0" if DECIMAL.fullmatch(value) else value


def _delimiter(path: Path, header: str, usual: str, tell: Tell) -> str:
    delimiter = usual if usual in header else max((usual, *DELIMITERS), key=header.count)
    if delimiter != usual:
        tell(f"{path}: the delimiter is {delimiter!r}, not {usual!r}, as its first line shows.")
    return delimiter


def _quoted(path: Path, lines: Iterable[str], tell: Tell) -> bool:
    """Whether quotes in a file with tabs enclose fields; else they are characters of the texts."""
    fields = stray = 0
    for number, line in enumerate(lines, 1):
        values = line.rstrip("\r\n").split("\t")
        if values == [""]:
            continue
        fields = fields or len(values)
        if len(values) != fields:
            return True
        if '"' in line and not stray:
            unexplained = ('"' in v and not QUOTED_FIELD.fullmatch(v) for v in values)
            stray = number if any(unexplained) else 0
    if stray:
        tell(
            f"{path}: read without quoting, because each line has {fields} fields and line {stray} "
            "has a quote in a field that is not quoted. If that is wrong: quoting = true in "
            "[data], or --quoting true."
        )
    return not stray
