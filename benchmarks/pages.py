"""Writes the pages of results/ again, from the figures that are stored beside them.

python benchmarks/pages.py
"""

import json
from collections.abc import Callable

from benchmarks import (
    ablation,
    any_data,
    checking,
    checkpoints,
    clients,
    conversions,
    demo_time,
    known_results,
    other_tasks,
    peers,
    roofline,
    teaching,
    text_in_clients,
    text_to_answer,
    unsure,
)
from benchmarks.common import RESULTS, Figures, page_text
from kdedge.files import write_text

PROGRAMS: dict[str, Callable[[Figures], str]] = {
    "ablation": ablation.page,
    "any_data": any_data.page,
    "checking": checking.page,
    "checkpoints": checkpoints.page,
    "clients": clients.page,
    "conversions": conversions.page,
    "demo_time": demo_time.page,
    "other_tasks": other_tasks.page,
    "peers": peers.page,
    "roofline": roofline.page,
    "teaching": teaching.page,
    "text_in_clients": text_in_clients.page,
    "text_to_answer": text_to_answer.page,
    "known_results": known_results.page,
    "unsure": unsure.page,
}
# The results here, with the pages of their programs; a result of another recipe is PROGRAM-RECIPE.
PAGES = {
    path.stem: PROGRAMS[path.stem.partition("-")[0]] for path in sorted(RESULTS.glob("*.json"))
}


def page_texts() -> dict[str, str]:
    """The text of each page."""
    stored = {name: json.loads((RESULTS / f"{name}.json").read_text("utf-8")) for name in PAGES}
    return {f"{name}.md": page_text(name, stored[name], page) for name, page in PAGES.items()}


if __name__ == "__main__":
    for name, text in page_texts().items():
        write_text(RESULTS / name, text)
