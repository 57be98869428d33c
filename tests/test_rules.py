"""Rules for odd rows of a corpus: what they find, change and tell."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kdedge.errors import KdedgeError
from kdedge.recipe import Data
from kdedge.text.corpus import Corpus, load_corpus
from kdedge.text.readers import Format, TextFiles, read_texts
from kdedge.text.rules import Finding, blank_ends, missing_words, near_doubles, same_text

Save = Callable[[str, list[str]], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save_lines(name: str, lines: list[str]) -> Path:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return save_lines


def found(corpus: Corpus) -> dict[str, int]:
    return {finding.kind: finding.count for finding in corpus.findings}


def texts(corpus: Corpus) -> list[tuple[str, ...]]:
    return [split.texts for split in (corpus.train, corpus.valid, corpus.test)]


def rows(*extra: str) -> list[str]:
    return [
        "text,label,part",
        *(
            f"{part} {label},{label},{part}"
            for part in ("train", "valid", "test")
            for label in "ab"
        ),
        *extra,
    ]


def test_what_is_held_out_is_left_out_of_train(save: Save) -> None:
    extra = [
        "test a,a,train",
        " TEST  A,a,train",
        "valid b,b,train",
        "test b,b,valid",
        "new,a,train",
    ]
    told: list[str] = []
    path = save("c.csv", rows(*extra))
    corpus = load_corpus(path, split="part", tell=told.append)
    assert texts(corpus) == [
        ("train a", "train b", "new"),
        ("valid a", "valid b"),
        ("test a", "test b"),
    ]
    assert corpus.train.labels.tolist() == [0, 1, 0]
    assert found(corpus) == {"in valid and held out": 1, "in train and held out": 3}
    assert told == [
        f"{path}: rows of valid with a text of test: 1, left out of valid. For instance {path}, "
        "line 11: 'test b'.",
        f"{path}: rows of train with a text of valid or test: 3, left out of train. For instance "
        f"{path}, line 8: 'test a'.",
    ]


def test_unlabelled_texts_that_are_held_out_are_left_out(save: Save) -> None:
    more = save("more.txt", ["Test A", "train a", "fresh"])
    corpus = load_corpus(
        save("c.csv", rows("x,,train", "valid b,,train")), split="part", unlabelled=more
    )
    assert corpus.unlabelled == ("x", "train a", "fresh")
    assert found(corpus) == {"unlabelled and held out": 2}


def test_equal_texts_go_to_the_same_split(save: Save) -> None:
    lines = [f"{text} {i},{text}" for _ in range(3) for i in range(20) for text in "ab"]
    corpus = load_corpus(save("c.csv", ["text,label", *lines]))
    parts = [{*part} for part in texts(corpus)]
    assert parts[0].isdisjoint(parts[1] | parts[2]) and parts[1].isdisjoint(parts[2])
    assert [len(part) for part in parts] == [28, 4, 8]
    assert [len(part) for part in texts(corpus)] == [84, 12, 24]
    assert found(corpus) == {"copies in train": 56, "copies in valid": 8, "copies in test": 16}
    # A corpus without copies is split as it would be without the rule.
    alone = load_corpus(save("c.csv", ["text,label", *lines[:40]]))
    assert texts(alone) == [tuple(dict.fromkeys(part)) for part in texts(corpus)]
    assert alone.findings == ()


def test_a_column_with_another_label_in_each_row_looks_wrong(save: Save) -> None:
    lines = ["text,label", *(f"word{i},{i}" for i in range(9))]
    with pytest.raises(KdedgeError, match="Or is it the wrong column of labels"):
        load_corpus(save("c.csv", lines))


def test_copies_do_not_make_a_class_large_enough(save: Save) -> None:
    lines = [*(f"{i},a" for i in range(9)), *["x,b"] * 5, "y,b"]
    with pytest.raises(
        KdedgeError, match="too few rows with different texts: label 'b' has 2. Each label"
    ):
        load_corpus(save("c.csv", ["text,label", *lines]))


def test_contradictions_are_counted_and_kept_or_dropped(save: Save) -> None:
    extra = ["odd,a,train", "Odd ,b,train", "odd,a,train", "train a,b,train", "same,a,train"]
    path = save("c.csv", rows(*extra, "same,a,train"))
    corpus = load_corpus(path, split="part")
    assert found(corpus) == {"contradictions": 2, "copies in train": 4}
    assert corpus.findings[0].example == f"{path}, line 8: 'odd' is a, in {path}, line 9 b"
    assert corpus.findings[0].done.startswith("kept; contradictions")
    assert len(corpus.train) == 8
    dropped = load_corpus(path, split="part", contradictions="drop")
    assert dropped.train.texts == ("train b", "same", "same")
    assert found(dropped) == {"contradictions": 2, "copies in train": 1}
    assert dropped.findings[0].done == "left out, all rows of them"


def test_contradictions_over_splits(save: Save) -> None:
    path = save("c.csv", rows("test a,b,train", "new,a,train"))
    kept = load_corpus(path, split="part")
    assert found(kept) == {"contradictions": 1, "in train and held out": 1}
    assert kept.test.texts == ("test a", "test b")
    assert load_corpus(path, split="part", contradictions="drop").test.texts == ("test b",)


def test_a_split_that_is_emptied_says_why(save: Save) -> None:
    path = save("c.csv", [*rows()[:3], *rows()[5:], "test a,a,dev", "test b,b,dev"])
    with pytest.raises(KdedgeError, match="no labelled row in valid; rows of valid with a text"):
        load_corpus(path, split="part")
    lines = ["text,label,part", "x,a,train", "t,b,train", "t,b,test", "v,a,valid"]
    with pytest.raises(KdedgeError, match=r"label 'b' is in test and not in train; rows of train"):
        load_corpus(save("c.csv", lines), split="part")


def test_empty_texts_are_an_error_or_counted(save: Save) -> None:
    path = save("c.csv", rows("  ,a,train", ",b,test", "new,a,train"))
    more = save("more.txt", ["one", "", "two"])
    with pytest.raises(KdedgeError, match="line 8, column 'text': the text is empty"):
        load_corpus(path, split="part")
    corpus = load_corpus(path, split="part", empty_texts="skip", unlabelled=more)
    assert corpus.train.texts == ("train a", "train b", "new")
    assert corpus.unlabelled == ("one", "two")
    assert corpus.findings == (
        Finding("empty texts", 2, "empty texts", f"{path}, line 8", "left out"),
    )


def test_empty_lines_of_a_file_with_one_column_are_empty_texts(save: Save) -> None:
    path = save("c.csv", ["text", "one", "", "two"])
    with pytest.raises(KdedgeError, match=r"c\.csv, line 3, column 'text': the text is empty"):
        read_texts(path)
    files = TextFiles(path, empty="skip")
    assert [*files] == ["one", "two"]
    assert files.empty_seen == 1


def test_a_csv_in_which_a_stray_quote_joins_rows_is_refused(save: Save) -> None:
    lines = [f"text {i},{'ab'[i % 2]}" for i in range(12)]
    lines[3], lines[6] = '"an opened quote,b', 'a closed one",a'
    path = save("c.csv", ["text,label", *lines])
    with pytest.raises(KdedgeError, match=r"c\.csv, line 5: .*opened quote,b', looks like a row"):
        load_corpus(path)
    assert len(load_corpus(path, quoting=False).train) == 8
    assert sum(map(len, texts(load_corpus(path, quoting=True)))) == 9
    lines = [",".join(reversed(line.split(","))) for line in lines]
    lines[3], lines[6] = 'b,"an opened quote', 'a,a closed one"'
    path = save("c.csv", ["label,text", *lines])
    with pytest.raises(KdedgeError, match=r"c\.csv, line 5: .*'a,text 4', looks like a row"):
        load_corpus(path)


def test_a_stray_quote_in_another_column(save: Save) -> None:
    """Two quotes in comments join 20 rows to one; a list of texts has no check of its own."""
    lines = [f"film {i},{'ab'[i % 2]},{'fine' if i % 3 else ''}" for i in range(40)]
    lines[9], lines[30] = 'one more,a,"see below', 'the last,b,end"'
    path = save("c.csv", ["text,label,comment", *lines])
    for read in (load_corpus, read_texts):
        with pytest.raises(KdedgeError, match=r"c\.csv, line 11: .*'film 10,a,fine', looks like"):
            read(path)
    assert len(read_texts(path, form=Format(quoting=True))) == 19
    lines = [
        f'"film {i}, of many,\nor not",{"ab"[i % 2]},"{i}, or\n{i}, it says"' for i in range(40)
    ]
    assert len(read_texts(save("c.csv", ["text,label,comment", *lines]))) == 40


def test_a_stray_quote_beside_a_label_that_is_there_once(save: Save) -> None:
    path = save("c.csv", ["text,label", "x,a", "y,a", "z,b", '"one,b', 'two",c'])
    with pytest.raises(KdedgeError, match=r"c\.csv, line 5: .*'one,b', looks like a row"):
        read_texts(path)


def test_numbers_of_rows_are_no_sign_of_a_stray_quote(save: Save) -> None:
    lines = [f'{i},"Take eggs.\n2, heat, stir\nDone.",{"ab"[i % 2]}' for i in range(9)]
    assert len(read_texts(save("c.csv", ["id,text,label", *lines]))) == 9


def test_a_stray_quote_among_scores_that_all_differ(save: Save) -> None:
    lines = [f"text {i},{i / 7}" for i in range(1, 31)]
    lines[3], lines[9] = lines[3].replace("text", '"text'), lines[9].replace("text 10", 'text 10"')
    with pytest.raises(KdedgeError, match=r"c\.csv, line 5: .*looks like a row"):
        load_corpus(save("c.csv", ["text,label", *lines]), task="regression")


def test_a_stray_quote_in_the_first_row(save: Save) -> None:
    path = save("c.csv", ["text,label", '"one,a', "two,b", 'three",a', "four,b", "five,b"])
    with pytest.raises(KdedgeError, match=r"c\.csv, line 2: .*'one,a', looks like a row"):
        read_texts(path)


@pytest.mark.parametrize("task", ["regression", "multi-label"])
def test_a_stray_quote_in_files_of_other_tasks(task: str, save: Save) -> None:
    labels = ("0.5", "3", "1.5") if task == "regression" else ("ab", "b;a", "a")
    lines = [f"text {i},{labels[i % 3]}" for i in range(30)]
    lines[3], lines[9] = lines[3].replace("text", '"text'), lines[9].replace("text 9", 'text 9"')
    path = save("c.csv", ["text,label", *lines])
    with pytest.raises(KdedgeError, match=r"c\.csv, line 5: .*looks like a row"):
        load_corpus(path, task=task, label_delimiter=";" if task == "multi-label" else None)
    texts = [f'"Dear {i},\nit was 3, or so\n",{i % 5}' for i in range(30)]
    path = save("d.csv", ["text,label", *texts])
    assert len(load_corpus(path, task="regression").train) > 0


def test_texts_of_several_lines_are_no_joined_rows(save: Save) -> None:
    lines = [f'"Dear {i},\nthanks, and so on\n",{"ab"[i % 2]}' for i in range(12)]
    corpus = load_corpus(save("c.csv", ["text,label", *lines]))
    assert len(corpus.train) == 8
    assert corpus.findings == ()


def test_near_double_labels_are_named() -> None:
    assert near_doubles(["a", "b", "0101", "101", "1", "10"]) == []
    for one, other in [
        ("neg", "neg "),
        ("neg", "Neg"),
        ("very good", "very  good"),
        ("1", "1.0"),
        ("-2.00", "-2"),
        ("é", "e\u0301"),
    ]:
        (finding,) = near_doubles(["x", one, other])
        assert (finding.kind, finding.count) == ("near-double labels", 2)
        assert finding.example == f"{one!r} and {other!r}"


def test_words_for_missing_labels_are_told() -> None:
    (finding,) = missing_words(["NaN", "good", "N/A", "nano"])
    assert (finding.count, finding.example) == (2, "'NaN', 'N/A'")
    assert missing_words(["good", "bad"]) == []


def test_labels_with_blanks_at_their_ends() -> None:
    (finding,) = blank_ends([' "bad"', "very good"])
    assert (finding.count, finding.example) == (1, repr(' "bad"'))
    assert blank_ends(["very good"]) == []


def test_near_doubles_are_told_and_stay(save: Save) -> None:
    lines = [f"{i},{['neg', 'neg ', 'pos'][i % 3]}" for i in range(12)]
    told: list[str] = []
    corpus = load_corpus(save("c.csv", ["text,label", *lines]), tell=told.append)
    assert corpus.task.output_names == ("neg", "neg ", "pos")
    assert "labels that are nearly the same: 2, kept as different classes" in told[0]
    assert told[0].endswith("For instance 'neg' and 'neg '.")


def test_equal_texts() -> None:
    assert same_text(" A\tb\n c") == same_text("a B C") == "a b c"
    assert same_text("naïve") != same_text("naive")


def test_a_recipe_and_load_corpus_take_the_same(save: Save) -> None:
    import inspect

    python = {*inspect.signature(load_corpus).parameters} - {"seed", "tell"}
    assert python == {*Data.model_fields} - Data.NO_CORPUS
    for name, field in Data.model_fields.items():
        if name in python and name != "path":
            assert inspect.signature(load_corpus).parameters[name].default == field.default


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a  fine Film", "A FINE FILM "),
        ("caf\u00e9", "cafe\u0301"),
        ("fine\u200b film\u200f", "fine film"),
        ("inter\u00adesting", "interesting"),
        ("\ufefffine", "fine"),
    ],
)
def test_texts_that_look_alike_are_the_same(one: str, other: str) -> None:
    assert same_text(one) == same_text(other)


def test_texts_that_look_different_are_not_the_same() -> None:
    looks = ["cafe", "caf\u00e9", "cafe!", "ca fe", "\u0643\u0627\u0641\u064a\u0647"]
    assert len({*map(same_text, looks)}) == 5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pos", "\u200fpos"),
        ("pos", "po\u200bs"),
        ("don't", "don\u2019t"),
        ("a-b", "a\u2013b"),
        ("1", "+1"),
        ("1", "1.0"),
        ("-1", "-1.00"),
    ],
)
def test_labels_that_are_hard_to_tell_apart_are_told(one: str, other: str) -> None:
    assert [finding.count for finding in near_doubles([one, other, "2", "0101", "101"])] == [2]


def test_labels_that_are_several_are_told(save: Save) -> None:
    lines = ["text,label", *(f"text {i},{['a;b', 'b', 'c d', 'e'][i % 4]}" for i in range(24))]
    corpus = load_corpus(save("c.csv", lines))
    assert found(corpus) == {"joined labels": 1}
    assert corpus.task.output_names == ("a;b", "b", "c d", "e")
