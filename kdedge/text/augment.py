"""New texts for the transfer set, made from old ones: the teacher says what they mean."""

from collections.abc import Callable, Sequence

import numpy as np

TRIES_A_TEXT = 20


def augment(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """Make new texts by dropping words, cropping and splicing (after arXiv 1903.12136).

    Args:
        texts: to start from.
        count: how many to make. Fewer come if 20 tries a text do not find as many new ones.
        seed: equal seeds give equal texts, and a larger count begins with a smaller one's.

    Returns:
        Texts that differ from each other and from those given; words are joined by a space.
    """
    rng = np.random.default_rng(seed)
    words = [split for text in texts if (split := text.split())]
    # What is made has single spaces, so what it was made from must be compared in that form.
    known = {" ".join(split) for split in words}
    made: list[str] = []
    rules: tuple[Callable[[list[str], list[list[str]], np.random.Generator], list[str]], ...]
    rules = (_drop, _crop, _splice)
    for _ in range(TRIES_A_TEXT * count if words else 0):
        if len(made) == count:
            break
        rule = rules[rng.integers(len(rules))]
        text = " ".join(rule(words[rng.integers(len(words))], words, rng))
        if text and text not in known:
            known.add(text)
            made.append(text)
    return made


def _drop(words: list[str], others: list[list[str]], rng: np.random.Generator) -> list[str]:
    kept = rng.random(len(words)) >= rng.uniform(0.1, 0.4)
    return [word for word, keep in zip(words, kept, strict=True) if keep]


def _crop(words: list[str], others: list[list[str]], rng: np.random.Generator) -> list[str]:
    length = int(rng.integers(min(3, len(words)), len(words) + 1))
    start = int(rng.integers(len(words) - length + 1))
    return words[start : start + length]


def _splice(words: list[str], others: list[list[str]], rng: np.random.Generator) -> list[str]:
    other = others[rng.integers(len(others))]
    first = words[: rng.integers(1, len(words) + 1)]
    return first + other[int(rng.integers(len(other))) :]
