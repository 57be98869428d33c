"""Finds texts that are nearly the same as known ones."""

from collections import defaultdict

from kdedge.text.rules import same_text

LETTERS = 3
# Texts that share at least this part of their trigrams are near copies.
NEAR = 0.7


class NearTexts:
    """Known texts, to test whether another text is nearly equal to one of them.

    Two texts are nearly the same if the Jaccard similarity of their sets of character trigrams is
    at least 0.7. Case and extra spaces are ignored.

        >>> known = NearTexts()
        >>> known.add("Where is the nearest cash machine?")
        >>> known.has("where is the nearest cash machine")
        True
        >>> known.has("Where can I get cash?")
        False
    """

    def __init__(self) -> None:
        self._texts: list[frozenset[str]] = []
        self._places = defaultdict[str, list[int]](list)

    def add(self, text: str) -> None:
        """Remember a text."""
        parts = _trigrams(text)
        for part in parts:
            self._places[part].append(len(self._texts))
        self._texts.append(parts)

    def has(self, text: str) -> bool:
        """Whether a known text is nearly the same."""
        parts = _trigrams(text)
        # A near copy lacks at most 0.3 of the trigrams. So it has at least one of any larger
        # selection of them; the rarest ones leave the fewest candidates.
        rarest = sorted(parts, key=lambda part: len(self._places.get(part, ())))
        few = rarest[: int((1 - NEAR) * len(parts) + 1e-9) + 1]
        places = {place for part in few for place in self._places.get(part, ())}
        return any(
            len(parts & known) >= NEAR * len(parts | known)
            for known in (self._texts[place] for place in places)
        )


def _trigrams(text: str) -> frozenset[str]:
    whole = f" {same_text(text)} "
    return frozenset(whole[i : i + LETTERS] for i in range(len(whole) - LETTERS + 1)) or frozenset(
        {whole}
    )
