"""Lists published tables that are older than their code, data or recipe: `make figures-status`.

Prints nothing if all figures are up to date; otherwise exits with 1. A dated study, whose page
names its release, is never stale.
"""

import json
import sys

from benchmarks.common import RESULTS, changed_paths
from benchmarks.pages import PAGES


def main() -> None:
    """Print the stale tables."""
    lines = []
    for path in (RESULTS / f"{name}.json" for name in PAGES):
        result = json.loads(path.read_text(encoding="utf-8"))
        if "dated" not in result and (paths := changed_paths(result)):
            lines.append(f"{path.stem}: {', '.join(paths)} changed")
    for line in lines:
        print(line)
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
