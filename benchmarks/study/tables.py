"""The tables of the study, of what is stored."""

from typing import Any

import numpy as np

from benchmarks.study.grid import EPOCHS, MADE, PEERS, TARGETS, Cell, Grid
from benchmarks.study.statistics import SPLITS, Rows, by_name, spread
from kdedge.bench.report.model import three_digits
from kdedge.bench.report.tables import markdown


def page(stored: dict[str, Any], grid: Grid) -> str:
    """All sections of which there are cells."""
    cells, latency = by_name(stored["cells"]), stored["latency"]
    sections = (
        students(grid.main, cells, latency),
        latencies(grid.main, latency),
        peers(grid.main, cells, latency),
        *(ablation(rows, stored["changes"]) for rows in (grid.ablation, grid.tasks, grid.layers)),
        curve(grid.curve, cells),
        few(grid.few, cells),
    )
    return "\n".join(section for section in sections if section)


def section(title: str, words: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A heading, words and a table; nothing without rows."""
    return f"## {title}\n\n{words}\n\n{markdown(head, rows)}" if rows else ""


def accuracies(ones: list[Any], key: str = "accuracy") -> str:
    """Of the test split, in percent."""
    return spread([100 * one["result"]["test"][key] for one in ones])


def transfer(ones: list[Any]) -> tuple[str, str]:
    """Texts and epochs."""
    return str(ones[0]["result"]["transfer_texts"]), str(ones[0]["job"]["distill"]["epochs"])


def measured(latency: list[Any], name: str) -> dict[str, Any]:
    """What was measured of a model last."""
    found = [one["models"][name] for one in latency if name in one["models"]]
    return dict(found[-1]) if found else {}


def met(yes: bool, target: float) -> str:
    """Whether a target is met, and the target."""
    return f" {'✓' if yes else '✗'} {target}"


def students(rows: dict[str, Cell], cells: Rows, latency: list[Any]) -> str:
    """Each student beside its targets."""
    lines = []
    for name in (name for name in rows if name in cells):
        target = TARGETS[rows[name].distill.student]
        share = np.mean([100 * one["result"]["test"]["retention"] for one in cells[name]])
        megabytes = measured(latency, name).get("int8_bytes", 0) / 1e6
        size = f"{megabytes:.2f}{met(megabytes <= target.megabytes, target.megabytes)}"
        lines.append((
            name, *transfer(cells[name]), str(len(cells[name])), accuracies(cells[name]),
            accuracies(cells[name], "retention") + met(share >= target.retention, target.retention),
            size if megabytes else "",
        ))  # fmt: skip
    head = (
        "student", "texts", "epochs", "seeds", "accuracy, %", "retention, %, at least",
        "LiteRT int8, MB, at most",
    )  # fmt: skip
    words = (
        "Test split, the Keras student. Means over seeds, and the standard deviation. Retention is "
        "the share of its teacher's accuracy. The texts are those of the recipe, without or with "
        "47,000 unlabelled sentences of whole movie reviews, which the project can't ship "
        "(benchmarks/unlabelled.py), and without or with 100,000 texts made of both."
    )
    return section("Students", words, head, lines)


def latencies(rows: dict[str, Cell], latency: list[Any]) -> str:
    """Each machine's, beside the targets; each of one run."""
    head = ("model", "quantized", "accuracy, %", "p50, ms", "times faster, at least")
    text = (
        "## Latency\n\nOne text of 64 tokens, one thread, the fastest file of each in LiteRT, all "
        "in turn, against the teacher's fastest; with the 95% interval over the repeats.\n"
    )
    for one in latency:
        lines = []
        for name, m in one["models"].items():
            faster = m["times_faster"]
            times = "{} ({} to {})".format(*map(three_digits, faster)) if faster else ""
            if times and name in rows:
                target = TARGETS[rows[name].distill.student].faster
                times += met(faster[0] >= target, target)
            accuracy, p50 = f"{100 * m['accuracy']:.2f}", three_digits(m["p50_ms"])
            lines.append((name, m["quantization"], accuracy, p50, times))
        text += f"\n{one['machine']}, at {one['commit']}:\n\n" + markdown(head, lines)
        text += "".join(f"\nNot to be relied on: {reason}\n" for reason in one["reasons"])
    return text if latency else ""


def peers(rows: dict[str, Cell], cells: Rows, latency: list[Any]) -> str:
    """Students and their rivals."""
    lines = []
    titles = {name: name for name in rows} | PEERS if PEERS.keys() & cells.keys() else {}
    for name in (name for name in titles if name in cells):
        first, found = cells[name][0]["result"], measured(latency, name)
        in_python, faster = first.get("p50_ms"), found.get("times_faster")
        megabytes = (first.get("bytes") or found.get("int8_bytes") or 0) / 1e6
        seconds = [one["result"]["seconds"] for one in cells[name] if one["result"]["seconds"]]
        lines.append((
            titles[name], accuracies(cells[name]), f"{megabytes:.2f}" if megabytes else "",
            f"{in_python:.2f} ms" if in_python else three_digits(faster[0]) if faster else "",
            f"{np.mean(seconds) / 60:.1f}" if seconds else "",
        ))  # fmt: skip
    head = ("", "accuracy, %", "MB, int8", "times faster than the teacher", "training, minutes")
    words = (
        "Test split. Training is the classifier's own, without the teacher's and without soft "
        "labels, and with another training beside it on the same two cores for some. How much "
        "faster each is comes from the tables above. The latency of TF-IDF is scikit-learn's in "
        "Python, and its size 4 bytes a number and its terms' letters."
    )
    return section("Against what one would pick instead", words, head, lines)


def ablation(rows: dict[str, Cell], changes: dict[str, Any]) -> str:
    """Each row's difference from the first one."""
    base, lines = next(iter(rows.values())), []
    for name in (name for name in rows if name in changes):
        one = changes[name]
        low, high = one["test"][1:]
        lines.append((
            name, str(len(one["accuracy"])), spread(one["base_accuracy"]), spread(one["accuracy"]),
            *("{:+.2f} ({:+.2f} to {:+.2f})".format(*one[split]) for split in SPLITS),
            "helps" if low > 0 else "harms" if high < 0 else "no difference shown",
        ))  # fmt: skip
    head = (
        "change", "seeds", "base, %", "accuracy, %", "difference on valid, points",
        "difference on test, points", "",
    )  # fmt: skip
    words = (
        f"The base: {EPOCHS} epochs of the train split and {MADE} made texts; it is another for "
        "changes that were measured on another machine. Accuracy is of the test split. "
        "Differences are of the same seeds and texts, with 95% bootstrap intervals over both; a "
        "change helps or harms where the interval on the test split leaves out 0. Defaults are "
        "chosen on the valid split."
    )
    title = f"One change at a time: {base.distill.student}, {base.name}"
    return section(title, words, head, lines)


def curve(rows: dict[str, Cell], cells: Rows) -> str:
    """Accuracy over the size of the transfer set."""
    keys = ("accuracy", "retention", "agreement")
    there = [cells[name] for name in rows if name in cells]
    lines = [(*transfer(ones), *(accuracies(ones, key) for key in keys)) for ones in there]
    head = ("texts", "epochs", "accuracy, %", "retention, %", "agrees with the teacher, %")
    title = "micro by the size of the transfer set"
    return section(title, "Test split.", head, lines) if len(lines) > 1 else ""


def few(rows: dict[str, Cell], cells: Rows) -> str:
    """What few labels do."""
    lines = []
    for name, cell in rows.items():
        found = [one["result"] for one in cells.get(name, ())]
        who = ("teacher", "distilled", "hard", "tfidf")
        shares = [[100 * one[name]["test"]["accuracy"] for one in found] for name in who]
        if found:
            lines.append((str(cell.labelled), *map(spread, shares)))
    head = ("labels", "teacher", "micro, distilled", "micro, labels only", "TF-IDF")
    words = (
        "Accuracy on the test split, %. A fifth of the labels chooses the epoch; the teacher "
        "labels 20,000 other texts for the distilled student."
    )
    return section("From few labels", words, head, lines)
