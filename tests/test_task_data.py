"""Files with several labels or a score for each text: how they are read, and errors."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from kdedge.check import check_recipe
from kdedge.errors import KdedgeError
from kdedge.recipe import Data, load_recipe
from kdedge.tasks import MultiLabel, Regression
from kdedge.text.corpus import Corpus, load_corpus

Save = Callable[[str, Sequence[str]], Path]
SPLITS = ("train", "train", "train", "valid", "test")


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save_lines(name: str, lines: Sequence[str]) -> Path:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return save_lines


def several(path: Path, **settings: Any) -> Corpus:
    return load_corpus(path, task="multi-label", split="split", **settings)


def of_each(corpus: Corpus) -> list[tuple[str, ...]]:
    """The labels of the training texts."""
    task = corpus.task
    return [task.parsed(row) for row in corpus.train.labels]


def test_labels_as_lists(save: Save) -> None:
    given = (["joy", "love"], [], [3], ["joy"], ["love"])
    rows = [
        json.dumps({"text": f"text {i}", "label": labels, "split": split})
        for i, (labels, split) in enumerate(zip(given, SPLITS, strict=True))
    ]
    # Labels that are not known (the teacher gives them) are not the same as no labels.
    rows.append(json.dumps({"text": "more", "label": None, "split": "train"}))
    corpus = several(save("t.jsonl", rows))
    assert corpus.task == MultiLabel(label_names=("3", "joy", "love"))
    assert of_each(corpus) == [("joy", "love"), (), ("3",)]
    assert corpus.unlabelled == ("more",)


def test_labels_between_delimiters(save: Save) -> None:
    lines = ["text,topics,split", "a,joy; love,train", "b,,train", "c,love,train"]
    lines += ["d,joy,valid", "e,love;joy,test"]
    path = save("t.csv", lines)
    corpus = several(path, label="topics", label_delimiter=";")
    assert of_each(corpus) == [("joy", "love"), (), ("love",)]
    with pytest.raises(KdedgeError, match="line 2: topics is 'joy; love'; a list .*delimiter"):
        several(path, label="topics")
    with pytest.raises(KdedgeError, match="label_delimiter: only for several labels: task = "):
        load_corpus(path, label="topics", label_delimiter=";", split="split")


def test_labels_in_columns(save: Save) -> None:
    lines = ["text,joy,love,split", "a,1,1,train", "b,0,0,train", "c,0.0,true,train"]
    lines += ["d,1,0,valid", "e,0,1,test", "f,,,train"]
    corpus = several(save("t.csv", lines), label_columns=("joy", "love"))
    assert of_each(corpus) == [("joy", "love"), (), ("love",)]
    assert corpus.unlabelled == ("f",)
    for bad, words in (("2,0", "joy is '2'"), ("1,", "love is ''")):
        with pytest.raises(KdedgeError, match=rf"line 8: {words}; 0 or 1 is needed in each"):
            several(save("t.csv", [*lines, f"g,{bad},train"]), label_columns=("joy", "love"))
    with pytest.raises(KdedgeError, match="no column 'hate'"):
        several(save("t.csv", lines), label_columns=("joy", "hate"))


def test_a_label_that_is_not_in_train_is_refused(save: Save) -> None:
    lines = ["text,label,split", "a,x,train", "b,y,train", "c,x,valid", "d,x;z,test"]
    with pytest.raises(KdedgeError, match="line 5: label 'z' is in test and not in train"):
        several(save("t.csv", lines), label_delimiter=";")


def test_every_split_has_its_share_of_rare_labels(save: Save) -> None:
    rows = ["common"] * 60 + ["common;rare"] * 20 + [""] * 20
    lines = ["text,label", *(f"text {i},{labels}" for i, labels in enumerate(rows))]
    path = save("t.csv", lines)
    corpus = load_corpus(path, task="multi-label", label_delimiter=";", seed=3)
    # Of 60, of 20 and of 20: a tenth and a fifth each.
    counts = [corpus.task.counts(part.labels) for part in (corpus.valid, corpus.test)]
    assert counts == [
        {"label 'common'": 8, "label 'rare'": 2, "no label": 2},
        {"label 'common'": 16, "label 'rare'": 4, "no label": 4},
    ]


def test_one_text_of_each_rare_label_stays_in_train(save: Save) -> None:
    rare = [f"common;rare {i // 2}" for i in range(20)]
    # The same text twice: both rows go to the same split.
    lines = [
        "text,label",
        *(f"text {i},{labels}" for i, labels in enumerate(["common"] * 20 + rare)),
    ]
    path = save("t.csv", [*lines, "twice,common;rarest", "twice,common;rarest"])
    for seed in range(10):
        corpus = load_corpus(path, task="multi-label", label_delimiter=";", seed=seed)
        assert corpus.train.labels.any(0).all()
        texts = [{*part.texts} for part in (corpus.train, corpus.valid, corpus.test)]
        assert all(texts)
        assert sum(map(len, texts)) == len(set.union(*texts)) == 41


def test_too_few_rows_for_all_splits(save: Save) -> None:
    path = save("t.csv", ["text,label", *(f"text {i},label {i}" for i in range(4))])
    with pytest.raises(KdedgeError, match="no row is left for valid, because train needs one of"):
        load_corpus(path, task="multi-label", label_delimiter=";")
    for row in ([1, 0, 1], ["0", "0"], (1, 1)):
        with pytest.raises(KdedgeError, match="0 or 1 for each label. Write the names"):
            MultiLabel.parse(row, "here")
    assert MultiLabel.parse([1, 0], "here") == ("0", "1")


def test_scores(save: Save) -> None:
    lines = ["text,score,split", "a,1,train", "b,2.5,train", "c,4,train", "d,3,valid", "e,2,test"]
    path = save("t.csv", [*lines, "f,,train"])
    corpus = load_corpus(path, label="score", task="regression", split="split")
    assert corpus.train.labels.tolist() == [1.0, 2.5, 4.0]
    assert isinstance(corpus.task, Regression)
    # Of the training split: 2.5, and the root of (2.25 + 0 + 2.25) / 3.
    assert corpus.task.mean == 2.5
    assert corpus.task.deviation == pytest.approx(1.5**0.5)
    assert corpus.unlabelled == ("f",)
    path = save("t.csv", [*lines, "f,two,train"])
    with pytest.raises(KdedgeError, match="line 7: score is 'two'; a number"):
        load_corpus(path, label="score", task="regression", split="split")


def test_scores_out_of_their_range(save: Save) -> None:
    lines = ["text,score,split", "a,1,train", "b,2.5,train", "c,4,train", "d,3,valid", "e,6,test"]
    path = save("t.csv", lines)

    def within(*score_range: float) -> Corpus:
        return load_corpus(
            path, label="score", task="regression", split="split", score_range=score_range
        )

    assert isinstance(task := within(1, 6).task, Regression) and (task.low, task.high) == (1, 6)
    with pytest.raises(KdedgeError, match="line 6: the score is 6. score_range allows 1 to 5"):
        within(1, 5)


def test_every_split_has_low_and_high_scores(save: Save) -> None:
    lines = ["text,label", *(f"text {i},{i}" for i in range(100))]
    corpus = load_corpus(save("t.csv", lines), task="regression")
    # One of each ten is valid, and two are test.
    for part, of_ten in ((corpus.valid, 1), (corpus.test, 2)):
        assert np.bincount((part.labels // 10).astype(int)).tolist() == [of_ten] * 10


def test_there_are_three_tasks(save: Save) -> None:
    with pytest.raises(KdedgeError, match="task: 'words' is unknown. Allowed: classification, mul"):
        load_corpus(save("t.csv", ["text,label", "a,b"]), task="words")


def test_check_says_what_was_recognised() -> None:
    topics = check_recipe(load_recipe(ROOT / "recipes/topics.toml"))
    assert topics.recognised[0].endswith("multi-label of column 'text' by column 'topics'")
    assert sum(topics.rows.values()) == 96
    assert {"label 'battery'", "no label"} < {*topics.classes}
    stars = check_recipe(load_recipe(ROOT / "recipes/stars.toml"))
    assert stars.recognised[0].endswith("regression of column 'text' by column 'stars'")
    assert stars.recognised[1].startswith("scores with mean 3.")
    assert stars.recognised[1].endswith("from 1 to 5")
    assert stars.classes == {}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["1_0", "2"], "score is '1_0'; a number"),
        (["3,5", "2"], "score is '3,5'; a number"),
        (["1e300", "2"], "scores from 2 to 1e.300, which are too large"),
        (["1e-320", "2e-320"], "too small"),
        (["1700000001", "1700000002"], "too close together for 7 digits"),
    ],
)
def test_scores_that_are_no_numbers_of_float32_are_refused(
    save: Save, values: list[str], words: str
) -> None:
    lines = ["text;score", *(f"text {i};{values[i % 2]}" for i in range(20))]
    with pytest.raises(KdedgeError, match=words):
        load_corpus(save("t.csv", lines), label="score", task="regression", delimiter=";")


def test_a_number_that_no_float_holds_is_refused(save: Save) -> None:
    path = save("t.jsonl", [f'{{"text": "x", "score": 1{"0" * 400}}}'])
    with pytest.raises(KdedgeError, match=r"line 1: score is 10+.*; a number, such as 2\.5"):
        load_corpus(path, label="score", task="regression")


def test_a_column_of_zeros_is_refused(save: Save) -> None:
    lines = ["text,joy,hate,love", *(f"text {i},{i % 2},0,1" for i in range(20))]
    with pytest.raises(KdedgeError, match="no row has a 1 in column 'hate'. Add some, or leave it"):
        load_corpus(save("t.csv", lines), task="multi-label", label_columns=("joy", "hate", "love"))


@pytest.mark.parametrize("written", ["['joy', 'love']", '[""joy"", ""love""]', "['joy']"])
def test_a_list_as_a_program_writes_it_is_refused(save: Save, written: str) -> None:
    path = save("t.csv", ["text,topics", *(f'text {i},"{written}"' for i in range(9))])
    with pytest.raises(KdedgeError, match="line 2: topics is .*: a list that a program wrote"):
        load_corpus(path, label="topics", task="multi-label", label_delimiter=",")


@pytest.mark.parametrize("label", ["a\tb", "a\0b", "\x1b[31mred", "\ud83d"])
def test_a_control_character_in_a_label_is_refused(save: Save, label: str) -> None:
    path = save("t.jsonl", [json.dumps({"text": "x", "label": label})])
    with pytest.raises(KdedgeError, match="line 1: label is .*a label can't have a line break, a"):
        load_corpus(path)


def test_columns_of_pandas_with_gaps_get_a_remedy(save: Save) -> None:
    for label, words in (("1.0", "astype"), ("true", "Write the classes as names, or as 0 and 1")):
        path = save("t.jsonl", [f'{{"text": "x", "label": {label}}}'])
        with pytest.raises(KdedgeError, match=words):
            load_corpus(path)


def test_fasttext_lines_with_several_labels(save: Save) -> None:
    lines = [f"__label__{'ab'[i % 2]}{' __label__c' * (i % 3 == 0)} text {i}" for i in range(30)]
    corpus = load_corpus(save("t.txt", lines), task="multi-label", label_delimiter=" ")
    assert corpus.task.output_names == ("a", "b", "c")
    assert sum(part.labels[:, 2].sum() for part in (corpus.train, corpus.valid, corpus.test)) == 10


def test_several_labels_need_their_task(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,a,b\none,1,0\n")
    for setting in ({"label_delimiter": ";"}, {"label_columns": ("a", "b")}):
        with pytest.raises(KdedgeError, match=f"{[*setting][0]}: only for several labels: task = "):
            load_corpus(path, **setting)
    with pytest.raises(ValueError, match="A column of 0 and 1 is a label of two classes"):
        Data(path=path, task="multi-label", label_columns=("a",))
