"""Labels texts with a large model, and writes the soft labels into a store."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from kdedge.errors import KdedgeError
from kdedge.labels.store import STORE, SoftLabels
from kdedge.recipe import LargeModel, fingerprint
from kdedge.teachers.large_model.asking import add_answer, ask_all, read_answers
from kdedge.teachers.large_model.prompt import Prompt, load_prompts, need_pairs, task_of
from kdedge.teachers.large_model.server import (
    BYTES_A_TOKEN,
    UNSUPPORTED,
    RequestError,
    Server,
    Spent,
)
from kdedge.teachers.large_model.ways import EXACT, WAYS, LogProbabilities, NoLabel, find_way
from kdedge.text.batches import chunks
from kdedge.text.decoding import Tell, tell_once
from kdedge.text.encoder import ENCODER, TextEncoder
from kdedge.text.pairs import TEXT_COLUMNS, Pair, Text, columns_of, from_columns
from kdedge.text.readers import TextFiles

ANSWERS = "answers.jsonl"
TEXTS_A_SHARD = 2048
# Texts without content: the model's answers to them show the bias of a prompt. arXiv 2102.09690.
CONTENT_FREE = ("N/A", "[MASK]", "")
TRIAL = "A trial."
# Digits of a prompt's fingerprint.
DIGITS = 16
# Labelling ends if none of the first answers, of this number, is a label.
FIRST_ANSWERS = 20
# Tokens of a label's name in an answer, for estimates.
TOKENS_A_NAME = 4

Texts = Sequence[Text] | TextFiles
# The fingerprint of the prompt, as from `asker`, and the text.
Question = tuple[str, Text]
# None if the answer is not a label.
Logs = LogProbabilities | None


def label_by_prompts(
    settings: LargeModel,
    texts: Texts,
    folder: Path,
    encoder: TextEncoder | None = None,
    tell: Tell = tell_once,
    answers: Path | None = None,
    server: Server | None = None,
) -> SoftLabels:
    """Label the texts that are not in the store in `folder` yet with a large model.

    Each answer is stored as it arrives and is never asked for again, so a killed run loses only its
    running requests. Soft labels are written at the end, in the order of the texts: a stopped run
    that is continued ends with the same store as an undisturbed one. A text without a valid answer
    gets no soft label; such texts are counted.

    Args:
        settings: the recipe's settings.
        texts: texts to label.
        folder: folder of the store.
        encoder: text encoder for the students of a new store; None to leave it out.
        tell: called with lines about progress and costs.
        answers: file of the answers, which several stores can share; None for `answers.jsonl` in
            the store.
        server: a server with these settings, whose earlier requests count for its limits; None for
            a new one.

    Raises:
        KdedgeError: a prompt or the server can't be used, the store is of another teacher, or none
            of the first answers is a label.
    """
    prompts = load_prompts(settings.prompt)
    # The first text shows whether these are pairs, before a store is made.
    next(_checked(prompts, texts), None)
    server = server or Server(settings)
    stored = SoftLabels(folder).notes if (folder / STORE).is_file() else {}
    (trial,) = _as_inputs(prompts, [TRIAL])
    way = stored.get("way") or find_way(server, prompts[0].questions[0], trial, tell)
    if settings.way not in ("auto", way):
        raise KdedgeError(
            f"{folder}: its soft labels were made with way = {way!r}, not {settings.way!r}. Name "
            "another folder."
        )
    store = _open(settings, prompts, way, folder)
    if encoder is not None and not (folder / ENCODER).is_file():
        store.keep(encoder, None)
    askers = _askers(settings, way, prompts)
    asking = _Asking(server, askers, way, Answers(answers or folder / ANSWERS))
    content_free = _as_inputs(prompts, CONTENT_FREE) if settings.calibrate and way in EXACT else []
    questions = asking.answers.without([*content_free, *_missing(store, prompts, texts)], askers)
    about = _estimated(settings, askers, way, questions)
    tell(f"{settings.model}, way {way}: about {about.line(settings)}.")
    stopped = asking.run(questions)
    unlabelled = _write(store, texts, asking, prompts, _priors(asking, content_free))
    _tell_of(asking, unlabelled, tell)
    if not len(store):
        asking.check_any_label()
    if stopped:
        tell(f"Stopped by {stopped}; the same command continues.")
    return store


def estimate(
    settings: LargeModel, texts: Texts, folder: Path, answers: Path | None = None
) -> dict[str, Spent]:
    """Estimate the cost of labelling, without requests, for each way that the settings allow.

    Args:
        settings: the recipe's settings.
        texts: texts to label.
        folder: folder of the store; its texts cost nothing.
        answers: see `label_by_prompts`.
    """
    prompts = load_prompts(settings.prompt)
    ways = [*WAYS] if settings.way == "auto" else [settings.way]
    missing = _checked(prompts, texts)
    if (folder / STORE).is_file():
        store = SoftLabels(folder)
        ways = [store.notes.get("way", ways[0])]
        missing = _missing(store, prompts, texts)
    stored, distinct = Answers(answers or folder / ANSWERS), [*dict.fromkeys(missing)]
    costs = {}
    for way in ways:
        askers = _askers(settings, way, prompts)
        costs[way] = _estimated(settings, askers, way, stored.without(distinct, askers))
    return costs


def asker(settings: LargeModel, way: str, prompt: Prompt) -> str:
    """Fingerprint of a prompt with model and way: equal ones get equal answers to a text."""
    of_way = {
        "samples": f"{settings.samples} {settings.answer_tokens}",
        "answer": str(settings.answer_tokens),
    }.get(way, "")
    return fingerprint(settings.model, way, of_way, prompt)[:DIGITS]


def _askers(settings: LargeModel, way: str, prompts: list[Prompt]) -> dict[str, Prompt]:
    questions = [question for prompt in prompts for question in prompt.questions]
    return {asker(settings, way, question): question for question in questions}


class Answers:
    """Answers of a large model, stored in a JSON Lines file as they arrive.

    Args:
        path: path of the file; an incomplete last line, which a killed run leaves, is removed.

    Attributes:
        logs: by question: the logarithm of each label's probability, or None.

    Raises:
        KdedgeError: a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.logs = path, dict[Question, Logs]()
        for where, read in read_answers(path):
            try:
                logs = None if read["logs"] is None else np.array(read["logs"], np.float64)
                columns = {name: [read[name]] for name in TEXT_COLUMNS if name in read}
                (text,) = from_columns(columns)
                self.logs[str(read["asker"]), text] = logs
            except (ValueError, TypeError, KeyError):
                raise KdedgeError(f"{where}: damaged. Remove this line.") from None

    def without(self, texts: Iterable[Text], askers: Iterable[str]) -> list[Question]:
        """The questions about these texts that have no answer yet, each once."""
        names, distinct = [*askers], dict.fromkeys(texts)
        every = ((name, text) for text in distinct for name in names)
        return [question for question in every if question not in self.logs]

    def add(self, question: Question, logs: Logs, why: str) -> None:
        """Store an answer; `why` is the reason if it is not a label."""
        name, text = question
        values = None if logs is None else logs.tolist()
        parts = {column: of_text for column, (of_text,) in columns_of([text]).items()}
        line = {"asker": name, **parts, "logs": values} | ({"why": why} if why else {})
        add_answer(self.path, line)
        self.logs[question] = logs


class _Asking:
    """Asks a server several questions at a time."""

    def __init__(
        self, server: Server, askers: dict[str, Prompt], way: str, answers: Answers
    ) -> None:
        self.server, self.askers, self.way, self.answers = server, askers, way, answers
        self.labelled, self.unlabelled, self.why = 0, 0, ""

    def run(self, questions: Sequence[Question]) -> str | None:
        """Ask all questions, and return the limit that stopped the run, if one did."""
        return ask_all(self.server, questions, self._ask, self._keep, "labelling")

    def _ask(self, question: Question) -> tuple[Logs, str]:
        """Log-probabilities of the labels, or None and the reason."""
        name, text = question
        prompt, ask = self.askers[name], WAYS[self.way]
        try:
            logs = ask(self.server, prompt, text, None)
            if prompt.kind == "soft-label":
                logs = ask(self.server, prompt, text, np.exp(_normal(logs)).tolist())
        except NoLabel as error:
            return None, str(error)
        except RequestError as error:
            # The server refuses this text (too long, against its rules), or its answer is empty.
            if error.status is None or error.status in UNSUPPORTED:
                return None, str(error)
            raise
        if not np.isfinite(logs).all():
            return None, "the server's log-probabilities are not finite numbers"
        return logs, ""

    def _keep(self, question: Question, answer: tuple[Logs, str]) -> None:
        """Store an answer.

        Raises:
            KdedgeError: none of the first answers is a label.
        """
        logs, why = answer
        self.answers.add(question, logs, why)
        self.labelled += logs is not None
        self.unlabelled += logs is None
        self.why = why or self.why
        if self.unlabelled >= FIRST_ANSWERS:
            self.check_any_label()

    def check_any_label(self) -> None:
        """Check that at least one of the answers is a label.

        Raises:
            KdedgeError: none of them is.
        """
        if self.unlabelled and not self.labelled:
            raise KdedgeError(
                f"{self.server.settings.model}: none of {self.unlabelled} answers is a label "
                f"({self.why}). Check the prompt, or set another way: for a reasoning model, "
                "samples with more answer_tokens. Then name another folder."
            )


def _open(settings: LargeModel, prompts: list[Prompt], way: str, folder: Path) -> SoftLabels:
    task, _ = task_of(prompts[0])
    calibrate = settings.calibrate and way in EXACT
    number = settings.samples if way == "samples" else 1
    name = fingerprint(settings.model, way, str(calibrate), str(number), *prompts)
    notes = {"model": settings.model, "way": way, "calibrated": calibrate, "prompts": len(prompts)}
    return SoftLabels.create(folder, name, task, has_features=False, notes=notes)


def _as_inputs(prompts: list[Prompt], texts: Sequence[str]) -> list[Text]:
    """The texts, or pairs of equal texts if the prompts are for pairs."""
    return [Pair(text, text) if prompts[0].pairs else text for text in texts]


def _checked(prompts: list[Prompt], texts: Iterable[Text]) -> Iterator[Text]:
    """Yield the texts, after a check.

    Raises:
        KdedgeError: a text is a pair and the prompts are for single texts, or the reverse.
    """
    for text in texts:
        need_pairs(prompts[0], isinstance(text, Pair))
        yield text


def _missing(store: SoftLabels, prompts: list[Prompt], texts: Texts) -> Iterator[Text]:
    missing = chain.from_iterable(store.missing(chunk) for chunk in chunks(texts, TEXTS_A_SHARD))
    return _checked(prompts, missing)


def _normal(logs: LogProbabilities) -> LogProbabilities:
    """Normalize log-probabilities, so that the probabilities sum to 1."""
    return np.asarray(logs - np.logaddexp.reduce(logs))


def _priors(asking: _Asking, content_free: Sequence[Text]) -> dict[str, LogProbabilities] | None:
    """For each prompt, the mean log-probabilities of the labels for texts without content.

    None if a limit stopped the run before all answers arrived: soft labels need them.

    Raises:
        KdedgeError: none of these texts got a label.
    """
    priors, logs = {}, asking.answers.logs
    for name, prompt in asking.askers.items():
        if any((name, text) not in logs for text in content_free):
            return None
        answered = [answer for text in content_free if (answer := logs[name, text]) is not None]
        if content_free and not answered:
            raise KdedgeError(
                f"{asking.server.settings.model}: it gives no label to texts without content, so "
                "it can't be calibrated. Set calibrate = false, and name another folder."
            )
        width = len(prompt.labels)
        means = [np.exp(_normal(answer)) for answer in answered] or [np.full(width, 1 / width)]
        priors[name] = np.log(np.mean(means, 0))
    return priors


def _write(
    store: SoftLabels,
    texts: Texts,
    asking: _Asking,
    prompts: list[Prompt],
    priors: dict[str, LogProbabilities] | None,
) -> int:
    """Write the soft labels of all answered texts; return the number of texts without a label."""
    if priors is None:
        return 0
    settings, logs, unlabelled = asking.server.settings, asking.answers.logs, 0
    names = [[*_askers(settings, asking.way, [prompt])] for prompt in prompts]
    rows: dict[Text, LogProbabilities] = {}
    for text in dict.fromkeys(_missing(store, prompts, texts)):
        if any((name, text) not in logs for name in priors):
            continue
        by_prompt = []
        for prompt, of_prompt in zip(prompts, names, strict=True):
            answered = [answer for name in of_prompt if (answer := logs[name, text]) is not None]
            if len(answered) == len(of_prompt):
                prior = [priors[name] for name in of_prompt]
                by_prompt.append(_logits(prompt, np.array(answered) - np.array(prior)))
        if by_prompt:
            rows[text] = np.mean(by_prompt, 0)
        else:
            unlabelled += 1
    for some in chunks([*rows], TEXTS_A_SHARD):
        store.add(some, np.stack([rows[text] for text in some]).astype(np.float32))
    return unlabelled


def _logits(prompt: Prompt, logs: LogProbabilities) -> LogProbabilities:
    """Logits in the task's order from the answers to a prompt's questions, [questions, width]."""
    _, places = task_of(prompt)
    logits = np.empty(len(places))
    # For yes or no, the logit is the log odds.
    logits[places] = logs[:, 0] - logs[:, 1] if prompt.several else _normal(logs[0])
    return logits


def _tell_of(asking: _Asking, unlabelled: int, tell: Tell) -> None:
    spent = asking.server.spent
    tell(f"Asked: {spent.line(asking.server.settings)}.")
    if spent.faults:
        tell(f"Sent again after faults: {spent.faults_line()}.")
    if unlabelled:
        tell(f"{unlabelled} texts have no soft label; {asking.answers.path} has the reasons.")


def _estimated(
    settings: LargeModel, askers: dict[str, Prompt], way: str, questions: Iterable[Question]
) -> Spent:
    spent = Spent()
    for name, text in questions:
        prompt = askers[name]
        size = len(prompt.render(text).encode()) // BYTES_A_TOKEN
        labels, turns = len(prompt.labels), 2 if prompt.kind == "soft-label" else 1
        requests, reads, writes = {
            "continuations": (1, labels, labels),
            "continuations-singly": (labels, labels, labels),
            "letters": (1, 1, 1),
            "samples": (settings.samples, settings.samples, settings.samples * TOKENS_A_NAME),
            "answer": (1, 1, TOKENS_A_NAME),
        }[way]
        spent.requests += turns * requests
        spent.read += turns * reads * size
        spent.written += turns * writes
    return spent
