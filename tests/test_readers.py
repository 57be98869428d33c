"""Files in all their forms: encodings, delimiters, quotes, JSON, Parquet and plain text."""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdedge.errors import KdedgeError
from kdedge.text.readers import Format, LabelForm, Row, TextFiles, iter_rows, read_texts

Save = Callable[[str, str | bytes], Path]
# Common characters that Windows-1252 has in bytes that are not valid UTF-8.
LINES = "text,label\r\nit’s €5 – “naïve” café,a\r\nplain,b\r\nfür Ümläute,a\r\n"


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return save_file


def read(path: Path, **form: str | bool) -> tuple[list[Row], list[str]]:
    """The rows, and the messages."""
    told: list[str] = []
    rows = list(iter_rows(path, Format(**form), told.append))  # type: ignore[arg-type]
    return rows, told


def fields(path: Path, **form: str | bool) -> list[list[object]]:
    return [list(row.fields.values()) for row in read(path, **form)[0]]


# Encodings

EXPECTED = [["it’s €5 – “naïve” café", "a"], ["plain", "b"], ["für Ümläute", "a"]]


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", "read as UTF-16, by its first bytes"),
        ("utf-16-le", "read as UTF-16-LE, by its first bytes"),
        ("utf-16-be", "read as UTF-16-BE, by its first bytes"),
        ("utf-32", "read as UTF-32, by its first bytes"),
        ("cp1252", r"read as Windows-1252, as line 2 is not UTF-8 \(byte 0x92\)\. .*'it’s'"),
    ],
)
def test_encodings_are_recognised_and_told(
    save: Save, encoding: str, told: str, request: pytest.FixtureRequest
) -> None:
    path = save("c.csv", LINES.encode(encoding))
    assert fields(path) == EXPECTED
    _, messages = read(path)
    assert len(messages) == bool(told)
    assert re.search(told, "".join(messages))
    # The same if it is set; then there is no message.
    rows, messages = read(path, encoding=encoding)
    assert [list(row.fields.values()) for row in rows] == EXPECTED
    assert not messages
    assert [row.where for row in rows] == [f"{path}, line {n}" for n in (2, 3, 4)]


def test_a_big_endian_mark_is_taken_off(save: Save) -> None:
    path = save("c.csv", b"\xfe\xff" + LINES.encode("utf-16-be"))
    assert fields(path) == EXPECTED
    assert fields(path, encoding="utf-16-be") == EXPECTED


def test_a_byte_that_is_a_line_feed_inside_a_character_ends_no_line(save: Save) -> None:
    # U+010A and U+0A05 have the byte 0x0a.
    path = save("c.csv", "text,label\nĊਅ\u0a0ax,a\n".encode("utf-16"))
    assert fields(path) == [["Ċਅ\u0a0ax", "a"]]


@pytest.mark.parametrize("kind", ["c.csv", "c.tsv", "c.jsonl", "c.json", "c.txt"])
def test_each_kind_of_text_file_is_recognised(save: Save, kind: str) -> None:
    content = {
        "c.csv": "text\nnaïve\n",
        "c.tsv": "text\nnaïve\n",
        "c.jsonl": '{"text": "naïve"}\n',
        "c.json": '[{"text": "naïve"}]',
        "c.txt": "naïve\n",
    }[kind]
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        assert fields(save(kind, content.encode(encoding))) == [["naïve"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # Russian: most letters are beyond ASCII.
        ("text\nон же на\n".encode("cp1251"), "line 2: .*6 of 10 letters would be non-ASCII"),
        # Japanese: bytes that Windows-1252 has no letter for.
        ("text\nとても良い映画\n".encode("shift_jis"), "line 2: .*not taken for Windows-1252"),
        # Polish: signs where letters are.
        ("text\nfilm był zły\n".encode("cp1250"), "line 2: .*would have the word 'z³y'"),
        ("text\nladna książka\n".encode("latin2"), "line 2: .*would have the word 'ksi±¿ka'"),
        # An old Macintosh: a capital for an apostrophe.
        ("text\nit’s late\n".encode("mac_roman"), "line 2: .*would have the word 'itÕs'"),
        (b"text\nabc \x81\n", "it does not define byte 0x81 in line 2"),
        # Two encodings in one file, in either order.
        ("text\nnaïve\n".encode() + b"caf\xe9\n", "line 3: not UTF-8.*: other lines are"),
        (b"text\ncaf\xe9\n" + "naïve\n".encode(), "line 2: not UTF-8.*: line 3 is UTF-8"),
        (b"\xef\xbb\xbftext\ncaf\xe9\n", r"line 2: not UTF-8 \(byte 0xe9\)\. Name the encoding"),
        (b"\xff\xfet\x00e\x00x\x00t\x00\n\x00\x00\xd8x\x00\n\x00", "near line 1: not UTF-16"),
    ],
)
def test_what_is_not_surely_one_is_refused(save: Save, content: bytes, message: str) -> None:
    with pytest.raises(KdedgeError, match=message):
        read(save("c.csv", content))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("\u043f\u0440\u0438\u0432\u0435\u0442", "cp1251"),
        ("\u0444\u0438\u043b\u044c\u043c", "koi8-r"),
        ("\u8fd9\u90e8\u7535\u5f71\u5f88\u597d", "gb18030"),
        ("\u6620\u753b\u306f\u3068\u3066\u3082", "shift_jis"),
        ("caf\u00e9", "mac_roman"),
    ],
)
def test_a_few_words_in_another_encoding_are_refused(save: Save, text: str, encoding: str) -> None:
    rows = f"text,label\n{'plain English ' * 9},a\n{'more of it ' * 9} {text},b\n"
    path = save("c.csv", rows.encode(encoding))
    with pytest.raises(KdedgeError, match=r"line 3: not UTF-8 .*Name the encoding"):
        read(path)
    assert text in str(fields(path, encoding=encoding)[1][0])


@pytest.mark.parametrize(
    "text",
    [
        "na\u00efve r\u00e9sum\u00e9",
        "\u00ab\u00c9t\u00e9\u2026\u00bb",
        "\u00fc\u00fc\u00fc\u00fcber",
        "\u201e\u00dcbel\u201c",
        "CAF\u00c9",
    ],
)
def test_western_words_are_recognised(save: Save, text: str) -> None:
    assert fields(save("c.csv", f"text,label\n{text} as it is,a\n".encode("cp1252"))) == [
        [f"{text} as it is", "a"]
    ]


def test_surrogate_pairs_in_utf8_are_refused(save: Save) -> None:
    emoji = "\ud83d\ude00".encode("utf-8", "surrogatepass")
    with pytest.raises(KdedgeError, match="line 2 has surrogate pairs in UTF-8: write the file"):
        read(save("c.csv", b"text,label\nfine " + emoji + b",a\n"))


def test_what_is_refused_is_read_with_its_encoding(save: Save) -> None:
    path = save("c.csv", "text\nпривет мир\n".encode("cp1251"))
    assert fields(path, encoding="cp1251") == [["привет мир"]]
    with pytest.raises(KdedgeError, match=r"'klingon' is unknown\. Use for instance utf-8"):
        read(path, encoding="klingon")
    with pytest.raises(KdedgeError, match=r"'utf.x008' is unknown\. Use for instance utf-8"):
        read(path, encoding="utf\0" + "8")
    with pytest.raises(KdedgeError, match=r"line 2: not UTF-8 \(byte 0xef\)"):
        read(path, encoding="UTF8")


# Delimiters


@pytest.mark.parametrize(
    ("name", "delimiter", "told"),
    [
        ("c.csv", ",", False),
        ("c.csv", ";", True),
        ("c.csv", "\t", True),
        ("c.csv", "|", True),
        ("c.tsv", "\t", False),
        ("c.tsv", ",", True),
    ],
)
def test_delimiters_are_recognised_and_told(
    save: Save, name: str, delimiter: str, told: bool
) -> None:
    rows = [["one; two, three", "a"], ['she said "no"', "b"], ["two\nlines", "a"]]
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows([["text", "label"], *rows])
    path = save(name, file.getvalue())
    assert fields(path) == rows
    messages = read(path)[1]
    assert [f"the delimiter is {delimiter!r}" in line for line in messages] == [True] * told


def test_a_delimiter_that_is_set(save: Save) -> None:
    path = save("c.csv", "a,b;text;label\n1;x, y;pos\n")
    assert read(path)[0][0].fields == {"a": "1;x", "b;text;label": " y;pos"}
    rows, told = read(path, delimiter=";")
    assert rows[0].fields == {"a,b": "1", "text": "x, y", "label": "pos"}
    assert not told
    tabs = save("t.txt.csv", "text\tlabel\nx\ta\n")
    for name in ("\t", "tab", r"\t"):
        assert fields(tabs, delimiter=name) == [["x", "a"]]
    for bad in ("", "ab", '"', "\n"):
        with pytest.raises(KdedgeError, match=r"delimiter: .* One character is needed, or tab"):
            read(path, delimiter=bad)


def test_a_file_of_one_column_has_no_delimiter(save: Save) -> None:
    assert fields(save("c.csv", "text\nx; y | z\n")) == [["x; y | z"]]


# Quotes


@pytest.mark.parametrize("before", [True, False])
def test_a_stray_quote_in_a_tsv_joins_no_lines(save: Save, before: bool) -> None:
    texts = ["good", '"an instant classic', *(f"text {i}" for i in range(12)), 'a mess"', "bad"]
    order = (lambda t, i: f"{i % 2}\t{t}") if before else (lambda t, i: f"{t}\t{i % 2}")
    header = "label\ttext" if before else "text\tlabel"
    path = save("t.tsv", "\n".join([header, *(order(t, i) for i, t in enumerate(texts))]) + "\n")
    rows, told = read(path)
    assert [row.fields["text"] for row in rows] == texts
    assert [row.fields["label"] for row in rows] == [str(i % 2) for i in range(16)]
    assert [row.where for row in rows] == [f"{path}, line {i}" for i in range(2, 18)]
    assert len(told) == 1
    assert "read without quoting, because each line has 2 fields and line 3 has a quote" in told[0]


@pytest.mark.parametrize(
    "text", ['"never closed', 'closed"', '5" disk', '"a" and "b"', '"', 'a""b']
)
def test_quotes_of_all_kinds_stay_in_a_tsv_without_quoting(save: Save, text: str) -> None:
    assert fields(save("t.tsv", f"text\tlabel\n{text}\ta\nx\tb\n")) == [[text, "a"], ["x", "b"]]


def test_a_tsv_in_quotes_is_read_as_one(save: Save) -> None:
    rows = [['she said "no"', "a"], ["two\nlines", "b"], ["a\ttab", "a"], ['"', "b"]]
    file = io.StringIO()
    csv.writer(file, delimiter="\t").writerows([["text", "label"], *rows])
    path = save("t.tsv", file.getvalue())
    assert fields(path) == rows
    assert read(path)[1] == []
    # The same without the rows that make lines of other lengths.
    assert fields(save("t.tsv", 'text\tlabel\n"say ""x"""\ta\n"y"\tb\n')) == [
        ['say "x"', "a"],
        ["y", "b"],
    ]


def test_a_tsv_that_could_be_either_is_refused_with_the_line(save: Save) -> None:
    # Line 6 has a field too many, so lines don't say that there is no quoting.
    content = 'text\tlabel\nx\ta\n"stray\tb\ny\ta\nclosed"\tb\nz\ta\ttoo many\n'
    path = save("t.tsv", content)
    with pytest.raises(
        KdedgeError, match=r"t\.tsv, line 3: a quote opens a field of several lines"
    ):
        read(path)
    with pytest.raises(KdedgeError, match="line 6: 3 fields where the header has 2"):
        read(path, quoting=False)
    path = save("t.tsv", content.replace("\ttoo many", ""))
    assert fields(path, quoting=True) == [["x", "a"], ["stray\tb\ny\ta\nclosed", "b"], ["z", "a"]]
    assert len(fields(path, quoting=False)) == len(fields(path)) == 5


def test_a_csv_without_quoting(save: Save) -> None:
    path = save("c.csv", 'text,label\n"x,a\ny",b\n')
    assert fields(path, quoting=False) == [['"x', "a"], ['y"', "b"]]
    assert fields(path, quoting=True) == [["x,a\ny", "b"]]


# JSON, Parquet, fastText


def test_a_json_file_is_a_list_or_has_an_object_a_line(save: Save) -> None:
    rows = [{"text": "x", "label": "a"}, {"text": "y\n", "label": 7}]
    expected = [["x", "a"], ["y\n", 7]]
    assert fields(save("c.json", json.dumps(rows))) == expected
    assert fields(save("c.json", "\n " + json.dumps(rows, indent=2))) == expected
    assert fields(save("c.json", "\n".join(map(json.dumps, rows)))) == expected
    assert read(save("c.json", json.dumps(rows)))[0][1].where.endswith("c.json, item 2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", r"c\.json, item 1: 1 is not a JSON object"),
        ('[{"text": "x"}, ]', r"c\.json: not JSON: .*A list of JSON objects is needed"),
        ('{"data": [1]}x', "line 1: not JSON"),
        ("[]", r"c\.json: no rows"),
        ("[" * 100_000, r"c\.json: not JSON"),
    ],
)
def test_bad_json_is_refused(save: Save, content: str, message: str) -> None:
    with pytest.raises(KdedgeError, match=message):
        read(save("c.json", content))


def hugging_face(path: Path, numbers: list[int | None], names: list[str]) -> Path:
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": names, "_type": "ClassLabel"},
    }
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table({"text": [f"t{i}" for i in range(len(numbers))], "label": numbers})
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


def test_class_labels_of_hugging_face_have_their_names(tmp_path: Path) -> None:
    path = hugging_face(tmp_path / "h.parquet", [1, 0, None, -1, 1], ["neg", "pos"])
    assert [row.fields["label"] for row in iter_rows(path)] == ["pos", "neg", None, None, "pos"]
    with pytest.raises(
        KdedgeError, match=r"row 2: label is 2, but the file names the classes 0 to 1"
    ):
        list(iter_rows(hugging_face(tmp_path / "h.parquet", [1, 2], ["neg", "pos"])))


def test_the_first_json_object_can_lack_the_text(save: Save) -> None:
    path = save("t.jsonl", '{"label": "a"}\n{"text": "x", "label": "b"}\n')
    assert read_texts(path, empty="skip") == ["x"]
    with pytest.raises(KdedgeError, match="no column 'review'. The columns are: label, text"):
        read_texts(path, text="review", empty="skip")


def test_a_date_before_those_of_python_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"day": pa.array([-1_000_000], pa.date32())}), tmp_path / "d.parquet")
    with pytest.raises(KdedgeError, match=r"d\.parquet: a date or time that Python can't read"):
        read(tmp_path / "d.parquet")


def test_lines_of_fasttext(save: Save) -> None:
    path = save("f.txt", "__label__pos a fine film\n__label__neg a __label__ in it\n")
    assert [row.fields for row in iter_rows(path)] == [
        {"text": "a fine film", "label": "pos"},
        {"text": "a __label__ in it", "label": "neg"},
    ]
    with pytest.raises(KdedgeError, match=r"f\.txt, line 2: .*must begin with __label__NAME"):
        read(save("f.txt", "__label__pos x\nno label\n"))
    # fastText itself takes it for a label.
    with pytest.raises(KdedgeError, match=r"line 1: 'x __label__neg' has a label after the text"):
        read(save("f.txt", "__label__pos x __label__neg\n"))
    assert fields(save("f.txt", "\n__label__pos x\n"))[1] == ["x", "pos"]
    # As long as the first line is a text, all are.
    assert fields(save("f.txt", "plain\n__label__pos x\n")) == [["plain"], ["__label__pos x"]]


def test_other_lines_of_fasttext(save: Save) -> None:
    path = save("f.txt", "__label__a\tx y\n\n__label__a __label__b  two\n__label__c\n")
    assert [row.fields for row in iter_rows(path)] == [
        {"text": "x y", "label": "a"},
        {"text": "", "label": ""},
        {"text": "two", "label": ["a", "b"]},
        {"text": "", "label": "c"},
    ]


def test_blanks_around_a_columns_name_are_seen(save: Save) -> None:
    from kdedge.text.corpus import load_corpus

    with pytest.raises(KdedgeError, match=r"no column 'label'\. The columns are: text, ' label'\."):
        load_corpus(save("c.csv", "text, label\nx, a\n"))
    with pytest.raises(
        KdedgeError, match=r"The columns are: 'text\\u200b', label\. .*: text in \[data\]"
    ):
        load_corpus(save("c.csv", "text\u200b,label\nx,a\n"))
    with pytest.raises(
        KdedgeError, match=r"The columns are: text\^label\. .*several columns, set delimiter"
    ):
        load_corpus(save("c.csv", "text^label\nx^a\n"))
    with pytest.raises(
        KdedgeError,
        match=r"If text;label should be several columns, set delimiter in \[data\], --d",
    ):
        load_corpus(save("c.csv", "text;label,b\nx;a,1\n"))
    with pytest.raises(KdedgeError, match=r"The columns are: txt, a,b\. .*, --text\.$"):
        load_corpus(save("c.csv", 'txt,"a,b"\nx,a\n'))


# Files that other programs write


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "^"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_first_line_of_excel_names_the_delimiter(
    save: Save, delimiter: str, encoding: str
) -> None:
    rows = f"sep={delimiter}\r\ntext{delimiter}label\r\nx, y; z{delimiter}a\r\n"
    path = save("c.csv", rows.replace("x, y; z", '"x, y; z"').encode(encoding))
    read_rows, told = read(path)
    assert [row.fields for row in read_rows] == [{"text": "x, y; z", "label": "a"}]
    assert read_rows[0].where == f"{path}, line 3"
    assert f"the delimiter is {delimiter!r}, as line 1 says" in " ".join(told)


def test_empty_lines_before_the_header_are_no_header(save: Save) -> None:
    rows, _ = read(path := save("c.csv", "\n\r\ntext,label\n\nx,a\n"))
    assert [(row.where, row.fields) for row in rows] == [
        (f"{path}, line 5", {"text": "x", "label": "a"})
    ]


def test_a_long_field_of_another_column_is_read(save: Save) -> None:
    assert fields(save("c.csv", f"text,page\nx,{'y' * 200_000}\n")) == [["x", "y" * 200_000]]


@pytest.mark.parametrize("name", ["C.CSV", "c.Csv", "C.CSV.GZ"])
def test_suffixes_in_capitals(save: Save, name: str) -> None:
    content = b"text,label\nx,a\n"
    path = save(name, gzip.compress(content) if name.endswith("GZ") else content)
    assert fields(path) == [["x", "a"]]
    assert list(TextFiles(path.parent)) == ["x"]


@pytest.mark.parametrize(
    ("begins", "words"),
    [
        (b"PK\x03\x04", "a zip archive or an Excel workbook. Unpack it, or save the sheet as CSV"),
        (
            gzip.compress(b"text,label\nx,a\n", mtime=0),
            r"gzipped, or gzipped twice. Its name must end in",
        ),
        (b"PAR1", r"a Parquet file\. Its name must end in \.parquet"),
        (b"BZh91AY", "a bzip2 file"),
    ],
)
def test_other_files_with_the_name_of_a_csv(save: Save, begins: bytes, words: str) -> None:
    with pytest.raises(KdedgeError, match=f"not a text file, but {words}"):
        read(save("c.csv", begins + b"\0\1\2"))
    with pytest.raises(KdedgeError, match=f"not a text file, but {words}"):
        read(save("c.csv.gz", gzip.compress(begins + b"\0\1\2")))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "c.csv").mkdir()
    with pytest.raises(KdedgeError, match=r"c\.csv: a folder\. One file is needed here\."):
        read(tmp_path / "c.csv")


@pytest.mark.parametrize(
    "feature",
    [
        lambda label: {"feature": label, "_type": "Sequence"},
        lambda label: {"feature": label, "_type": "List"},
        lambda label: [label],
    ],
)
def test_lists_of_class_labels_have_their_names(
    tmp_path: Path, feature: Callable[[dict[str, object]], object]
) -> None:
    label = {"names": ["neg", "pos"], "_type": "ClassLabel"}
    metadata = json.dumps({"info": {"features": {"label": feature(label)}}}).encode()
    table = pa.table({"text": ["x", "y", "z"], "label": [[1, 0], [], [1]]})
    pq.write_table(
        table.replace_schema_metadata({b"huggingface": metadata}), tmp_path / "h.parquet"
    )
    labels = [row.fields["label"] for row in iter_rows(tmp_path / "h.parquet")]
    assert labels == [["pos", "neg"], [], ["pos"]]


def test_equal_names_in_parquet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KdedgeError, match="label: two classes have the same name"):
        list(iter_rows(hugging_face(tmp_path / "h.parquet", [1, 0], ["x", "x"])))
    columns = [pa.array(["x"]), pa.array(["a"]), pa.array(["b"])]
    pq.write_table(
        pa.Table.from_arrays(columns, ["text", "label", "label"]), tmp_path / "h.parquet"
    )
    with pytest.raises(KdedgeError, match="two columns have the same name. There are: text, label"):
        list(iter_rows(tmp_path / "h.parquet"))


def test_json_objects_with_different_fields(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b", "label": "good"}\n')
    found = TextFiles(path).with_labels(LabelForm())
    assert [(text, label) for text, (label, _) in found] == [("a", None), ("b", "good")]
    with pytest.raises(KdedgeError, match="no column 'topic'"):
        list(TextFiles(path).with_labels(LabelForm("topic")))
