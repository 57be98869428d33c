from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kdedge.text.augment import _crop, _drop, _splice, augment
from kdedge.text.corpus import read_texts

DATA = Path(__file__).parent.parent / "data" / "movie_reviews.tsv.gz"
TEXTS = ["a b c d e f", "g h i j k", "l m", "n"]


def test_exactly_as_many_new_texts_as_asked_for() -> None:
    texts = read_texts(DATA)[:500]
    made = augment(texts, 2000, seed=1)
    assert len(made) == len(set(made)) == 2000
    assert not set(made) & set(texts)
    assert all(made) and all(text == " ".join(text.split()) for text in made)
    words = {word for text in texts for word in text.split()}
    assert {word for text in made for word in text.split()} <= words


def test_a_seed_gives_the_same_texts_and_more_of_them_begin_alike() -> None:
    made = augment(TEXTS, 30, seed=5)
    assert made == augment(TEXTS, 30, seed=5)
    assert made[:10] == augment(TEXTS, 10, seed=5)
    assert made != augment(TEXTS, 30, seed=6)


def test_fewer_texts_where_there_are_no_more() -> None:
    # Of "a b" come "a", "b" (a word dropped), and "a a b", "a b b", "a b a b" (spliced).
    made = augment(["a b"], 1000, seed=0)
    assert sorted(made) == ["a", "a a b", "a b a b", "a b b", "b"]


def test_nothing_from_nothing() -> None:
    assert augment([], 5, seed=0) == []
    assert augment(["", "  "], 5, seed=0) == []
    assert augment(TEXTS, 0, seed=0) == []


def test_a_text_in_other_white_space_is_not_new() -> None:
    # Dropping words of "a  b" leaves "a b" where none is dropped.
    assert "a b" not in augment(["a  b"], 1000, seed=0)


def test_each_rule() -> None:
    rng = np.random.default_rng(0)
    words, other = [f"a{i}" for i in range(10)], [f"b{i}" for i in range(4)]
    dropped = 0
    lengths, cuts = set(), set()
    for _ in range(2000):
        kept = _drop(words, [], rng)
        assert kept == [word for word in words if word in kept]
        dropped += 10 - len(kept)

        crop = _crop(words, [], rng)
        start = words.index(crop[0])
        assert crop == words[start : start + len(crop)]
        lengths.add(len(crop))

        spliced = _splice(words, [other], rng)
        cut = sum(word[0] == "a" for word in spliced)
        assert spliced == words[:cut] + other[cut - len(spliced) :]
        cuts.add((cut, len(spliced) - cut))
    # Between 0.1 and 0.4, so 0.25 on average; the standard error is 0.0036.
    assert abs(dropped / 20_000 - 0.25) < 0.012
    assert lengths == set(range(3, 11))
    assert cuts == {(a, b) for a in range(1, 11) for b in range(1, 5)}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab \n", max_size=8), max_size=4), st.integers(0, 9), st.integers(0, 99))
def test_whatever_the_texts(texts: list[str], count: int, seed: int) -> None:
    made = augment(texts, count, seed)
    assert len(made) <= count
    assert len(set(made)) == len(made)
    assert all(text.strip() for text in made)
    assert not set(made) & set(texts)
