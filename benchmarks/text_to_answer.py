"""From a text to its answer in Python: each text at its own length, and all at one length.

    make demo                            # the teacher and its soft labels
    python benchmarks/text_to_answer.py

Answers texts of the test split one by one with int8 LiteRT files, in two ways: `own length` is
`predict` of a bundle's default model; `one length` pads each text to max_length, and has its tokens
from the `tokenizers` library. Each process measures one way of one model, and the processes of all
models and ways alternate. No text is measured twice; the words of other texts come before.

A list of texts is answered in one call with one thread and with two; in the way `one length`, text
by text.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import Figures, Setup, alone, asked, cli, machine, once
from kdedge import load_bundle
from kdedge.bench.report.model import three_digits
from kdedge.bench.report.tables import markdown
from kdedge.bench.statistics import ratio_interval
from kdedge.bundle.manifest import verify

MODELS = ("nano", "micro", "mini", "teacher")
ARTIFACTS = ("litert-int8", "litert-int8-lengths")
ONE, OWN = "one length", "own length"
WARM_UP, MEASURED, LISTED = 500, 500, 1000
# What is timed, and what it is compared with.
TIMES = {
    "tokenization, µs": "tokenize",
    "text to answer, µs": "answer",
    "list, one thread, µs a text": "list_1",
    "list, two threads, µs a text": "list_2",
}


class Texts(NamedTuple):
    """Texts by what is done with them; no text is in two of them."""

    warm_up: Sequence[Any]
    tokenize: Sequence[Any]
    answer: Sequence[Any]
    listed: Sequence[Any]


def main() -> None:
    """Distil, export, measure, keep."""
    setup, given = asked("text_to_answer", __doc__, "models", repeats=7)
    models, corpus = given.models or [*MODELS], setup.corpus()
    bundles = {model: setup.work / "bundles" / model for model in models}
    for model, bundle in bundles.items():
        once(bundle, export, setup, model, bundle)
    test = corpus.test.texts
    third = min(MEASURED, len(test) // 3)
    texts = Texts(
        corpus.valid.texts[:WARM_UP],
        test[:third],
        test[third : 2 * third],
        test[2 * third :][:LISTED],
    )
    found: dict[str, dict[str, list[dict[str, float]]]] = {
        model: {way: [] for way in WAYS} for model in models
    }
    for number in range(given.repeats):
        for model in models:
            # Another way is first in each round.
            for way in [*WAYS][:: 1 if number % 2 else -1]:
                found[model][way].append(alone(measured, bundles[model], way, texts))
    rows = {model: {"repeats": found[model], **sizes(bundle)} for model, bundle in bundles.items()}
    about = {"machine": machine(), "repeats": given.repeats, "tokens": tokens(bundles, texts)}
    setup.keep(setup.about() | about | {"models": rows}, page)


def export(setup: Setup, model: str, bundle: Path) -> None:
    """Export a preset's student, or the teacher, in int8 for one length and for several."""
    from kdedge import Student, export_bundle, load_teacher
    from kdedge.export.subject import subject_of, subject_of_classifier
    from kdedge.recipe import Export

    if model == "teacher":
        teacher = load_teacher(setup.made("teacher"))
        subject = subject_of_classifier(model, teacher, teacher.encoder, setup.corpus())
    else:
        subject = subject_of(Student.load(setup.student(model)))
    # A loss of accuracy is no reason to stop: only times are compared.
    export_bundle(subject, Export(artifacts=ARTIFACTS, max_accuracy_drop=100), bundle)


def sizes(bundle: Path) -> Figures:
    """Bytes of the files, and the lengths of the one for several."""
    one, several = map(verify(bundle).artifact, ARTIFACTS)
    return {"bytes": [one.bytes, several.bytes], "lengths": several.lengths}


def tokens(bundles: dict[str, Path], texts: Texts) -> float:
    """Mean number of tokens of the texts that are answered."""
    encoder = load_bundle(next(iter(bundles.values()))).encoder
    return statistics.mean(len(row.ids) for row in encoder.tokens(texts.answer))


def measured(bundle: Path, way: str, texts: Texts) -> dict[str, float]:
    """Median microseconds of each of `TIMES`, in this process."""
    tokenize, answer, answer_list = WAYS[way](bundle)
    for text in texts.warm_up:
        answer(text)
    found = {
        "tokenize": statistics.median(timed(tokenize, texts.tokenize)),
        "answer": statistics.median(timed(answer, texts.answer)),
    }
    for threads in (1, 2):
        (whole,) = timed(answer_list(threads), [texts.listed])
        found[f"list_{threads}"] = whole / len(texts.listed)
    return found


def timed(work: Callable[[Any], object], given: Iterable[Any]) -> list[float]:
    """Microseconds of each call."""
    times = []
    for one in given:
        start = time.perf_counter_ns()
        work(one)
        times.append((time.perf_counter_ns() - start) / 1000)
    return times


Way = tuple[
    Callable[[Any], object], Callable[[Any], object], Callable[[int], Callable[[Any], object]]
]


def own_length(bundle: Path) -> Way:
    """Tokens, an answer, and answers to a list by so many threads, as an app gets them."""
    models = {threads: load_bundle(bundle, ARTIFACTS[1], threads=threads) for threads in (1, 2)}
    model = models[1]
    return (
        lambda text: model.encoder.tokens([text]),
        lambda text: model.predict([text]),
        lambda threads: models[threads].predict,
    )


def one_length(bundle: Path) -> Way:
    """The same with one length, and tokens by `tokenizers`."""
    model = load_bundle(bundle, ARTIFACTS[0])
    tokenizer = model.encoder.tokenizer
    tokenizer.enable_padding(length=model.engine.length, pad_id=model.encoder.pad_id)
    decision, task = model.decision, model.manifest.task

    def answer(text: Any) -> list[Any]:
        encoding = tokenizer.encode(text)
        rows = (encoding.ids, encoding.attention_mask, encoding.type_ids)
        names = ("ids", "mask", "segment_ids")
        inputs = {name: np.array([row], np.int32) for name, row in zip(names, rows, strict=True)}
        outputs = model.engine.run(inputs)
        if decision:
            unknown = inputs["ids"][0] == model.encoder.unknown_id
            outputs = decision.calibrated(task, outputs)
            decision.unsure(task, outputs, [unknown.sum() / inputs["mask"].sum()])
        return [*task.answers(outputs)]

    return tokenizer.encode, answer, lambda threads: lambda texts: [*map(answer, texts)]


WAYS: dict[str, Callable[[Path], Way]] = {ONE: one_length, OWN: own_length}


def page(result: Figures) -> str:
    """The table as Markdown."""
    rows, against = [], result["models"].get("teacher")
    for model, row in result["models"].items():
        for what, key in TIMES.items():
            one, own = ([repeat[key] for repeat in row["repeats"][way]] for way in (ONE, OWN))
            teacher = [repeat[key] for repeat in against["repeats"][OWN]] if against else []
            rows.append(
                (
                    model,
                    what,
                    three_digits(statistics.median(one)),
                    three_digits(statistics.median(own)),
                    *ratio(one, own),
                    *(ratio(teacher, own) if teacher and model != "teacher" else ("", "")),
                )
            )
    head = (
        "model", "", ONE, OWN, "times as fast", "95% interval", "times as fast as the teacher",
        "95% interval",
    )  # fmt: skip
    files = [
        (model, ", ".join(map(str, row["lengths"])), f"{row['bytes'][1] / row['bytes'][0]:.3f}")
        for model, row in result["models"].items()
    ]
    return (
        f"{result['machine']}. Medians over {result['repeats']} processes for each model and way, "
        f"of each process's median. A text has {result['tokens']:.0f} tokens on average.\n\n"
        + markdown(head, rows)
        + "\n"
        + markdown(("model", "lengths", "bytes, several lengths / one"), files)
        + "\nThe file for one length also has the vocabulary, which MediaPipe reads.\n"
    )


def ratio(slow: Sequence[float], fast: Sequence[float]) -> tuple[str, str]:
    """How many times as fast, and the 95% interval over the processes."""
    low, high = ratio_interval(slow, fast)
    times = statistics.median(slow) / statistics.median(fast)
    return three_digits(times), f"{three_digits(low)} to {three_digits(high)}"


if __name__ == "__main__":
    cli(main)
