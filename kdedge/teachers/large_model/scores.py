"""Scores prompts on labelled texts: accuracy, confidence and cost."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, TypeAdapter

from kdedge.errors import KdedgeError
from kdedge.files import write_text
from kdedge.recipe import LargeModel, fingerprint
from kdedge.tasks import Classification, wilson_interval
from kdedge.teachers.large_model.label import ANSWERS, estimate, label_by_prompts
from kdedge.teachers.large_model.prompt import load_prompt, task_of
from kdedge.text.decoding import Tell
from kdedge.text.pairs import Text

SCORES = "prompts.json"
TEXTS_PRICED = 1000


class PromptScore(BaseModel):
    """The score of a prompt.

    Attributes:
        prompt: path of the prompt.
        way: how probabilities of labels were obtained, one of `WAYS`.
        texts: number of texts.
        labelled: number of texts that got a label.
        accuracy: share of all texts with the right label; a text without a label counts as wrong.
        interval: 95% interval of the accuracy.
        loss: mean of -log of the right label's probability, over texts with a label; None if there
            are none.
        confidence: mean probability of the most probable label, over texts with a label; None if
            there are none. Far above the accuracy it means overconfidence.
        tokens: estimated tokens for a thousand texts, read and written.
        cost: estimated cost of these, in the currency of the prices.
    """

    prompt: str
    way: str
    texts: int
    labelled: int
    accuracy: float
    interval: tuple[float, float]
    loss: float | None
    confidence: float | None
    tokens: int
    cost: float


def score_prompts(
    settings: LargeModel, labelled: Sequence[tuple[Text, str, Any]], out: Path, tell: Tell
) -> list[PromptScore]:
    """Score each prompt of the settings. The best one comes first.

    They are sorted by accuracy, and prompts of equal accuracy by loss.

    Args:
        settings: the recipe's settings.
        labelled: each text with its position, for messages, and its label.
        out: folder for `prompts.json` and for the answers, which are not asked for again.
        tell: called with lines about progress and costs.

    Raises:
        KdedgeError: a text has no label or one that a prompt lacks, or as in `label_by_prompts`.
    """
    truth: dict[Text, str] = {}
    for text, where, value in labelled:
        label = Classification.parse(value, where)
        if label is None or truth.setdefault(text, label) != label:
            raise KdedgeError(f"{where}: each text needs exactly one label.")
    for path in settings.prompt:
        prompt = load_prompt(path)
        if prompt.several:
            raise KdedgeError(f"{path}: prompts for several labels per text can't be scored.")
        task, _ = task_of(prompt)
        # Raises an error before the first request.
        task.numbers([*truth.values()], f"{path} lacks labels of the texts")
    scores = [_score(settings, path, truth, out, tell) for path in settings.prompt]
    scores.sort(key=lambda score: (-score.accuracy, np.inf if score.loss is None else score.loss))
    content = [score.model_dump() for score in scores]
    write_text(out / SCORES, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return scores


def read_scores(path: Path) -> list[PromptScore]:
    """The scores in a `prompts.json`.

    Raises:
        KdedgeError: the file does not exist or is damaged.
    """
    try:
        return TypeAdapter(list[PromptScore]).validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise KdedgeError(
            f"{path}: no scores of prompts there. `kdedge prompts` writes them; see `scores` in "
            "[teach.large_model]."
        ) from None


def table(scores: Sequence[PromptScore]) -> str:
    """The scores as lines for a terminal."""
    lines = ["accuracy  95% interval   loss   confidence  labelled  tokens/1000 texts  prompt"]
    for score in scores:
        low, high = score.interval
        lines.append(
            f"{100 * score.accuracy:7.1f}%  {100 * low:5.1f}-{100 * high:5.1f}%  "
            f"{_or_dash(score.loss):>6}  {_or_dash(score.confidence):>10}  "
            f"{score.labelled:>4}/{score.texts:<4} {score.tokens:>17,}  {score.prompt}"
            + (f"  cost {score.cost:.4g}" if score.cost else "")
        )
    return "\n".join([*lines, f"Best: {scores[0].prompt}"])


def _score(
    settings: LargeModel, path: Path, truth: dict[Text, str], out: Path, tell: Tell
) -> PromptScore:
    one, prompt = settings.model_copy(update={"prompt": (path,)}), load_prompt(path)
    # A prompt that was edited gets another folder.
    folder = out / f"{path.stem}-{fingerprint(prompt)[:8]}"
    tell(f"{path}:")
    store = label_by_prompts(one, [*truth], folder, tell=tell, answers=out / ANSWERS)
    missing = {*store.missing(truth)}
    texts = [text for text in truth if text not in missing]
    labels = store.task.numbers([truth[text] for text in texts], str(path))
    outputs = store.task.outputs(store.lookup(texts)[0])
    right = round(store.task.score(outputs, labels) * len(texts)) if texts else 0
    # An estimate for new texts: this folder has no answers.
    (spent,) = estimate(
        one.model_copy(update={"way": store.notes["way"]}), [*truth], out / "none"
    ).values()
    scale = TEXTS_PRICED / len(truth)
    return PromptScore(
        prompt=str(path),
        way=store.notes["way"],
        texts=len(truth),
        labelled=len(texts),
        accuracy=right / len(truth),
        interval=wilson_interval(right / len(truth), len(truth)),
        loss=float(-np.log(outputs[np.arange(len(texts)), labels]).mean()) if texts else None,
        confidence=float(store.task.confidence(outputs).mean()) if texts else None,
        tokens=round(scale * (spent.read + spent.written)),
        cost=scale * spent.cost(one),
    )


def _or_dash(number: float | None) -> str:
    return "-" if number is None else f"{number:.3f}"
