"""What typos and an attack cost students that were trained to bear them, and others.

    make demo  # the teacher and its soft labels
    python benchmarks/robustness.py

Trains micro in several ways, some of which are cells of distillation.py's ablation. Then measures
all that are there on the test split as it is, with typos made by nlpaug's character augmenters as
that library has them, and under `Substitution`. The texts with typos stay in the work folder.
Writes benchmarks/results/robustness.json and robustness.md.
"""

import argparse
import hashlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nlpaug.augmenter.char as nlpaug
import numpy as np
import tensorflow as tf
from cells import RESULTS, RUN, SEEDS, WORK, Cell, commit, do, done, seeded
from distillation import ABLATION_EPOCHS, ABLATION_MADE, BERTS, METHODS, spread
from trainings import DATA

from kdedge import Student, load_corpus, load_teacher
from kdedge.bench.report.tables import markdown
from kdedge.distill.adversaries.substitution import Substitution
from kdedge.files import write_text
from kdedge.labels.store import SoftLabels
from kdedge.recipe import Label
from kdedge.students.trained import predict_logits
from kdedge.text.encoder import TextEncoder
from kdedge.text.splits import Split

COMMAND = "python benchmarks/robustness.py"
TYPOS: dict[str, Callable[[], Any]] = {
    "keyboard": nlpaug.KeyboardAug,
    "ocr": nlpaug.OcrAug,
    "random": nlpaug.RandomCharAug,
}
SWAPS, BATCH = 2, 64
BASE = "base"
NEIGHBOURS = Label().mixture.model_dump() | {"neighbours": 3}
# name: [distill], the mixture of made texts.
WAYS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    BASE: ({}, {}),
    "typos": (METHODS["typos"], {}),
    "typos, made texts with near words": (METHODS["typos"], NEIGHBOURS),
    "adversary: generator": (METHODS["adversary: generator"], {}),
    "typos, and the generator": (METHODS["typos"] | METHODS["adversary: generator"], {}),
    "adversary: substitution": (METHODS["adversary: substitution"], {}),
}
# At least a third less lost, and no more than half a point of clean accuracy.
LESS_LOST, CLEAN_POINTS = 1 / 3, 0.5


def main() -> None:
    """Train, perturb, measure, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=ABLATION_EPOCHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS], help="to train")
    parser.add_argument("--made", type=int, default=ABLATION_MADE, help="texts")
    parser.add_argument("--teacher", type=Path, default=RUN / "teacher")
    parser.add_argument("--soft-labels", type=Path, default=RUN / "soft_labels")
    parser.add_argument("--work", type=Path, default=WORK)
    given = parser.parse_args()
    cells = [
        cell
        for name, (distill, mixture) in WAYS.items()
        for cell in seeded(
            SEEDS,
            name=name,
            # The adversaries need the teacher's word pieces.
            distill={"student": "micro", "epochs": given.epochs, "vocabulary": BERTS} | distill,
            made=given.made,
            mixture=mixture,
            keep=True,
            teacher=given.teacher.resolve(),
            soft_labels=given.soft_labels.resolve(),
        )
    ]
    wanted = [c for c in cells if c.seed in given.seeds and c.name in given.ways]
    failed = do(wanted, given.work)

    test = load_corpus(DATA, split="split").test
    files = {name: perturbed(name, test, given.work / "robustness") for name in TYPOS}
    sets = {"clean": test.texts} | {name: read(path) for name, path in files.items()}
    store = SoftLabels(given.soft_labels)
    students: dict[str, dict[int, dict[str, float]]] = {}
    for cell in cells:
        if done(cell, given.work):
            found = measured(cell, given.work, sets, test, store)
            students.setdefault(cell.name, {})[cell.seed] = found
    result = {
        "command": COMMAND,
        "commit": commit(),
        "epochs": given.epochs,
        "made": given.made,
        "sha256": {
            name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()
        },
        "teacher": teachers(given.teacher, store.teacher, sets, test, given.work),
        "students": students,
    }
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / "robustness.json", json.dumps(result, indent=2) + "\n")
    write_text(RESULTS / "robustness.md", table(result))
    if failed:
        sys.exit(f"These cells failed: {'; '.join(failed)}")


def perturbed(name: str, test: Split, folder: Path) -> Path:
    """The test texts with one of nlpaug's kinds of typos, a line each; made once."""
    path = folder / f"{name}.txt"
    if not path.is_file():
        # nlpaug draws from both.
        random.seed(0)
        np.random.seed(0)
        augmenter = TYPOS[name]()
        lines = [" ".join(augmenter.augment(text)[0].split()) for text in test.texts]
        write_text(path, "\n".join(lines) + "\n")
    return path


def read(path: Path) -> tuple[str, ...]:
    """The texts that `perturbed` wrote."""
    return tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))


def measured(
    cell: Cell, work: Path, sets: dict[str, tuple[str, ...]], test: Split, store: SoftLabels
) -> dict[str, float]:
    """The accuracies of a cell's student, which are kept."""
    path = work / "robustness" / cell.path(work).name
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["job"] == cell.job:
            return dict(kept["accuracies"])
    found = accuracies(Student.load(cell.folder(work, "students")), sets, test, store)
    write_text(path, json.dumps({"job": cell.job, "accuracies": found}) + "\n")
    return found


def teachers(
    folder: Path, fingerprint: str, sets: dict[str, tuple[str, ...]], test: Split, work: Path
) -> dict[str, float]:
    """The teacher's accuracies, which are kept."""
    path = work / "robustness" / f"teacher-{fingerprint[:16]}.json"
    if not path.is_file():
        teacher = load_teacher(folder)
        found = on_each(teacher, teacher.encoder, sets, test)
        write_text(path, json.dumps(found) + "\n")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def accuracies(
    student: Student, sets: dict[str, tuple[str, ...]], test: Split, store: SoftLabels
) -> dict[str, float]:
    """Of a student, on each set and under attack."""
    found = on_each(student.model, student.encoder, sets, test)
    return found | {"attack": share_right(attacked_logits(student, test, store), test)}


def on_each(
    model: Any, encoder: TextEncoder, sets: dict[str, tuple[str, ...]], test: Split
) -> dict[str, float]:
    """A model's accuracy on each set."""
    return {
        name: share_right(predict_logits(model, encoder, texts), test)
        for name, texts in sets.items()
    }


def attacked_logits(student: Student, test: Split, store: SoftLabels) -> Any:
    """What it says of texts that were changed against it, float32 [texts, classes].

    The swaps that raise its divergence from the teacher most, of tokens with near vectors.
    """
    vocabulary = student.encoder.vocabulary
    tokenizer = store.encoder().tokenizer
    kept = [tokenizer.token_to_id(piece) for piece in vocabulary]
    vectors = store.token_vectors()[kept]
    adversary = Substitution(student.model, vectors, vocabulary, swaps=SWAPS)
    attack = tf.function(adversary.attack, reduce_retracing=True)
    teacher, _ = store.lookup(test.texts)
    parts = []
    for start in range(0, len(test), BATCH):
        encoded = student.encoder.encode(test.texts[start : start + BATCH])
        inputs = {name: tf.constant(array) for name, array in encoded.inputs.items()}
        inputs["ids"] = attack(inputs, tf.constant(teacher[start : start + BATCH]))
        parts.append(student.model(inputs, training=False).numpy())
    return np.concatenate(parts)


def share_right(logits: Any, test: Split) -> float:
    """Accuracy."""
    return float((logits.argmax(1) == test.labels).mean())


def table(result: dict[str, Any]) -> str:
    """Accuracy everywhere, and whether the targets are met."""
    students = result["students"]
    kinds = [*TYPOS, "attack"]
    base = students[BASE]
    teacher = result["teacher"]
    lines = [
        (
            "teacher",
            "",
            *(
                f"{100 * teacher[name]:.2f}" if name in teacher else ""
                for name in ("clean", *kinds)
            ),
        )
    ]
    verdicts = []
    for name, by_seed in students.items():
        ones = [*by_seed.values()]
        shares = [spread([100 * one[kind] for one in ones]) for kind in ("clean", *kinds)]
        lines.append((name, str(len(ones)), *shares))
        seeds = [seed for seed in by_seed if seed in base]
        if name == BASE or not seeds:
            continue
        pairs = [(base[seed], by_seed[seed]) for seed in seeds]
        cost = 100 * float(np.mean([plain["clean"] - one["clean"] for plain, one in pairs]))
        verdict = [f"{cost:+.2f} {'✓' if cost <= CLEAN_POINTS else '✗'}"]
        for kind in kinds:
            if kind == "attack" and "substitution" in name:
                verdict.append("trained on it")
                continue
            was, now = (
                np.mean([one["clean"] - one[kind] for one in ones])
                for ones in zip(*pairs, strict=True)
            )
            less = 1 - now / was
            verdict.append(f"{100 * less:.0f}% {'✓' if less >= LESS_LOST else '✗'}")
        verdicts.append((name, *verdict))
    return (
        f"Made by `{COMMAND}`; robustness.json has the rest.\n\n"
        f"micro by a small budget, {result['epochs']} epochs of the train split and "
        f"{result['made']:,} made texts. Accuracy on the test split, %, mean and standard "
        "deviation over seeds. `keyboard`, `ocr` and `random` are nlpaug's character augmenters "
        f"with its defaults; `attack` swaps at most {SWAPS} word pieces of a text, chosen against "
        "the very student.\n\n"
        + markdown(("", "seeds", "clean", *kinds), lines)
        + "\nHow much less of the clean accuracy is lost than by the plain student (target: at "
        "least a third), and the points of clean accuracy that it costs (target: at most 0.5):\n\n"
        + markdown(("", "cost, points", *kinds), verdicts)
    )


if __name__ == "__main__":
    main()
