"""Decodes the bytes of a file to lines. The encoding is set, or detected by these rules:

1. A byte order mark means UTF-8, UTF-16 or UTF-32.
2. A zero in exactly one of the first two bytes means UTF-16: all files that are read here start
   with an ASCII character.
3. A file that is valid UTF-8 as a whole is UTF-8.
4. Any other file is Windows-1252 if all of this holds:
   - no line is valid UTF-8 with non-ASCII letters,
   - all bytes are defined in Windows-1252,
   - at most a quarter of the letters are non-ASCII,
   - no word has a sign such as \xb3, or a capital such as \xd5 after small letters: other encodings
     have letters and apostrophes in their place,
   - no four non-ASCII characters with two different letters follow each other.

Other files are refused. If the encoding is not UTF-8, it is shown with the first word that depends
on it.
"""

import codecs
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kdedge.errors import KdedgeError

# The longer marks first: the mark of UTF-32 starts with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8",
}
WESTERN = "cp1252"
MOST_WESTERN_LETTERS = 0.25
NO_WESTERN_WORD = re.compile(
    r"\w*(?:[A-Za-zÀ-ÿ][¡-©¬®-´¶¸¹¼-¿]+[A-Za-zÀ-ÿ]|[a-zß-ÿ][À-ÞŠŒŽŸ](?:[a-zß-ÿ]|\b))\w*"
)
NO_WESTERN_RUN = re.compile(r"[^\x00-\x7f\s]{4,}")
# Surrogate pairs in UTF-8, as Java and old databases write characters above U+FFFF.
SURROGATES = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
REMEDY = "Name the encoding (encoding in [data], or --encoding), or convert it to UTF-8."

Pieces = Callable[[], Iterable[bytes]]
Tell = Callable[[str], None]


@functools.cache
def tell_once(words: str) -> None:
    """Print a line about a file to stderr, but only once."""
    print(words, file=sys.stderr)


def decoded_lines(
    source: Path | str, pieces: Pieces, encoding: str | None = None, tell: Tell = tell_once
) -> Iterator[str]:
    r"""Decode a file line by line; "\n" ends a line and is kept.

    Args:
        source: name of the file for messages.
        pieces: called for the bytes of the file, split after each byte 10.
        encoding: a name that Python knows, for instance utf-8 or cp1252; None detects it.
        tell: called with a line if the detected encoding is not UTF-8.

    Raises:
        KdedgeError: unknown encoding, or the file has another one or one that is not detected.
    """
    name = _known(encoding) if encoding else _by_first_bytes(next(iter(pieces()), b""))
    if not encoding and name not in (None, "utf-8"):
        tell(f"{source}: read as {str(name).upper()}, by its first bytes.")
    if name is None:
        lines = _detect(source, pieces, tell)
    elif "\n".encode(name) == b"\n":
        lines = _decode_by_line(source, pieces(), name)
    else:
        lines = _decode_stream(source, pieces(), name)
    for number, line in enumerate(lines):
        yield line if number else line.removeprefix("\ufeff")


def _known(encoding: str) -> str:
    try:
        "".encode(encoding)
        # A byte order mark is removed below, in any encoding.
        return codecs.lookup(encoding).name.removesuffix("-sig")
    except (LookupError, ValueError):
        raise KdedgeError(
            f"encoding: {encoding!r} is unknown. Use for instance utf-8, utf-16, cp1252 (Windows, "
            "Western Europe), cp1250, cp1251, latin-1, shift_jis, gb18030."
        ) from None


def _by_first_bytes(head: bytes) -> str | None:
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    if len(head) < 2 or (head[0] == 0) == (head[1] == 0):
        return None
    return "utf-16-le" if head[0] else "utf-16-be"


def _decode_by_line(source: Path | str, lines: Iterable[bytes], encoding: str) -> Iterator[str]:
    """Decode an encoding in which byte 10 always ends a line."""
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise KdedgeError(
                f"{source}, line {number}: not {encoding.upper()} (byte {byte:#04x}). {REMEDY}"
            ) from None


def _decode_stream(source: Path | str, pieces: Iterable[bytes], encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    number, rest = 1, ""
    try:
        for piece in pieces:
            *whole, rest = (rest + decoder.decode(piece)).split("\n")
            for line in whole:
                yield line + "\n"
            number += len(whole)
        rest += decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise KdedgeError(
            f"{source}, near line {number}: not {encoding.upper()} ({error}). {REMEDY}"
        ) from None
    if rest:
        yield rest


def _detect(source: Path | str, pieces: Pieces, tell: Tell) -> Iterator[str]:
    """Detect an encoding without a byte order mark: UTF-8, else Windows-1252."""
    encoding, seen = "utf-8", False
    for number, line in enumerate(pieces(), 1):
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            byte = f"{error.object[error.start]:#04x}"
            why, word = ("other lines are", "") if seen else _western(pieces())
            if why:
                raise KdedgeError(
                    f"{source}, line {number}: not UTF-8 (byte {byte}), and not taken for "
                    f"Windows-1252: {why}. {REMEDY}"
                ) from None
            encoding = WESTERN
            text = line.decode(encoding)
            tell(
                f"{source}: read as Windows-1252, as line {number} is not UTF-8 (byte {byte}). "
                f"The first word with such a byte: {word!r}. If it is wrong, name the encoding: "
                "encoding in [data], or --encoding."
            )
        seen = seen or not text.isascii()
        yield text


def _western(lines: Iterable[bytes]) -> tuple[str, str]:
    """Why a file can't be Windows-1252, or ""; and its first word with a non-ASCII letter."""
    first, letters, beyond = "", 0, 0
    for number, line in enumerate(lines, 1):
        if SURROGATES.search(line):
            return f"line {number} has surrogate pairs in UTF-8: write the file as UTF-8 again", ""
        try:
            text = line.decode(WESTERN)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            return f"it does not define byte {byte:#04x} in line {number}", ""
        letters += sum(map(str.isalpha, text))
        if text.isascii():
            continue
        if _is_utf8(line):
            return f"line {number} is UTF-8", ""
        if strange := _not_western(text):
            return f"line {number} would have the word {strange!r:.40}", ""
        beyond += sum(c > "\x7f" and c.isalpha() for c in text)
        if not first:
            first = next(word for word in re.split(r"[\s,;|]+", text) if not word.isascii())
    if beyond > MOST_WESTERN_LETTERS * letters:
        return f"{beyond:,} of {letters:,} letters would be non-ASCII", ""
    return "", first[:40]


def _not_western(text: str) -> str:
    """A word that is not of a Western European language, or ""."""
    if word := NO_WESTERN_WORD.search(text):
        return word[0]
    runs = NO_WESTERN_RUN.findall(text)
    return next((run for run in runs if len({*filter(str.isalpha, run)}) > 1), "")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
