import json
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdedge import KdedgeError, TextEncoder
from kdedge.export.trust import Predictions, trust_of
from kdedge.recipe import Decide
from kdedge.tasks import Classification
from kdedge.text.familiarity import FAMILIARITY, Familiarity

GOLDEN = json.loads((Path(__file__).parent / "golden" / "familiarity.json").read_text())
TASK = Classification(label_names=("n", "p"))


def content_of(table: dict[str, Any]) -> bytes:
    content = bytearray(table["size"])
    for place, value in table.get("bytes", {}).items():
        content[int(place)] = value
    return bytes(content)


TABLES = [Familiarity(content_of(table), table["tokens"]) for table in GOLDEN["tables"]]


@pytest.mark.parametrize("case", GOLDEN["vectors"], ids=lambda case: case["name"])
def test_golden_vectors(case: dict[str, Any]) -> None:
    assert TABLES[case["table"]].of(case["ids"]) == case["familiarity"]


@pytest.mark.parametrize("table", GOLDEN["refused"], ids=str)
def test_files_of_another_size_are_refused(table: dict[str, int]) -> None:
    with pytest.raises(KdedgeError, match=r"familiarity\.bin: .* Export the bundle again"):
        Familiarity(content_of(table), table["tokens"])


def test_fitted_to_texts(tiny_bert: Path, tmp_path: Path) -> None:
    """Each token's share by hand."""
    encoder = TextEncoder.from_pretrained(tiny_bert, 16)
    texts = ["good film", "good film", "film good"]
    known, size = Familiarity.fit(encoder, texts), len(encoder.vocabulary)
    good, film = map(encoder.id_of, ("good", "film"))
    general = [1 / (10 + place) for place in range(size)]
    total = sum(general)

    def logarithm(token: int, count: int) -> float:
        share = general[token] / total
        return log((count + 0.1 * size * share) / (6 + 0.1 * size) / share)

    first, last = encoder.first[0], encoder.last[0]
    # [SEP] counts as a token that is as frequent in other texts; [CLS] does not count.
    typical = (3 * logarithm(good, 3) + 3 * logarithm(film, 3)) / 9

    def value(token: int, count: int) -> int:
        return round(16 * (logarithm(token, count) - typical))

    of_last, both = round(-16 * typical), value(good, 3) + value(film, 3)
    # Divided by 16 for each token but the first, and for two more.
    assert known.of([first, good, film, last]) == (both + of_last) / 80
    bad = encoder.id_of("bad")
    assert known.of([first, bad, last]) == (max(value(bad, 0), -127) + of_last) / 64 < 0
    known.save(tmp_path)
    assert Familiarity.load(tmp_path, encoder).content == known.content
    (tmp_path / FAMILIARITY).unlink()
    with pytest.raises(KdedgeError, match=r"familiarity\.bin: .*No such file"):
        Familiarity.load(tmp_path, encoder)


def predictions(familiarity: list[float]) -> Predictions:
    count = len(familiarity)
    outputs = np.tile(np.array([[0.2, 0.8]], np.float32), (count, 1))
    labels = np.ones(count, np.int32)
    return Predictions(outputs, labels, np.zeros(count), np.array(familiarity), np.full(count, 7))


def test_the_least_familiar_hundredth_of_the_valid_texts_is_unsure() -> None:
    # The mean is 100.5 and the deviation 57.73.
    even = predictions([*map(float, range(1, 201))])
    assert trust_of("a", TASK, even, even, Decide(), None).decision.min_familiarity == (
        pytest.approx(100.5 - 2.33 * ((200**2 - 1) / 12) ** 0.5, abs=1e-6)
    )
    # Here 2 of 200 are far below all others, and the quantile leaves one of them out.
    skewed = predictions([-1000.0, -999.0, *[1.0] * 198])
    decision = trust_of("a", TASK, skewed, skewed, Decide(), None).decision
    assert decision.min_familiarity == -999.0
    decided = decision.decide(TASK, skewed.outputs, skewed.unknown, skewed.familiarity)
    assert decided.unsure.sum() == 1


def test_familiarity_is_left_out_if_asked_or_unknown_or_of_too_few_texts() -> None:
    even = predictions([*map(float, range(1, 201))])
    for valid, decide in (
        (even, Decide(familiarity=False)),
        (predictions([np.inf] * 200), Decide()),
        (even.at(slice(9)), Decide()),
    ):
        assert trust_of("a", TASK, valid, even, decide, None).decision.min_familiarity is None
