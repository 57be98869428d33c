"""Lists each published table with what has changed since: `make figures-status`.

Says nothing of a table whose figures are of the present data, recipe and code. Exits with 1 if any
is stale.
"""

import json
import sys
from collections.abc import Iterator

from benchmarks.common import DEPENDS_ON, RESULTS, Figures, Setup, changed
from benchmarks.study.grid import Cell, grid_of
from kdedge.recipe import Distill

GIVEN = ("recipes/movie_reviews.toml", "data/movie_reviews.tsv.gz")
STUDY = ("main", "peers", "ablation", "tasks", "layers", "curve", "few")


def main() -> None:
    """Print what is stale."""
    lines = [f"{table}: {why}" for table, why in tables() if why]
    print("\n".join(lines))
    sys.exit(bool(lines))


def tables() -> Iterator[tuple[str, str]]:
    """Each table and what has changed since."""
    # Results of other recipes, with their names, are not published.
    for path in (RESULTS / f"{name}.json" for name in DEPENDS_ON):
        if not path.is_file():
            continue
        result = json.loads(path.read_text(encoding="utf-8"))
        if path.stem == "distillation":
            yield from study(result)
            continue
        paths = (*DEPENDS_ON[path.stem], *GIVEN)
        for name, part in (result if path.stem == "trust" else {"": result}).items():
            yield f"{path.stem} {name}".strip(), changed(part, paths)


def study(result: Figures) -> Iterator[tuple[str, str]]:
    """Each table of the study; rows of the same age together."""
    grid = grid_of(Setup("distillation").recipe)
    paths = (*DEPENDS_ON["distillation"], *GIVEN)
    for part in STUDY:
        rows: dict[str, set[str]] = {}
        for one in result["cells"]:
            cell = getattr(grid, part).get(one["job"]["name"])
            if cell:
                why = "; ".join(filter(None, (changed(one, paths), other_settings(one, cell))))
                rows.setdefault(why, set()).add(cell.name)
        for why, names in rows.items():
            yield f"distillation {part} ({', '.join(sorted(names))})", why
    for one in result["latency"]:
        latency = changed(one, (*DEPENDS_ON["distillation latency"], *GIVEN))
        yield f"distillation latency ({', '.join(one['models'])})", latency


def other_settings(one: Figures, cell: Cell) -> str:
    """What a stored cell's settings have that those of the present grid have not."""
    known = {k: v for k, v in one["job"]["distill"].items() if k in Distill.model_fields}
    then, now = {**one["job"], "distill": known}, cell.seeded(one["job"]["seed"]).job()
    found = [
        f"{key} {then['distill'][key]} is now {now['distill'][key]}"
        for key in known
        if then["distill"][key] != now["distill"][key]
    ]
    return ", ".join(found + [k for k in then if k != "distill" and then[k] != now[k]])


if __name__ == "__main__":
    main()
