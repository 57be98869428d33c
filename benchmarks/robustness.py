"""What typos and an attack cost students that were trained to bear them, and others.

    make demo  # the teacher and its soft labels
    python benchmarks/robustness.py

Trains micro in several ways, some of which are cells of distillation.py's ablation. Then measures
all that are there on the test split as it is, with typos made by nlpaug's character augmenters as
that library has them, and under `Substitution`. The texts with typos stay in the work folder.
"""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Setup, alone, asked, cli
from benchmarks.study.grid import EPOCHS, MADE, SEEDS, Cell, do, done, grid_of
from benchmarks.study.statistics import spread
from kdedge import KdedgeError
from kdedge.bench.report.tables import markdown
from kdedge.files import write_text
from kdedge.text.splits import Split

TYPOS = {"keyboard": "KeyboardAug", "ocr": "OcrAug", "random": "RandomCharAug"}
KINDS = (*TYPOS, "attack")
SWAPS, BATCH = 2, 64
BASE = "base"
# At least a third less lost, and no more than half a point of clean accuracy.
LESS_LOST, CLEAN_POINTS = 1 / 3, 0.5
Sets = dict[str, tuple[str, ...]]


def main() -> None:
    """Train, perturb, measure, write."""
    setup, given = asked("robustness", __doc__, seeds=SEEDS)
    # The cells are kept where distillation.py keeps its own.
    study = setup.of("distillation")
    cells = grid_of(setup.recipe).cells(["robustness"], given.seeds)
    failed = do(cells, study)
    test = setup.corpus().test
    files = {name: perturbed(name, test, study.work / "robustness") for name in TYPOS}
    sets = {"clean": test.texts} | {name: read(path) for name, path in files.items()}
    students: dict[str, dict[int, dict[str, float]]] = {}
    for cell in cells:
        if done(cell, study):
            found = alone(measured, cell, study, sets, test)
            students.setdefault(cell.name, {})[cell.seed] = found
    digests = {name: hashlib.sha256(path.read_bytes()) for name, path in files.items()}
    figures = {
        "epochs": EPOCHS,
        "made": MADE,
        "sha256": {name: digest.hexdigest() for name, digest in digests.items()},
        "teacher": alone(measured, None, study, sets, test),
        "students": students,
    }
    setup.keep(setup.about() | figures, page)
    if failed:
        raise KdedgeError(f"these cells failed: {'; '.join(failed)}.")


def perturbed(name: str, test: Split, folder: Path) -> Path:
    """The test texts with one of nlpaug's kinds of typos, a line each; made once."""
    import nlpaug.augmenter.char as nlpaug

    path = folder / f"{name}.txt"
    if not path.is_file():
        # nlpaug draws from both.
        random.seed(0)
        np.random.seed(0)
        augmenter = getattr(nlpaug, TYPOS[name])()
        lines = [" ".join(augmenter.augment(text)[0].split()) for text in test.texts]
        write_text(path, "\n".join(lines) + "\n")
    return path


def read(path: Path) -> tuple[str, ...]:
    """The texts that `perturbed` wrote."""
    return tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))


def measured(cell: Cell | None, study: Setup, sets: Sets, test: Split) -> dict[str, float]:
    """Accuracy of a cell's student on each set and under attack; of the teacher without a cell."""
    from kdedge import Student, load_teacher
    from kdedge.students.trained import predict_logits

    def right(logits: Any) -> float:
        return float((logits.argmax(1) == test.labels).mean())

    if cell:
        student = Student.load(cell.folder(study.work, "students"))
        model, encoder = student.model, student.encoder
    else:
        model = load_teacher(study.made("teacher"))
        encoder = model.encoder
    found = {name: right(predict_logits(model, encoder, texts)) for name, texts in sets.items()}
    return found | ({"attack": right(attacked_logits(student, test, study))} if cell else {})


def attacked_logits(student: Any, test: Split, study: Setup) -> Any:
    """What it says of texts that were changed against it, float32 [texts, classes].

    The swaps that raise its divergence from the teacher most, of tokens with near vectors.
    """
    import tensorflow as tf

    from kdedge import SoftLabels
    from kdedge.distill.adversaries.substitution import Substitution

    store, vocabulary = SoftLabels(study.made("soft_labels")), student.encoder.vocabulary
    tokenizer = store.encoder().tokenizer
    vectors = store.token_vectors()[[tokenizer.token_to_id(token) for token in vocabulary]]
    adversary = Substitution(student.model, vectors, vocabulary, swaps=SWAPS)
    attack: Callable[..., Any] = tf.function(adversary.attack, reduce_retracing=True)
    teacher, _ = store.lookup(test.texts)
    parts = []
    for start in range(0, len(test), BATCH):
        encoded = student.encoder.encode(test.texts[start : start + BATCH])
        inputs = {name: tf.constant(array) for name, array in encoded.inputs.items()}
        inputs["ids"] = attack(inputs, tf.constant(teacher[start : start + BATCH]))
        parts.append(student.model(inputs, training=False).numpy())
    return np.concatenate(parts)


def page(result: dict[str, Any]) -> str:
    """Accuracy everywhere, and whether the targets are met."""
    students, teacher = result["students"], result["teacher"]
    base = students[BASE]
    said = (f"{100 * teacher[kind]:.2f}" if kind in teacher else "" for kind in ("clean", *KINDS))
    lines, verdicts = [("teacher", "", *said)], []
    for name, by_seed in students.items():
        ones = [*by_seed.values()]
        shares = (spread([100 * one[kind] for one in ones]) for kind in ("clean", *KINDS))
        lines.append((name, str(len(ones)), *shares))
        pairs = [(base[seed], one) for seed, one in by_seed.items() if seed in base]
        if name == BASE or not pairs:
            continue
        cost = 100 * float(np.mean([plain["clean"] - one["clean"] for plain, one in pairs]))
        verdict = [f"{cost:+.2f} {'✓' if cost <= CLEAN_POINTS else '✗'}"]
        for kind in KINDS:
            was, now = (
                np.mean([one["clean"] - one[kind] for one in both])
                for both in zip(*pairs, strict=True)
            )
            less = 1 - now / was
            mark = "✓" if less >= LESS_LOST else "✗"
            trained_on = kind == "attack" and name == "adversary: substitution"
            verdict.append("trained on it" if trained_on else f"{100 * less:.0f}% {mark}")
        verdicts.append((name, *verdict))
    return (
        f"micro by a small budget, {result['epochs']} epochs of the train split and "
        f"{result['made']:,} made texts. Accuracy on the test split, %, mean and standard "
        "deviation over seeds. `keyboard`, `ocr` and `random` are nlpaug's character augmenters "
        f"with its defaults; `attack` swaps at most {SWAPS} word pieces of a text, chosen against "
        f"the very student.\n\n{markdown(('', 'seeds', 'clean', *KINDS), lines)}\n"
        "How much less of the clean accuracy is lost than by the plain student (target: at "
        "least a third), and the points of clean accuracy that it costs (target: at most 0.5):\n\n"
        + markdown(("", "cost, points", *KINDS), verdicts)
    )


if __name__ == "__main__":
    cli(main)
