"""What the students keep of the teacher, beside what a user would pick instead, and what earns it.

    make demo                        # the teacher and its soft labels
    python benchmarks/unlabelled.py
    python benchmarks/distillation.py main peers ablation mini-ablation curve few bench

Each word is a part and can be left out. Trainings are cells (cells.py) in runs/distillation, each
in a process of its own, and are not done twice. `bench` measures the bundles in
runs/distillation/bundles, which `main` and `peers` make. Then what is new is put into
benchmarks/results/distillation.json, in the place of what was there of the same name and seed, or
of the same machine and models, and distillation.md is written from it; `tables` does nothing else.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cells import RESULTS, RUN, SEEDS, WORK, Cell, by_name, commit, do, kept, seeded

from kdedge.bench.report.model import BenchReport, three_digits
from kdedge.bench.report.tables import markdown
from kdedge.bench.run import bench_bundles
from kdedge.bench.scenario import scenario
from kdedge.bench.statistics import RESAMPLES
from kdedge.files import write_text

COMMAND = "python benchmarks/distillation.py"
# student: least retention in percent, least speed-up, most megabytes of the int8 .tflite.
TARGETS = {"nano": (94.0, 300, 1.0), "micro": (96.5, 80, 1.5), "mini-cut": (98.5, 6, 8.0)}
# [distill], and how many texts are made of all others. The texts are those of
# recipes/movie_reviews.toml, with the reviews of unlabelled.py on top where the name says so.
# Of 1.2e-3, 2e-3 and 3e-3 the rate that does best on the valid split with so many steps.
LONGER = {"learning_rate": 1.2e-3}
STUDENTS: dict[str, tuple[dict[str, Any], int | None]] = {
    "nano with reviews, more made": ({"epochs": 6}, 100_000),
    "micro": ({"epochs": 8}, None),
    "micro with reviews": ({"epochs": 9} | LONGER, None),
    "micro with reviews, more made": ({"epochs": 6} | LONGER, 100_000),
    "mini-cut with reviews, more made": ({"epochs": 4}, 100_000),
}
# What a row is called: what it is in the tables, its kind, how it differs from the defaults.
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "no teacher": (
        "the same micro without a teacher, on the labels alone",
        {
            "distill": {
                "student": "micro", "alpha": 0.0, "feature_weight": 0.0, "from_teacher": False,
            },
            "made": 0,
        },
    ),
    "stock": (
        "the same micro, all of BERT's word pieces, by keras.distillation.Distiller, live teacher, "
        "4 epochs of the train split",
        {"kind": "stock", "distill": {"student": "micro", "epochs": 4}},
    ),
    "static": (
        "static embeddings as model2vec's, of the teacher's token vectors, logistic regression",
        {"kind": "static"},
    ),
    "tfidf": ("TF-IDF and logistic regression, in scikit-learn", {"kind": "tfidf"}),
    "tinybert": (
        "the shape of TinyBERT-4, 4 layers of 312, from scratch: 2 epochs of 24,000 soft labels",
        {"kind": "tinybert", "texts": 24_000, "distill": {"epochs": 2}},
    ),
}  # fmt: skip
ONE_SEED = ("static", "tfidf", "tinybert")
ABLATION_MADE, ABLATION_EPOCHS = 16_000, 4
SPLITS = ("valid", "test")
# All word pieces of the teacher.
BERTS = 30_522
# One rule of augmentation each; the others are off.
RULES = ("drop", "crop", "splice", "mask", "typos", "neighbours")
# name: what is changed of [distill] against the base.
METHODS: dict[str, dict[str, Any]] = {
    "no soft labels: alpha 0": {"alpha": 0.0},
    "soft labels only: alpha 1": {"alpha": 1.0},
    "alpha 0.5": {"alpha": 0.5},
    "alpha from 1 to 0.5": {"alpha": 1.0, "alpha_end": 0.5},
    "temperature 1": {"temperature": 1.0},
    "temperature 2": {"temperature": 2.0},
    "temperature 4": {"temperature": 4.0},
    "temperature from 4 to 1": {"temperature": 4.0, "temperature_end": 1.0},
    "adaptive weights": {"adaptive_weights": True},
    "no sentence vectors": {"feature_weight": 0.0},
    "sentence vectors, weight 1": {"feature_weight": 1.0},
    "not from the teacher's token vectors": {"from_teacher": False},
    "linear decay": {"learning_rate_decay": "linear"},
    "exponential decay": {"learning_rate_decay": "exponential"},
    "constant learning rate": {"learning_rate_decay": "constant"},
    "typos": {"typos": 0.5},
    "adversary: substitution": {"adversary": "substitution"},
    "adversary: generator": {"adversary": "generator"},
    "adversary: prompt": {"adversary": "prompt"},
    "prompt: task": {"prompt": "task"},
    "prompt: soft label": {"prompt": "soft-label"},
}
ATTACKED, TWO_TEACHERS = "texts of the substitution, labelled once", "two teachers"
LAYER_METHODS: dict[str, dict[str, Any]] = {
    "hidden states": {"hidden_weight": 1.0},
    "attention maps": {"attention_weight": 1.0},
    "hidden states and attention maps": {"hidden_weight": 1.0, "attention_weight": 1.0},
}
# base: what is changed against it.
BASES = {
    "base": [
        *METHODS,
        ATTACKED,
        TWO_TEACHERS,
        "no made texts",
        *(f"only {rule}" for rule in RULES),
    ],
    "one task": ["two tasks"],
    "mini base": [*LAYER_METHODS],
}
# Texts of the transfer set: epochs. A small set is seen more often, so that what is measured is
# texts and not steps.
CURVE = {2_000: 96, 8_000: 48, 24_000: 16}
FEW = (100, 500, 2000)


def main() -> None:
    """Do the parts that were asked for, then write what is there."""
    parts: dict[str, Callable[..., list[Cell]]] = {
        "main": main_cells, "peers": peer_cells, "ablation": ablation_cells,
        "mini-ablation": mini_ablation_cells, "curve": curve_cells, "few": few_cells,
    }  # fmt: skip
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="+", choices=[*parts, "bench", "tables"])
    parser.add_argument(
        "--epochs", type=int, default=ABLATION_EPOCHS, help="of each cell of the ablations"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--only", default="", help="cells with this in their name")
    parser.add_argument("--teacher", type=Path, default=RUN / "teacher")
    parser.add_argument("--teacher-bundle", type=Path, default=RUN / "teacher_bundle")
    parser.add_argument("--soft-labels", type=Path, default=RUN / "soft_labels")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--tier", default="light", help="of bench")
    given = parser.parse_args()
    cells = [cell for part in given.parts if part in parts for cell in parts[part](given)]
    where = {"teacher": given.teacher.resolve(), "soft_labels": given.soft_labels.resolve()}
    cells = [cell.model_copy(update=where) for cell in cells if given.only in cell.name]
    failed = do(cells, given.work)
    report = None
    if "bench" in given.parts:
        bundles = sorted((given.work / "bundles").iterdir())
        report = bench_bundles([given.teacher_bundle, *bundles], given.work, scenario(given.tier))
    write(given.work, report)
    if failed:
        sys.exit(f"These cells failed: {'; '.join(failed)}")


def main_cells(given: Any) -> list[Cell]:
    """The students that are to reach the targets."""
    return [
        Cell(
            name=name,
            seed=seed,
            unlabelled=" with " in name,
            made=made,
            distill={"student": name.split()[0]} | settings,
            bundle=seed == 1,
            keep=seed == 1,
        )
        for name, (settings, made) in STUDENTS.items()
        for seed in given.seeds
    ]


def peer_cells(given: Any) -> list[Cell]:
    """What a user would pick instead."""
    return [
        Cell(name=name, seed=seed, bundle=seed == 1 and name != "tfidf", **how)
        for name, (_, how) in PEERS.items()
        for seed in (given.seeds[:1] if name in ONE_SEED else given.seeds)
    ]


def ablation_cells(given: Any) -> list[Cell]:
    """micro with a small budget: each method alone changed, and each rule of augmentation alone."""
    # The adversaries and the matching of layers need the teacher's word pieces.
    base = {"student": "micro", "epochs": given.epochs, "vocabulary": BERTS}
    # What attacks it needs it.
    cells = seeded(given.seeds, name="base", distill=base, made=ABLATION_MADE, keep=True)
    for name, changed in METHODS.items():
        # A row that is the base anew would say nothing.
        if Cell(name="", seed=0, distill=base | changed).settings != cells[0].settings:
            cells += seeded(given.seeds, name=name, distill=base | changed, made=ABLATION_MADE)
    # As many steps as with made texts.
    more = base | {"epochs": 3 * given.epochs}
    cells += seeded(given.seeds, name="no made texts", distill=more, made=0)
    for kind in (TWO_TEACHERS, "one task", "two tasks"):
        cells += seeded(given.seeds, name=kind, kind=kind, distill=base, made=ABLATION_MADE)
    # As many steps: a third of the texts come on top.
    fewer = base | {"epochs": max(1, 3 * given.epochs // 4)}
    cells += seeded(given.seeds, name=ATTACKED, kind="attacked", distill=fewer, made=ABLATION_MADE)
    for rule in RULES:
        mixture = {rule: 1}
        cells += seeded(
            given.seeds, name=f"only {rule}", distill=base, made=ABLATION_MADE, mixture=mixture
        )
    return cells


def mini_ablation_cells(given: Any) -> list[Cell]:
    """The methods that only a transformer has."""
    # The adversaries and the matching of layers need the teacher's word pieces.
    base = {"student": "mini", "epochs": given.epochs, "vocabulary": BERTS}
    return [
        cell
        for name, changed in ({"mini base": {}} | LAYER_METHODS).items()
        for cell in seeded(given.seeds, name=name, distill=base | changed, made=ABLATION_MADE)
    ]


def curve_cells(given: Any) -> list[Cell]:
    """micro on few texts and on more; on all that there are, it is one of the main cells."""
    return [
        cell
        for texts, epochs in CURVE.items()
        for cell in seeded(
            given.seeds,
            name=f"curve {texts}",
            distill={"student": "micro", "epochs": epochs},
            texts=texts,
        )
    ]


def few_cells(given: Any) -> list[Cell]:
    """Few labelled texts, many without."""
    return [
        cell
        for labelled in FEW
        for cell in seeded(
            given.seeds,
            name=f"few {labelled}",
            kind="few",
            labelled=labelled,
            distill={"student": "micro"},
        )
    ]


def write(work: Path, report: BenchReport | None) -> None:
    """Put what is new into distillation.json, and write all tables."""
    path = RESULTS / "distillation.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    new = kept(work)
    ones = {_key(one): one for one in [*said["cells"], *map(_brief, new)]}
    said["cells"] = [ones[key] for key in sorted(ones)]
    for base in BASES:
        said["changes"] |= changes(by_name(new), base)
    if report:
        last = latencies(report)
        said["latency"] = [*(one for one in said["latency"] if not _again(one, last)), last]
    cells = by_name(said["cells"])
    sections = (
        main_table(cells, said["latency"]),
        latency_tables(said["latency"]),
        peers_table(cells, said["latency"]),
        *(ablation_table(said["changes"], base) for base in BASES),
        curve_table(cells),
        few_table(cells),
    )
    text = f"Made by `{COMMAND}`; distillation.json has the rest.\n\n"
    write_text(path.with_suffix(".md"), text + "\n".join(s for s in sections if s))
    write_text(path, json.dumps(said, indent=2) + "\n")


def _again(one: dict[str, Any], last: dict[str, Any]) -> bool:
    """Whether a later run has all that an earlier one measured on such a machine."""
    return one["machine"] == last["machine"] and set(one["models"]) <= set(last["models"])


def _key(cell: dict[str, Any]) -> tuple[str, int]:
    return cell["job"]["name"], cell["job"]["seed"]


def _brief(cell: dict[str, Any]) -> dict[str, Any]:
    """Without what was said of each text, and without paths of a machine."""

    def without(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: without(v) for k, v in value.items() if k not in ("right", "history")}

    job = {k: v for k, v in cell["job"].items() if k not in ("teacher", "soft_labels")}
    return {"job": job, "commit": cell["commit"], "result": without(cell["result"])}


def latencies(report: BenchReport) -> dict[str, Any]:
    """Of each model the fastest LiteRT file, against the teacher's fastest."""
    rows = {}
    for source in dict.fromkeys(m.source for m in report.measurements):
        own = [m for m in report.measurements if m.source == source and m.format == "litert"]
        fastest = min(own, key=lambda m: m.p1_ms)
        faster = report.speed_up(fastest)
        rows[source] = {
            "quantization": fastest.quantization,
            "p50_ms": fastest.p50_ms,
            "repeats_p50_ms": fastest.repeats_p50_ms,
            "times_faster": faster and [faster.ratio, faster.low, faster.high],
            "accuracy": fastest.score,
            "int8_bytes": next((m.bytes for m in own if m.quantization == "int8"), None),
        }
    environment = report.environments["local"]
    return {
        "machine": f"{environment['CPU']}, {environment['CPU features']}",
        "commit": commit(),
        "environment": environment,
        "scenario": report.scenario.model_dump(),
        "reasons": report.reasons,
        "models": rows,
    }


def main_table(cells: dict[str, list[Any]], latency: list[Any]) -> str:
    """Each student beside its targets."""
    rows = []
    for name in STUDENTS:
        if name not in cells:
            continue
        retention, _, megabytes = _targets(name)
        share = [100 * one["result"]["test"]["retention"] for one in cells[name]]
        nbytes = _measured(latency, name).get("int8_bytes")
        rows.append(
            (
                name,
                *_transfer(cells[name]),
                str(len(share)),
                spread([100 * one["result"]["test"]["accuracy"] for one in cells[name]]),
                f"{spread(share)} {_met(np.mean(share) >= retention)} {retention}",
                ""
                if not nbytes
                else f"{nbytes / 1e6:.2f} {_met(nbytes / 1e6 <= megabytes)} {megabytes}",
            )
        )
    if not rows:
        return ""
    head = (
        "student", "texts", "epochs", "seeds", "accuracy, %", "retention, %, at least",
        "LiteRT int8, MB, at most",
    )  # fmt: skip
    return (
        "## Students\n\nTest split, the Keras student. Means over seeds, and the standard "
        "deviation. Retention is the share of its teacher's accuracy. The texts are those of "
        "recipes/movie_reviews.toml, without or with 47,000 unlabelled sentences of whole movie "
        "reviews, which the project can't ship (benchmarks/unlabelled.py), and without or with "
        "100,000 texts made of both.\n\n" + markdown(head, rows)
    )


def _targets(name: str) -> Any:
    """Of a student, with whatever texts; None of anything else."""
    return TARGETS.get(name.split()[0])


def latency_tables(latency: list[Any]) -> str:
    """Each machine's, beside the targets."""
    text = (
        "## Latency\n\nOne text of 64 tokens, one thread, the fastest file of each in LiteRT, all "
        "in turn, against the teacher's fastest; with the 95% interval over the repeats.\n"
    )
    for one in latency:
        rows = []
        for name, m in one["models"].items():
            targets = _targets(name)
            times = m["times_faster"]
            verdict = f" {_met(times[0] >= targets[1])} {targets[1]}" if times and targets else ""
            rows.append(
                (
                    name,
                    m["quantization"],
                    f"{100 * m['accuracy']:.2f}",
                    three_digits(m["p50_ms"]),
                    "{} ({} to {})".format(*map(three_digits, times)) + verdict if times else "",
                )
            )
        head = ("model", "quantized", "accuracy, %", "p50, ms", "times faster, at least")
        text += f"\n{one['machine']}, at {one['commit']}:\n\n" + markdown(head, rows)
        text += "".join(f"\nNot to be relied on: {reason}\n" for reason in one["reasons"])
    return text if latency else ""


def _measured(latency: list[Any], name: str) -> dict[str, Any]:
    """What was measured of a model last."""
    found = [one["models"][name] for one in latency if name in one["models"]]
    return found[-1] if found else {}


def _met(yes: bool) -> str:
    return "✓" if yes else "✗"


def peers_table(cells: dict[str, list[Any]], latency: list[Any]) -> str:
    """Students and their rivals."""
    rows = []
    described = {name: name for name in STUDENTS} | {n: said for n, (said, _) in PEERS.items()}
    for name, said in described.items():
        if name not in cells or not set(PEERS) & set(cells):
            continue
        ones = [one["result"] for one in cells[name]]
        measured = _measured(latency, name)
        in_python, faster = ones[0].get("p50_ms"), measured.get("times_faster")
        nbytes = ones[0].get("bytes") or measured.get("int8_bytes")
        seconds = [one["seconds"] for one in ones if one["seconds"] is not None]
        rows.append(
            (
                said,
                spread([100 * one["test"]["accuracy"] for one in ones]),
                f"{nbytes / 1e6:.2f}" if nbytes else "",
                f"{in_python:.2f} ms" if in_python else three_digits(faster[0]) if faster else "",
                f"{np.mean(seconds) / 60:.1f}" if seconds else "",
            )
        )
    if not rows:
        return ""
    head = ("", "accuracy, %", "MB, int8", "times faster than the teacher", "training, minutes")
    return (
        "## Against what one would pick instead\n\nTest split. Training is the classifier's own, "
        "without the teacher's and without soft labels, and with another training beside it on the "
        "same two cores for some. How much faster each is comes from the tables above. The latency "
        "of TF-IDF is scikit-learn's in Python, and its size 4 bytes a number and its terms' "
        "letters.\n\n" + markdown(head, rows)
    )


def changes(cells: dict[str, list[Any]], base: str) -> dict[str, Any]:
    """How each change differs from the base, of the seeds that both have."""
    found = {}
    for name in BASES[base] if base in cells else ():
        pairs = {split: paired(cells[base], cells.get(name, []), split) for split in SPLITS}
        was, now = pairs["test"]
        if len(now):
            found[name] = {
                "base": base,
                "settings": cells[base][0]["job"]["distill"],
                "commit": cells[name][-1]["commit"],
                "base_accuracy": [float(right) for right in 100 * was.mean(1)],
                "accuracy": [float(right) for right in 100 * now.mean(1)],
                **{split: difference(*pair) for split, pair in pairs.items()},
            }
    return found


def ablation_table(found: dict[str, Any], base: str) -> str:
    """Each change's difference from the base."""
    rows = []
    for name in BASES[base]:
        if name in found:
            one = found[name]
            low, high = one["test"][1:]
            rows.append(
                (
                    name,
                    str(len(one["accuracy"])),
                    spread(one["base_accuracy"]),
                    spread(one["accuracy"]),
                    *("{:+.2f} ({:+.2f} to {:+.2f})".format(*one[split]) for split in SPLITS),
                    "helps" if low > 0 else "harms" if high < 0 else "no difference shown",
                )
            )
            settings = one["settings"]
    if not rows:
        return ""
    head = (
        "change", "seeds", "base, %", "accuracy, %", "difference on valid, points",
        "difference on test, points", "",
    )  # fmt: skip
    return (
        f"## One change at a time: {settings['student']}, {base}\n\n"
        f"The base: {settings['epochs']} epochs of the train split and {ABLATION_MADE} made texts; "
        "it is another for changes that were measured on another machine. Accuracy is of the test "
        "split. Differences are of the same seeds and texts, with 95% "
        "bootstrap intervals over both; a change helps or harms where the interval on the test "
        "split leaves out 0. Defaults are chosen on the valid split.\n\n" + markdown(head, rows)
    )


def paired(base: list[Any], other: list[Any], split: str) -> tuple[Any, Any]:
    """Which texts each got right, float [seeds, texts], of the seeds that both have."""
    by_seed = [
        {one["job"]["seed"]: one["result"][split]["right"] for one in ones}
        for ones in (base, other)
    ]
    seeds = sorted(set(by_seed[0]) & set(by_seed[1]))
    a, b = (np.array([[int(r) for r in ones[s]] for s in seeds], float) for ones in by_seed)
    return a, b


def difference(base: Any, other: Any) -> tuple[float, float, float]:
    """Points that `other` has over `base`, and a 95% interval.

    Args:
        base: 1 where a text was labelled right, [seeds, texts].
        other: the same of the same seeds and texts, which are drawn anew together.
    """
    rng = np.random.default_rng(0)
    apart = 100 * (other - base)
    seeds, texts = apart.shape
    drawn = [
        apart[rng.integers(seeds, size=seeds)].mean(0)[rng.integers(texts, size=texts)].mean()
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(apart.mean()), float(low), float(high)


def curve_table(cells: dict[str, list[Any]]) -> str:
    """Accuracy over the size of the transfer set."""
    names = (*(f"curve {texts}" for texts in CURVE), "micro", "micro with reviews")
    rows = [
        (
            *_transfer(cells[name]),
            *(
                spread([100 * one["result"]["test"][key] for one in cells[name]])
                for key in ("accuracy", "retention", "agreement")
            ),
        )
        for name in names
        if name in cells
    ]
    if len(rows) < 2:
        return ""
    head = ("texts", "epochs", "accuracy, %", "retention, %", "agrees with the teacher, %")
    return "## micro by the size of the transfer set\n\nTest split.\n\n" + markdown(head, rows)


def _transfer(ones: list[Any]) -> tuple[str, str]:
    """Texts and epochs."""
    return str(ones[0]["result"]["transfer_texts"]), str(ones[0]["job"]["distill"]["epochs"])


def few_table(cells: dict[str, list[Any]]) -> str:
    """What few labels do."""
    rows = []
    for labelled in FEW:
        ones = cells.get(f"few {labelled}", ())
        if ones:
            rows.append(
                (
                    str(labelled),
                    *(
                        spread([100 * one["result"][who]["test"]["accuracy"] for one in ones])
                        for who in ("teacher", "distilled", "hard", "tfidf")
                    ),
                )
            )
    if not rows:
        return ""
    head = ("labels", "teacher", "micro, distilled", "micro, labels only", "TF-IDF")
    return (
        "## From few labels\n\nAccuracy on the test split, %. A fifth of the labels chooses the "
        "epoch; the teacher labels 20,000 other texts for the distilled student.\n\n"
        + markdown(head, rows)
    )


def spread(values: Sequence[float]) -> str:
    """`81.53 ± 0.21`: the mean, and the standard deviation where there are several."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


if __name__ == "__main__":
    main()
