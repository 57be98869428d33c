"""Finds and counts problems in the rows of a corpus, and removes leaks between splits.

Two texts are equal if they differ only in spaces, in upper and lower case, in invisible characters
and in the Unicode form of accents.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kdedge.text.delimited import DELIMITERS
from kdedge.text.pairs import Text, in_one_line, parts_of
from kdedge.text.readers import Row

Empty = Literal["error", "skip"]
Contradictions = Literal["keep", "drop"]
WHOLE_AS_FLOAT = re.compile(r"^\+?(-?[0-9]+)(\.0*)?$")
# Soft hyphens, zero-width characters and direction marks.
INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
# Written by pandas, databases and spreadsheets.
MISSING = {"nan", "none", "null", "n/a", "na", "<na>", "#n/a", "nil", "-", "?"}
LOOK_ALIKES = str.maketrans("‐‑‒–—−‘’“”", "------''\"\"")


@dataclass(frozen=True)
class Finding:
    """A problem of the data.

    Attributes:
        kind: name for programs.
        count: number of rows, texts or labels with the problem.
        what: description; a whole sentence if `done` is "".
        example: a row, text or label with the problem, or "".
        done: what kdedge does about it, or what the user can do, or "".
        impossible: whether the recipe can't run.
    """

    kind: str
    count: int
    what: str
    example: str
    done: str
    impossible: bool = False

    @classmethod
    def of_each(
        cls, kind: str, examples: Sequence[str], what: str, done: str, shown: int | None = 1
    ) -> list["Finding"]:
        """A finding about rows, texts or labels, with the first `shown` or all; none if empty."""
        example = ", ".join(examples[:shown])
        return [cls(kind, len(examples), what, example, done)] if examples else []

    def line(self) -> str:
        """One line for a terminal."""
        if not self.done:
            return self.what
        example = f" For instance {self.example}." if self.example else ""
        return f"{self.what}: {self.count:,}, {self.done}.{example}"


def same_text(text: Text) -> str:
    """A text or pair in a form that is the same for equal texts."""
    return "\0".join(" ".join(_visible(part).split()).casefold() for part in parts_of(text))


def _visible(text: str) -> str:
    """A text without invisible characters, and with accents composed."""
    return text if text.isascii() else INVISIBLE.sub("", unicodedata.normalize("NFC", text))


def quoted(text: Text) -> str:
    """A text or a pair in one line, quoted and shortened, for messages."""
    line = in_one_line(text)
    return repr(line if len(line) <= 60 else line[:59] + "…")


def row_excerpt(row: Row, text: Text) -> str:
    """A row with its position, for messages."""
    return f"{row.where}: {quoted(text)}"


def without_empty(rows: Sequence[Row], columns: Sequence[str]) -> tuple[list[Row], list[Finding]]:
    """The rows that have a text in each of the columns, and the number of other rows."""
    kept = [row for row in rows if not row.is_empty(*columns)]
    empty = [row.where for row in rows if row.is_empty(*columns)]
    return kept, Finding.of_each("empty texts", empty, "empty texts", "left out")


def contradictions(
    rows: Sequence[Row], texts: Sequence[Text], labels: Sequence[Any], rule: Contradictions
) -> tuple[set[str], list[Finding]]:
    """The texts with different labels, in the form of `same_text`, and a finding."""
    first: dict[str, int] = {}
    found: dict[str, int] = {}
    for i, text in enumerate(map(same_text, texts)):
        if labels[first.setdefault(text, i)] != labels[i]:
            found.setdefault(text, i)
    if not found:
        return set(), []
    text, second = next(iter(found.items()))
    one, other = first[text], second
    example = f"{row_excerpt(rows[one], texts[one])} is {labels[one]}, in {rows[other].where} "
    done = (
        "left out, all rows of them"
        if rule == "drop"
        else ('kept; contradictions = "drop" in [data] leaves them out')
    )
    return {*found}, [
        Finding(
            "contradictions",
            len(found),
            "texts with different labels in different rows",
            example + f"{labels[other]}",
            done,
        )
    ]


def remove_leaks(
    parts: npt.NDArray[np.str_], rows: Sequence[Row], texts: Sequence[Text]
) -> list[Finding]:
    """Leave out training texts that are in valid or test, and valid texts that are in test.

    Args:
        parts: the split of each row; set to "" for rows that are left out.
        rows: the rows, for messages.
        texts: texts of the rows.
    """
    keys = [same_text(text) for text in texts]
    findings = []
    for part, others in (("valid", ("test",)), ("train", ("valid", "test"))):
        held_out = {keys[i] for i in np.flatnonzero(np.isin(parts, others)).tolist()}
        out = [i for i in np.flatnonzero(parts == part).tolist() if keys[i] in held_out]
        parts[out] = ""
        findings += Finding.of_each(
            f"in {part} and held out",
            [row_excerpt(rows[i], texts[i]) for i in out],
            f"rows of {part} with a text of {' or '.join(others)}",
            f"left out of {part}",
        )
    return findings


def without_held_out(
    texts: Sequence[Text], held_out: Iterable[Text]
) -> tuple[list[Text], list[Finding]]:
    """The unlabelled texts that are not in valid or test, and a finding about the others."""
    keys = {same_text(text) for text in held_out} if texts else set()
    kept, out = list[Text](), list[str]()
    for text in texts:
        if same_text(text) in keys:
            out.append(quoted(text))
        else:
            kept.append(text)
    what = "unlabelled texts that are in valid or test"
    return kept, Finding.of_each("unlabelled and held out", out, what, "left out")


def copies(
    parts: npt.NDArray[np.str_], rows: Sequence[Row], texts: Sequence[Text]
) -> list[Finding]:
    """Findings about equal texts in the same split."""
    findings = []
    for part in ("train", "valid", "test"):
        seen: set[str] = set()
        again = []
        for i in np.flatnonzero(parts == part).tolist():
            key = same_text(texts[i])
            if key in seen:
                again.append(row_excerpt(rows[i], texts[i]))
            seen.add(key)
        findings += Finding.of_each(
            f"copies in {part}",
            again,
            f"rows of {part} with the text of another row of it",
            "kept; they count as often as they are there"
            + ("; a student learns the text once, with its last label" * (part == "train")),
        )
    return findings


def near_doubles(names: Iterable[str]) -> list[Finding]:
    """A finding about labels that look nearly the same.

    They differ only in spaces, case, Unicode form, invisible characters, kinds of dashes and
    quotes, or in how a whole number is written: 1, 1.0, +1.
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        key = same_text(unicodedata.normalize("NFKC", name)).translate(LOOK_ALIKES)
        alike.setdefault(WHOLE_AS_FLOAT.sub(r"\1", key), []).append(name)
    groups = [group for group in alike.values() if len(group) > 1]
    if not groups:
        return []
    return [
        Finding(
            "near-double labels",
            sum(map(len, groups)),
            "labels that are nearly the same",
            "; ".join(" and ".join(map(repr, group)) for group in groups[:3]),
            "kept as different classes; if they mean the same, write them alike in the file",
        )
    ]


def missing_words(names: Iterable[str]) -> list[Finding]:
    """A finding about labels that programs write where a label is missing."""
    return Finding.of_each(
        "words for missing labels",
        [repr(name) for name in names if same_text(name) in MISSING],
        "labels that often stand for a missing one",
        "kept as classes; if they mean that there is no label, leave the fields empty",
        shown=None,
    )


def blank_ends(names: Iterable[str]) -> list[Finding]:
    """A finding about labels that begin or end with a blank, such as after a comma of a .csv."""
    return Finding.of_each(
        "labels with blanks",
        [repr(name) for name in names if name != name.strip()],
        "labels that begin or end with a blank",
        "kept as they are, with it; if that is wrong, remove it in the file",
        shown=3,
    )


def joined_labels(names: Sequence[str]) -> list[Finding]:
    """A finding about labels that look like several in one field."""
    known = {*names}
    joined = [
        repr(name)
        for name in names
        if any(
            len(parts := [part.strip() for part in name.split(delimiter)]) > 1
            and not known.isdisjoint(parts)
            for delimiter in (*DELIMITERS, " ")
        )
    ]
    return Finding.of_each(
        "joined labels",
        joined,
        "labels that look like several labels in one",
        'kept as they are; if they are several labels, set task = "multi-label" in [data], and '
        "label_delimiter to the character between them",
    )
