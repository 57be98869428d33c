"""Makes familiarity.json: familiarity of token ids by small tables, computed step by step.

python tests/golden/make_familiarity.py

Shares no code with kdedge. Of 1,024 bits that of the pair (x, y) is 617 x + 751 y modulo 1,024.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple


class Table(NamedTuple):
    """Numbers of tokens and bits, values of the tokens that do not have 0, and the pairs."""

    tokens: int
    bits: int
    values: dict[int, int]
    pairs: list[tuple[int, int]]

    def bit(self, pair: tuple[int, int]) -> int:
        """The position of a pair's bit."""
        return (pair[0] * 31337 + pair[1] * 7919) % self.bits

    def stored(self) -> dict[str, Any]:
        """The file, as its bytes that are not 0."""
        content = {token: value % 256 for token, value in self.values.items()}
        for number in {self.bit(pair) for pair in self.pairs}:
            place = self.tokens + number // 8
            content[place] = content.get(place, 0) + 2 ** (number % 8)
        return {
            "tokens": self.tokens,
            "size": self.tokens + self.bits // 8,
            "bytes": {str(place): content[place] for place in sorted(content)},
        }


TABLES = [
    Table(
        12,
        1024,
        {4: 16, 5: 48, 6: -3, 7: -127, 8: 127, 9: 1, 10: -40, 11: 5},
        [(2, 5), (5, 3), (5, 6), (6, 5), (8, 8), (4, 11)],
    ),
    Table(30_000, 2048, {29_999: 100, 29_998: -100, 1999: 7}, [(29_999, 29_998), (101, 1999)]),
    Table(
        250_002,
        1_048_576,
        {249_999: 50, 250_001: -9, 100_000: 11},
        [(249_999, 250_001), (250_001, 249_999), (0, 249_999), (100_000, 2)],
    ),
]
# Position of the table, name, ids.
TEXTS: list[tuple[int, str, list[int]]] = [
    (0, "no ids", []),
    (0, "one id", [5]),
    (0, "two ids, which are a pair", [2, 5]),
    (0, "two ids, which are none", [2, 4]),
    (0, "the first id's value does not count", [8, 2]),
    (0, "a pair the other way round", [3, 5]),
    (0, "four pairs", [2, 5, 6, 5, 3]),
    (0, "the same pair twice", [8, 8, 8]),
    (0, "negative values", [2, 7, 10, 6, 3]),
    (0, "values whose sum is 0", [2, 8, 7]),
    (0, "no binary fraction", [2, 4, 11, 3]),
    (0, "two texts together", [2, 5, 6, 3, 4, 11, 3]),
    (1, "large ids", [101, 29_999, 29_998, 102]),
    (1, "another pair with the same bit", [101, 4047, 102]),
    (1, "a bit that differs in its highest place only", [101, 1999, 101, 3023]),
    (2, "products of more than 32 bits", [0, 249_999, 250_001, 249_999, 2]),
    (2, "products of 32 bits", [0, 100_000, 2]),
    (2, "the largest id twice", [0, 250_001, 250_001, 2]),
]
# Tokens of a vocabulary, and sizes that its file can't have.
REFUSED = [(12, 0), (12, 12), (12, 76), (12, 139), (12, 141), (12, 204), (12, 396), (13, 140)]


def vector(position: int, name: str, ids: list[int]) -> dict[str, Any]:
    """A text with its familiarity by the table at this position."""
    table = TABLES[position]
    neighbours = list(zip(ids[:-1], ids[1:], strict=True))
    bits = {table.bit(pair) for pair in table.pairs}
    total = sum(table.values.get(second, 0) for _, second in neighbours)
    total += 32 * sum(table.bit(pair) in bits for pair in neighbours)
    score = total / (16 * (len(neighbours) + 2)) if neighbours else 0.0
    return {"name": name, "table": position, "ids": ids, "total": total, "familiarity": score}


if __name__ == "__main__":
    golden = {
        "tables": [table.stored() for table in TABLES],
        "vectors": [vector(*text) for text in TEXTS],
        "refused": [{"tokens": tokens, "size": size} for tokens, size in REFUSED],
    }
    parts = (
        f'"{name}": [\n' + ",\n".join(map(json.dumps, each)) + "\n]"
        for name, each in golden.items()
    )
    place = Path(__file__).parent / "familiarity.json"
    place.write_text("{\n" + ",\n".join(parts) + "\n}\n")
