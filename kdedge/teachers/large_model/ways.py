"""Ways to get probabilities of labels from a large model; servers support different ones."""

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from kdedge.errors import KdedgeError
from kdedge.teachers.large_model.prompt import LETTERS, Prompt, folded
from kdedge.teachers.large_model.server import UNSUPPORTED, RequestError, Server, answer_excerpt
from kdedge.text.pairs import Text

# The logarithm of a probability for each label, in the prompt's order.
LogProbabilities = npt.NDArray[np.float64]
Way = Callable[[Server, Prompt, Text, Sequence[float] | None], LogProbabilities]

MOST_ALTERNATIVES = 20
SMALLEST = 1e-7
# Label smoothing for answers without probabilities: this share is spread over all labels
# (arXiv 1512.00567).
SMOOTHING = 0.1
# How tokenizers write the space before a word.
BLANKS = " \n\t\u0120\u2581"


class NoLabel(KdedgeError):
    """An answer is not a label."""

    def __init__(self, words: str) -> None:
        super().__init__(f"the answer is not a label: {answer_excerpt(words)}")


def continuations(
    server: Server, prompt: Prompt, text: Text, opinion: Sequence[float] | None, together: bool
) -> LogProbabilities:
    """Log-probability of each label's name after the prompt, by completions with echo.

    A line break ends each name, so that the probability of a name does not include that of a longer
    one. Prompt and name are scored together, without the tokens that are the same for all labels,
    so it does not matter how a tokenizer splits the text where the name begins.

    Args:
        server: the model's server.
        prompt: the prompt.
        text: the text to label.
        opinion: see `Prompt.render`.
        together: whether to send all labels in one request, as a list.
    """
    begun = prompt.render(text, opinion=opinion)
    blank = "" if begun[-1:].isspace() else " "
    whole = [f"{begun}{blank}{name}\n" for name in prompt.labels]
    scored: list[tuple[list[str], list[float]]] = []
    for some in [whole] if together else [[one] for one in whole]:
        # One token is written, because 0 means no limit to some servers.
        scored += server.complete(
            some, partial(_echoed, some), echo=True, logprobs=1, max_tokens=1, temperature=0
        )
    shared = _shared([tokens for tokens, _ in scored])
    return np.array([math.fsum(logs[shared:]) for _, logs in scored])


def _echoed(whole: list[str], answer: Any) -> list[tuple[list[str], list[float]]]:
    """Tokens and their log-probabilities of each text that was sent."""
    choices = sorted(answer.choices, key=lambda choice: choice.index)
    if len(choices) != len(whole):
        raise RequestError(f"the server answers {len(choices)} of {len(whole)} texts.")
    # The model may have written a token after each text, which does not count.
    written = answer.usage.completion_tokens if answer.usage else len(choices)
    if written not in (0, len(choices)):
        raise RequestError("the server does not say how many tokens of each text are new.")
    found = []
    for text, choice in zip(whole, choices, strict=True):
        if choice.logprobs is None or not choice.text.lstrip().startswith(text[:40].lstrip()):
            raise RequestError("the server gives no log-probabilities of a prompt's tokens (echo).")
        tokens, logs = choice.logprobs.tokens, choice.logprobs.token_logprobs
        end = len(tokens) - written // len(choices)
        if end < 2 or len(logs) != len(tokens):
            raise RequestError("the server gives no log-probabilities of a prompt's tokens (echo).")
        # The first token has none.
        numbers = [0.0 if log is None else float(log) for log in logs[:end]]
        found.append(([str(token) for token in tokens[:end]], numbers))
    return found


def _shared(texts: list[list[str]]) -> int:
    """The number of tokens at the start that all texts have in common."""
    for place, tokens in enumerate(zip(*texts, strict=False)):
        # Different parts of a character are shown as the same token.
        if len({*tokens}) > 1 or "\ufffd" in tokens[0]:
            return place
    return min(map(len, texts))


def letters(
    server: Server, prompt: Prompt, text: Text, opinion: Sequence[float] | None
) -> LogProbabilities:
    """Log-probability of each label's letter as the first token of a chat's answer.

    Letters that are not among the listed tokens share the remaining probability; none gets more
    than the least probable listed token.
    """
    if len(prompt.labels) > len(LETTERS):
        raise RequestError(f"{len(prompt.labels)} labels; there are {len(LETTERS)} letters.")
    content = prompt.render(text, letters=True, opinion=opinion)
    options = {"logprobs": True, "top_logprobs": MOST_ALTERNATIVES, "temperature": 0}
    listed = server.chat(content, _alternatives, 1, **options)
    found = dict.fromkeys(LETTERS[: len(prompt.labels)], 0.0)
    for token, probability in listed:
        if (letter := token.strip(BLANKS)) in found:
            found[letter] += probability
    if sum(found.values()) < 0.5:
        raise NoLabel(listed[0][0])
    missing = [letter for letter, probability in found.items() if not probability]
    if missing:
        left = max(0.0, 1 - sum(probability for _, probability in listed))
        share = min(left / len(missing), min(probability for _, probability in listed))
        found |= dict.fromkeys(missing, share)
    return np.log(np.maximum([*found.values()], SMALLEST))


def _alternatives(answer: Any) -> list[tuple[str, float]]:
    logprobs = answer.choices[0].logprobs
    if logprobs is None or not logprobs.content or not logprobs.content[0].top_logprobs:
        raise RequestError("the server gives no log-probabilities of a chat's tokens.")
    listed = logprobs.content[0].top_logprobs
    return [(str(one.token), math.exp(min(one.logprob, 0.0))) for one in listed]


def samples(
    server: Server, prompt: Prompt, text: Text, opinion: Sequence[float] | None
) -> LogProbabilities:
    """Log of the share of each label among several answers at temperature 1."""
    count = server.settings.samples
    answers: list[str] = []
    while len(answers) < count:
        # If several answers are asked for, some servers give only one, and some refuse.
        n = 1 if server.one_at_a_time else count - len(answers)
        try:
            answers += _answers(server, prompt, text, opinion, n=n, temperature=1)
        except RequestError as error:
            if n == 1 or error.status not in UNSUPPORTED:
                raise
            server.one_at_a_time = True
    return _shares(answers[:count], prompt)


def answer(
    server: Server, prompt: Prompt, text: Text, opinion: Sequence[float] | None
) -> LogProbabilities:
    """Log-probabilities from the most probable answer: its label gets nearly all probability."""
    return _shares(_answers(server, prompt, text, opinion, temperature=0), prompt)


def _answers(
    server: Server, prompt: Prompt, text: Text, opinion: Sequence[float] | None, **options: Any
) -> list[str]:
    def read(answer: Any) -> list[str]:
        # The content is None if the model refuses.
        return [str(choice.message.content or "") for choice in answer.choices] or [""]

    content = prompt.render(text, opinion=opinion)
    return server.chat(content, read, server.settings.answer_tokens, **options)


def _shares(answers: Sequence[str], prompt: Prompt) -> LogProbabilities:
    named = [name for words in answers if (name := label_in(words, prompt)) is not None]
    if not named:
        raise NoLabel(answers[-1])
    shares = np.array([named.count(name) / len(named) for name in prompt.labels])
    return np.log((1 - SMOOTHING) * shares + SMOOTHING / len(shares))


def label_in(words: str, prompt: Prompt) -> str | None:
    """The label in an answer; None if the answer has more or other text than a label.

        >>> prompt = Prompt(task="Mood?", labels={"good": "", "bad": ""})
        >>> label_in('{"label": "Good"}', prompt)
        'good'
        >>> label_in("good or bad", prompt) is None
        True

    Args:
        words: the answer; `<think>` elements are ignored.
        prompt: the prompt, which has the labels.
    """
    words = re.sub(r"<think>.*?</think>", "", words, flags=re.DOTALL).strip()
    names = {folded(name): name for name in prompt.labels}
    return next((names[one] for one in _readings(words) if one in names), None)


def _readings(words: str) -> Iterator[str]:
    yield folded(words)
    try:
        read = json.loads(words)
    except (ValueError, RecursionError):
        read = None
    if isinstance(read, dict):
        read = read.get("label")
    if isinstance(read, str):
        yield folded(read.strip())
    bare = re.sub(r"^label:", "", folded(words)).strip()
    yield bare.rstrip(".").strip("\"'`* ")


WAYS: dict[str, Way] = {
    "continuations": partial(continuations, together=True),
    "continuations-singly": partial(continuations, together=False),
    "letters": letters,
    "samples": samples,
    "answer": answer,
}
# Ways that give the model's own probabilities, which texts without content can calibrate.
EXACT = ("continuations", "continuations-singly", "letters")


def find_way(server: Server, prompt: Prompt, text: Text, tell: Callable[[str], None]) -> str:
    """Find the best way that the server supports; if the settings name one, try only that.

    Args:
        server: the server to try.
        prompt: a prompt for the trial.
        text: a text for the trial.
        tell: called with a line for each better way that the server does not support.

    Raises:
        RequestError: the server supports none.
        KdedgeError: a limit is reached before, or the server can't be used at all.
    """
    chosen = server.settings.way
    tried = [*WAYS] if chosen == "auto" else [chosen]
    reasons = {}
    for name in tried:
        if stopped := server.spent.exceeds(server.settings):
            raise KdedgeError(
                f"{server.where}: {stopped} is reached, and no way that the server supports is "
                f"found yet. Raise the limit, or set way to one of {', '.join(WAYS)}."
            )
        try:
            WAYS[name](server, prompt, text, None)
        except RequestError as error:
            reasons[name] = str(error)
            continue
        except NoLabel:
            # The way works, and the trial's text needs no label.
            pass
        for other, reason in reasons.items():
            tell(f"way {other}: {reason}")
        return name
    raise RequestError(
        f"{server.where}: the way{'s' * (len(tried) > 1)} {', '.join(tried)} can't be used: "
        f"{' '.join(dict.fromkeys(reasons.values()))} Check the URL, which ends with /v1, and the "
        "model's name."
    )
