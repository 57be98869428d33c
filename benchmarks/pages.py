"""Writes every page of results/ anew from the figures that are stored beside it.

python benchmarks/pages.py
"""

import json
from collections.abc import Callable

from benchmarks import (
    any_data,
    checking,
    clients,
    conversions,
    distillation,
    peers,
    reliability,
    robustness,
    roofline,
    scale,
    throughput,
    training_speed,
    trust,
    unsure,
)
from benchmarks.common import RESULTS, Figures, written
from kdedge.files import write_text

PAGES: dict[str, Callable[[Figures], str]] = {
    "any_data": any_data.page,
    "checking": checking.page,
    "clients": clients.page,
    "conversions": conversions.page,
    "distillation": distillation.page_of_movie_reviews,
    "peers": peers.page,
    "reliability": reliability.page,
    "robustness": robustness.page,
    "roofline": roofline.page,
    "scale": scale.page,
    "throughput": throughput.page,
    "training_speed": training_speed.page,
    "trust": trust.page,
    "unsure": unsure.page,
}


def made() -> dict[str, str]:
    """Each file that is made of stored figures, and what it is to hold."""
    stored = {name: json.loads((RESULTS / f"{name}.json").read_text("utf-8")) for name in PAGES}
    pages = {f"{name}.md": written(name, stored[name], page) for name, page in PAGES.items()}
    pictures = {
        "peers.svg": peers.picture(stored["peers"]).decode(),
        "scale.svg": scale.picture(stored["scale"]["points"]),
    }
    return pages | pictures


if __name__ == "__main__":
    for name, text in made().items():
        write_text(RESULTS / name, text)
