"""Augmentation: new texts for the transfer set, which the teacher labels."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from kdedge.errors import KdedgeError
from kdedge.text.pairs import Pair, Text, key_of, parts_of

TRIES_A_TEXT = 20
# Scripts without spaces between words: each character counts as a word.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{UNSPACED}]|[^\\s{UNSPACED}]+")
_BETWEEN = re.compile(f"(?<=[{UNSPACED}]) | (?=[{UNSPACED}])")
MASK = "[MASK]"
# Each rule equally often.
DEFAULT_MIXTURE = {"drop": 1, "crop": 1, "splice": 1}
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

Words = list[str]


def augment(
    texts: Sequence[Text],
    count: int,
    seed: int,
    mixture: Mapping[str, int] = DEFAULT_MIXTURE,
    neighbours: Mapping[str, Sequence[str]] | None = None,
    vocabulary: Sequence[str] = (),
) -> list[Text]:
    """The texts of `augmented` as a list.

    >>> len(augment(["a moving, funny film", "a waste of two hours"], 3, seed=1))
    3
    """
    return list(augmented(texts, count, seed, mixture, neighbours, vocabulary))


def augmented(
    texts: Sequence[Text],
    count: int,
    seed: int,
    mixture: Mapping[str, int] = DEFAULT_MIXTURE,
    neighbours: Mapping[str, Sequence[str]] | None = None,
    vocabulary: Sequence[str] = (),
) -> Iterator[Text]:
    """Generate augmented texts one at a time; memory holds 8 bytes for each.

    Args:
        texts: source texts.
        count: number of new texts. There are fewer if 20 tries for each don't find enough.
        seed: equal seeds give equal texts; a larger count starts with the texts of a smaller one.
        mixture: weight of each rule: `drop`, `crop`, `splice`, `words`, `mask`, `typos`,
            `neighbours`.
        neighbours: replacements for each word in lower case, for instance from `nearest_words`;
            needed for the rule `neighbours`.
        vocabulary: words, for instance from `words_in`; needed for the rule `words`.

    Yields:
        Texts that differ from each other and from the source texts; words are joined by a space.

    Raises:
        KdedgeError: an unknown rule, no rule with a weight, or nothing for a rule that needs it.
    """
    rules: dict[str, Callable[[Words, Sequence[str], np.random.Generator], Words]] = {
        "drop": drop,
        "crop": crop,
        "splice": splice,
        "words": lambda words, _, rng: swap_words(words, vocabulary, rng),
        "mask": mask,
        "typos": typos,
        "neighbours": lambda words, _, rng: swap_neighbours(words, neighbours or {}, rng),
    }
    if unknown := set(mixture) - set(rules):
        raise KdedgeError(f"mixture: {', '.join(unknown)}. Allowed: {', '.join(rules)}.")
    # A rule is drawn at random from this list, which has each rule as often as its weight.
    tickets = [rule for name, rule in rules.items() for _ in range(mixture.get(name, 0))]
    if not tickets:
        raise KdedgeError(f"mixture: {dict(mixture)}. Set at least one rule above 0.")
    if mixture.get("neighbours") and not neighbours:
        raise KdedgeError("neighbours: None. The rule neighbours needs nearest_words(...).")
    if mixture.get("words") and not vocabulary:
        raise KdedgeError("vocabulary: empty. The rule words needs words_in(...).")
    return _made(tickets, texts, count, np.random.default_rng(seed))


def _made(
    tickets: list[Callable[[Words, Sequence[str], np.random.Generator], Words]],
    texts: Sequence[Text],
    count: int,
    rng: np.random.Generator,
) -> Iterator[Text]:
    texts = [text for text in texts if all(part.strip() for part in parts_of(text))]
    # In pairs, first texts are mixed with first texts only.
    by_place = [list(of) for of in zip(*map(parts_of, texts), strict=True)]
    # New texts have single spaces, so source texts are compared in that form.
    known = {_digest(_with(text, map(_spaced, parts_of(text)))) for text in texts}
    made = 0
    for _ in range(TRIES_A_TEXT * count if texts else 0):
        if made == count:
            break
        rule = tickets[rng.integers(len(tickets))]
        text = texts[int(rng.integers(len(texts)))]
        new = _changed(text, rule, by_place, rng)
        if all(parts_of(new)) and (digest := _digest(new)) not in known:
            known.add(digest)
            made += 1
            yield new


def _changed(
    text: Text,
    rule: Callable[[Words, Sequence[str], np.random.Generator], Words],
    by_place: Sequence[Sequence[str]],
    rng: np.random.Generator,
) -> Text:
    """Apply a rule to a text, or to one text of a pair."""
    if isinstance(text, str):
        return joined(rule(words_of(text), by_place[0], rng))
    parts = [_spaced(part) for part in text]
    place = int(rng.integers(len(parts)))
    parts[place] = joined(rule(words_of(parts[place]), by_place[place], rng))
    return Pair(*parts)


def _spaced(text: str) -> str:
    return joined(words_of(text))


def _with(text: Text, parts: Iterable[str]) -> Text:
    """A text like `text` from its parts: the part, or the pair of both."""
    return Pair(*parts) if isinstance(text, Pair) else next(iter(parts))


def words_of(text: str) -> Words:
    """Split a text at spaces, and before each character of scripts without spaces.

    >>> words_of("a film 很好")
    ['a', 'film', '很', '好']
    """
    return _WORD.findall(text)


def joined(words: Words) -> str:
    """Join words, with spaces where their scripts have them.

    >>> joined(["a", "film", "很", "好"])
    'a film很好'
    """
    return _BETWEEN.sub("", " ".join(words))


def drop(words: Words, texts: Sequence[str], rng: np.random.Generator) -> Words:
    """Drop 10 to 40% of the words (Tang et al. 2019, arXiv 1903.12136, mask them)."""
    kept = rng.random(len(words)) >= rng.uniform(0.1, 0.4)
    return [word for word, keep in zip(words, kept, strict=True) if keep]


def mask(words: Words, texts: Sequence[str], rng: np.random.Generator) -> Words:
    """Replace 10 to 40% of the words by [MASK] (Tang et al. 2019, arXiv 1903.12136)."""
    hidden = rng.random(len(words)) < rng.uniform(0.1, 0.4)
    return [MASK if hide else word for word, hide in zip(words, hidden, strict=True)]


def crop(words: Words, texts: Sequence[str], rng: np.random.Generator) -> Words:
    """Take at least 3 consecutive words (n-gram sampling, arXiv 1903.12136)."""
    length = int(rng.integers(min(3, len(words)), len(words) + 1))
    start = int(rng.integers(len(words) - length + 1))
    return words[start : start + length]


def splice(words: Words, texts: Sequence[str], rng: np.random.Generator) -> Words:
    """Join the beginning of a text and the end of another."""
    other = words_of(texts[int(rng.integers(len(texts)))])
    first = words[: rng.integers(1, len(words) + 1)]
    return first + other[int(rng.integers(len(other))) :]


def some_with_typos(texts: Iterable[Text], share: float, seed: Sequence[int]) -> Iterator[Text]:
    """Add typos to a random share of the texts."""
    rng = np.random.default_rng(seed)
    for text in texts:
        if rng.random() < share:
            text = _with(text, (" ".join(typos(p.split(), (), rng)) for p in parts_of(text)))
        yield text


def typos(words: Words, texts: Sequence[str], rng: np.random.Generator) -> Words:
    """Add a typo to 10 to 40% of the words."""
    wrong = rng.random(len(words)) < rng.uniform(0.1, 0.4)
    return [typo(word, rng) if bad else word for word, bad in zip(words, wrong, strict=True)]


def typo(word: str, rng: np.random.Generator) -> str:
    """Replace a letter by a neighbouring key, drop it, double it, or swap it with the next."""
    i = int(rng.integers(len(word)))
    before, letter, after = word[:i], word[i], word[i + 1 :]
    match rng.integers(4):
        case 0:
            near = KEYS.get(letter.lower(), letter)
            key = near[rng.integers(len(near))]
            return before + (key.upper() if letter.isupper() else key) + after
        case 1:
            return before + after or word
        case 2:
            return before + 2 * letter + after
    return before + after[:1] + letter + after[1:]


def swap_words(words: Words, vocabulary: Sequence[str], rng: np.random.Generator) -> Words:
    """Replace 30 to 90% of the words by random ones."""
    swapped = rng.random(len(words)) < rng.uniform(0.3, 0.9)
    return [
        vocabulary[int(rng.integers(len(vocabulary)))] if swap else word
        for word, swap in zip(words, swapped, strict=True)
    ]


def swap_neighbours(
    words: Words, neighbours: Mapping[str, Sequence[str]], rng: np.random.Generator
) -> Words:
    """Replace 10 to 40% of the words by near ones, if they have any."""
    swapped = rng.random(len(words)) < rng.uniform(0.1, 0.4)
    made = []
    for word, swap in zip(words, swapped, strict=True):
        near = neighbours.get(word.lower(), ())
        made.append(near[int(rng.integers(len(near)))] if swap and near else word)
    return made


def _keys() -> dict[str, str]:
    near = {}
    for r, row in enumerate(ROWS):
        for i, key in enumerate(row):
            # Each row is half a key to the right of the row above it.
            places = [
                (r, i - 1),
                (r, i + 1),
                (r - 1, i),
                (r - 1, i + 1),
                (r + 1, i - 1),
                (r + 1, i),
            ]
            near[key] = "".join(
                ROWS[a][b] for a, b in places if 0 <= a < len(ROWS) and 0 <= b < len(ROWS[a])
            )
    return near


# The keys around each letter on a QWERTY keyboard.
KEYS = _keys()


def _digest(text: Text) -> bytes:
    return hashlib.blake2b(key_of(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()
