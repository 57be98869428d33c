"""Makes familiarity.json: familiarity of token ids by small tables, computed step by step.

python tests/golden/make_familiarity.py

Shares no code with kdedge.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple


class Table(NamedTuple):
    """Number of tokens, and values of the tokens that do not have 0."""

    tokens: int
    values: dict[int, int]

    def stored(self) -> dict[str, Any]:
        """The file, as its bytes that are not 0."""
        content = {str(token): value % 256 for token, value in sorted(self.values.items())}
        return {"tokens": self.tokens, "size": self.tokens, "bytes": content}


TABLES = [
    Table(12, {4: 16, 5: 48, 6: -3, 7: -127, 8: 127, 9: 1, 10: -40, 11: 5}),
    Table(250_002, {249_999: 50, 250_001: -9, 100_000: 11}),
]
# Position of the table, name, ids.
TEXTS: list[tuple[int, str, list[int]]] = [
    (0, "no ids", []),
    (0, "one id", [5]),
    (0, "two ids", [2, 5]),
    (0, "the first id's value does not count", [8, 2]),
    (0, "the same token twice", [2, 8, 8]),
    (0, "negative values", [2, 7, 10, 6, 3]),
    (0, "values whose sum is 0", [2, 8, 7]),
    (0, "no binary fraction", [2, 4, 11, 3]),
    (0, "two texts together", [2, 5, 6, 3, 4, 11, 3]),
    (1, "large ids", [0, 249_999, 250_001, 249_999, 2]),
    (1, "the largest id twice", [0, 250_001, 250_001, 2]),
]
# Tokens of a vocabulary, and sizes that its file can't have.
REFUSED = [(12, 0), (12, 11), (12, 13), (12, 140)]


def vector(position: int, name: str, ids: list[int]) -> dict[str, Any]:
    """A text with its familiarity by the table at this position."""
    table = TABLES[position]
    total = sum(table.values.get(token, 0) for token in ids[1:])
    score = total / (16 * (len(ids) - 1 + 2)) if len(ids) > 1 else 0.0
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
