from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdedge import KdedgeError
from kdedge.text.augment import (
    KEYS,
    augment,
    augmented,
    crop,
    drop,
    mask,
    some_with_typos,
    splice,
    swap_neighbours,
    swap_words,
    typo,
    typos,
)
from kdedge.text.readers import read_texts

DATA = Path(__file__).parent.parent / "data" / "movie_reviews.tsv.gz"
TEXTS = ["a b c d e f", "g h i j k", "l m", "n"]
PINNED = ["n e f", "g j k", "g h i j", "a b c d e n", "a b c d i j k"]


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
    # If no word of "a  b" is dropped, the result is "a b".
    assert "a b" not in augment(["a  b"], 1000, seed=0)


def test_each_rule() -> None:
    rng = np.random.default_rng(0)
    words, other = [f"a{i}" for i in range(10)], [f"b{i}" for i in range(4)]
    dropped = 0
    lengths, cuts = set(), set()
    for _ in range(2000):
        kept = drop(words, [], rng)
        assert kept == [word for word in words if word in kept]
        dropped += 10 - len(kept)

        cropped = crop(words, [], rng)
        start = words.index(cropped[0])
        assert cropped == words[start : start + len(cropped)]
        lengths.add(len(cropped))

        spliced = splice(words, [" ".join(other)], rng)
        cut = sum(word[0] == "a" for word in spliced)
        assert spliced == words[:cut] + other[cut - len(spliced) :]
        cuts.add((cut, len(spliced) - cut))
    # Between 0.1 and 0.4, so 0.25 on average; the standard error is 0.0036.
    assert abs(dropped / 20_000 - 0.25) < 0.012
    assert lengths == set(range(3, 11))
    assert cuts == {(a, b) for a in range(1, 11) for b in range(1, 5)}


def test_the_default_mixture_makes_what_it_always_made() -> None:
    # The same as in version 0.1.0, so that stored soft labels still fit.
    assert augment(TEXTS, 5, seed=5) == PINNED
    parts = {"drop": 1, "crop": 1, "splice": 1, "mask": 0, "typos": 0, "neighbours": 0}
    assert augment(TEXTS, 5, seed=5, mixture=parts) == PINNED


def test_texts_come_one_at_a_time() -> None:
    stream = augmented(read_texts(DATA)[:100], 10**9, seed=1)
    assert [next(stream) for _ in range(3)] == augment(read_texts(DATA)[:100], 3, seed=1)


def test_the_rules_that_are_off_by_default() -> None:
    rng = np.random.default_rng(0)
    words = ["The", "film", "is", "good"] * 5
    near = {"film": ["movie", "picture"], "good": ["great"]}
    masked, swapped, wrong, random = 0, Counter(), 0, Counter()
    for _ in range(500):
        hidden = mask(words, [], rng)
        assert all(new in (old, "[MASK]") for old, new in zip(words, hidden, strict=True))
        masked += hidden.count("[MASK]")
        with_random = swap_words(words, ["dull", "plot"], rng)
        assert all(n in (o, "dull", "plot") for o, n in zip(words, with_random, strict=True))
        random.update(with_random)
        with_near = swap_neighbours(words, near, rng)
        for old, new in zip(words, with_near, strict=True):
            assert new == old or new in near[old]
        swapped.update(with_near)
        wrong += sum(a != b for a, b in zip(words, typos(words, [], rng), strict=True))
    # A quarter of 10,000 words on average; standard error 0.006 for the share of a text, which is
    # drawn first. Half of the words have neighbours: film is 2,500 words, and so is good.
    assert abs(masked / 10_000 - 0.25) < 0.025
    # Between 0.3 and 0.9, and each of two words equally often.
    assert abs(random["dull"] / 10_000 - 0.3) < 0.03
    assert abs(random["plot"] / 10_000 - 0.3) < 0.03
    assert abs(swapped["great"] / 2500 - 0.25) < 0.035
    assert abs(swapped["movie"] / 2500 - 0.125) < 0.03
    # Of the typos, those stay as they were that swap the last letter with nothing: 1 in 4 of the
    # last letters, of 1 in 3, 4, 2 and 4: 0.25 * (1/3 + 1/4 + 1/2 + 1/4) / 4 = 0.083; or that swap
    # the two o of good: 0.25 * 1/4 / 4 = 0.016. So 0.25 * 0.901.
    assert abs(wrong / 10_000 - 0.225) < 0.025


def test_typos_of_a_word() -> None:
    # g lies between f and h, under t and y, over v and b; q at the corner; p at the other end.
    assert set(KEYS["g"]) == set("fhtyvb")
    assert set(KEYS["q"]) == set("wa")
    assert set(KEYS["p"]) == set("ol")
    rng = np.random.default_rng(0)
    made = {typo("Go", rng) for _ in range(2000)}
    beside = {key.upper() + "o" for key in KEYS["g"]} | {"G" + key for key in KEYS["o"]}
    # A neighbouring key, a letter left out, doubled, or swapped with the next (none at the end).
    assert made == beside | {"o", "G"} | {"GGo", "Goo"} | {"oG", "Go"}
    # A word of one letter does not disappear.
    assert all(typo("a", rng) for _ in range(100))


def test_typos_in_a_share_of_the_texts() -> None:
    texts = [f"a moving and rather funny film number {i}" for i in range(1000)]
    made = list(some_with_typos(texts, 0.3, [1, 2]))
    changed = [text for text, old in zip(made, texts, strict=True) if text != old]
    # Of 300, whose 8 words keep clear of a typo in one of 6 or so; standard error 14.
    assert 220 < len(changed) < 330
    assert all(len(text.split()) == 8 for text in made)
    assert made == list(some_with_typos(texts, 0.3, [1, 2]))
    assert made != list(some_with_typos(texts, 0.3, [1, 3]))
    assert list(some_with_typos(texts, 0.0, [1])) == texts


def test_what_a_mixture_refuses() -> None:
    with pytest.raises(KdedgeError, match="mixture: shout. Allowed: drop, crop"):
        augmented(TEXTS, 1, 0, {"shout": 1})
    with pytest.raises(KdedgeError, match="Set at least one rule above 0"):
        augmented(TEXTS, 1, 0, {"drop": 0})
    with pytest.raises(KdedgeError, match="neighbours: None. The rule"):
        augmented(TEXTS, 1, 0, {"neighbours": 1})
    with pytest.raises(KdedgeError, match="vocabulary: empty. The rule words needs words_in"):
        augmented(TEXTS, 1, 0, {"words": 1})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab \n", max_size=8), max_size=4), st.integers(0, 9), st.integers(0, 99))
def test_whatever_the_texts(texts: list[str], count: int, seed: int) -> None:
    made = augment(texts, count, seed)
    assert len(made) <= count
    assert len(set(made)) == len(made)
    assert all(text.strip() for text in made)
    assert not set(made) & set(texts)
