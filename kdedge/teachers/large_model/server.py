"""Sends requests to a server with the OpenAI protocol, within limits, and counts the costs."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from kdedge.errors import KdedgeError
from kdedge.recipe import LargeModel

if TYPE_CHECKING:
    from openai.types import Completion
    from openai.types.chat import ChatCompletion

KEY = "KDEDGE_API_KEY"
# HTTP statuses of requests that a server will never do.
UNSUPPORTED = (400, 404, 405, 413, 415, 422, 501)
# HTTP statuses of a busy server.
BUSY = (408, 409, 425, 429, 502, 503, 504)
# The name of `max_tokens` for reasoning models.
NEW_NAME = "max_completion_tokens"
SECONDS_BEFORE_RETRY, MOST_SECONDS_BEFORE_RETRY = 0.5, 60.0
# Roughly, for estimates and for servers that don't count tokens.
BYTES_A_TOKEN = 4
# Characters of an answer that a message quotes.
QUOTED = 60

T = TypeVar("T")


class RequestError(KdedgeError):
    """The server answered a request, but not with what is needed.

    Attributes:
        status: HTTP status; None if the answer is valid but incomplete.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def answer_excerpt(words: str) -> str:
    """An answer of a model, in quotes and shortened, for messages."""
    return repr(words if len(words) <= QUOTED else words[:QUOTED] + "...")


@dataclass
class Spent:
    """The costs of a run's requests so far.

    Attributes:
        requests: number of requests, including repeated ones.
        read: number of tokens that the model read.
        written: number of tokens that the model wrote.
        faults: number of failed requests, by kind of fault.
    """

    requests: int = 0
    read: int = 0
    written: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def cost(self, settings: LargeModel) -> float:
        """The cost in the currency of the prices; 0 without prices."""
        return (self.read * settings.price_in + self.written * settings.price_out) / 1e6

    def exceeds(self, settings: LargeModel) -> str | None:
        """A limit that is reached; None if none is."""
        limits = {
            "max_requests": (self.requests, settings.max_requests),
            "max_tokens": (self.read + self.written, settings.max_tokens),
            "max_cost": (self.cost(settings), settings.max_cost),
        }
        for name, (now, most) in limits.items():
            if most is not None and now >= most:
                return f"{name} = {most:g}"
        return None

    def faults_line(self) -> str:
        """Each kind of fault and its number, for messages."""
        return ", ".join(f"{fault}: {count}" for fault, count in sorted(self.faults.items()))

    def line(self, settings: LargeModel) -> str:
        """Requests, tokens and, if there are prices, the cost, for messages."""
        cost = self.cost(settings)
        words = f"{self.requests:,} requests, {self.read:,} + {self.written:,} tokens"
        return f"{words}, cost {cost:,.4g}" if cost else words


class Server:
    """A server with the OpenAI protocol. Several threads may use it.

    A request that fails for a temporary reason (server busy, HTTP 5xx, no or half an answer) is
    sent again, at most `retries` times, after a wait that doubles or that the server asks for. As
    long as no request has reached a server with this protocol, a failure is an error at once: the
    URL is probably wrong.

    Args:
        settings: the recipe's settings. The key is read from the environment variable
            `KDEDGE_API_KEY`.

    Attributes:
        settings: the recipe's settings.
        spent: costs of all requests so far.
        one_at_a_time: whether the server refuses to give several answers to a request.

    Raises:
        KdedgeError: the package openai is not installed.
    """

    def __init__(self, settings: LargeModel) -> None:
        try:
            import openai
        except ImportError:
            raise KdedgeError("openai is not installed: pip install 'kdedge[large]'") from None
        self.settings, self.spent, self.one_at_a_time = settings, Spent(), False
        self._lock, self._next, self._most = threading.Lock(), 0.0, "max_tokens"
        self._reached = False
        self._client = openai.OpenAI(
            base_url=settings.url,
            # Local servers need no key, but the client does.
            api_key=os.environ.get(KEY) or "none",
            timeout=settings.timeout,
            max_retries=0,
        )

    def complete(
        self, prompts: Sequence[str], read: "Callable[[Completion], T]", **options: Any
    ) -> T:
        """Let the model continue texts.

        Args:
            prompts: the texts; one is sent as a string, several as a list.
            read: extracts the result from the answer.
            **options: options of the protocol.

        Raises:
            RequestError: the server can't do this, or the answer is incomplete.
            KdedgeError: the server can't be reached, refuses the key, or fails in each retry.
        """
        prompt = prompts[0] if len(prompts) == 1 else list(prompts)
        create: Any = self._client.completions.create
        return self._ask(
            lambda: create(model=self.settings.model, prompt=prompt, **options),
            read,
            sum(len(prompt.encode()) for prompt in prompts),
        )

    def chat(
        self, content: str, read: "Callable[[ChatCompletion], T]", most: int, **options: Any
    ) -> T:
        """Let the model answer a message with at most `most` tokens; see `complete`."""
        create: Any = self._client.chat.completions.create
        messages = [{"role": "user", "content": content}]
        named = self._most
        try:
            return self._ask(
                lambda: create(
                    model=self.settings.model, messages=messages, **{named: most}, **options
                ),
                read,
                len(content.encode()),
            )
        except RequestError as error:
            # Reasoning models have another name for this option.
            if named == NEW_NAME or NEW_NAME not in str(error):
                raise
            self._most = NEW_NAME
            return self.chat(content, read, most, **options)

    def _ask(self, send: Callable[[], Any], read: Callable[[Any], T], size: int) -> T:
        import openai

        tries = self.settings.retries + 1
        for attempt in range(tries):
            self._wait_for_turn()
            wait = min(SECONDS_BEFORE_RETRY * 2**attempt, MOST_SECONDS_BEFORE_RETRY)
            try:
                answer = send()
                # If the answer is a string, the URL is that of a web page.
                self._reached |= not isinstance(answer, str)
                self._count(getattr(answer, "usage", None), size)
                return read(answer)
            except openai.APIStatusError as error:
                status, self._reached = error.status_code, True
                fault, why = f"HTTP {status}", _words(error)
                # Errors of openai can quote the request or the key, so they are not chained.
                if status in UNSUPPORTED:
                    raise RequestError(f"{fault}{why}.", status) from None
                if status < 500 and status not in BUSY:
                    raise KdedgeError(f"{self.where}: {fault}{why}. {_remedy(status)}") from None
                wait = _asked_to_wait(error) or wait
            except openai.APITimeoutError:
                status, fault, why = None, f"no answer within {self.settings.timeout:g} s", ""
            except openai.APIConnectionError as error:
                status, fault, why = None, "no connection", f" ({_cause(error)})"
            # Errors of openai for answers that violate the protocol.
            except (
                openai.OpenAIError, ValueError, AttributeError, TypeError, LookupError
            ):  # fmt: skip
                status, fault, why = 200, "an answer that can't be read", ""
            if not self._reached and fault in ("no connection", "an answer that can't be read"):
                raise KdedgeError(
                    f"{self.where}: {fault}{why}. Check that a server with the OpenAI protocol "
                    "runs there, and that the URL ends with /v1."
                )
            with self._lock:
                self.spent.faults[fault] += 1
            if attempt + 1 < tries:
                time.sleep(wait * random.uniform(0.75, 1))
        message = f"{self.where}: {fault}{why}, {tries} times."
        if status is None or status in BUSY:
            raise KdedgeError(message)
        raise RequestError(message, status)

    @property
    def where(self) -> str:
        """URL and model, for messages."""
        return f"{self.settings.url}, model {self.settings.model}"

    def _wait_for_turn(self) -> None:
        """Count a request, and wait as long as `requests_per_minute` demands."""
        with self._lock:
            self.spent.requests += 1
            now = time.monotonic()
            turn = max(self._next, now)
            if self.settings.requests_per_minute:
                self._next = turn + 60 / self.settings.requests_per_minute
        time.sleep(turn - now)

    def _count(self, usage: Any, size: int) -> None:
        read = getattr(usage, "prompt_tokens", None)
        written = getattr(usage, "completion_tokens", None)
        with self._lock:
            self.spent.read += read if isinstance(read, int) else size // BYTES_A_TOKEN
            self.spent.written += written if isinstance(written, int) else 1


def _words(error: Any) -> str:
    """The server's error message; "" if it is about the key, which it could quote."""
    if error.status_code in (401, 403):
        return ""
    body = error.body if isinstance(error.body, dict) else {}
    words = " ".join(str(body.get("message") or body.get("detail") or "").split())[:200]
    key = os.environ.get(KEY)
    return f": {words.replace(key, '***') if key else words}".rstrip(": .")


def _remedy(status: int) -> str:
    if status in (401, 403):
        return f"Put the right key into the environment variable {KEY}."
    return "Check the URL." if status < 400 else "Check the server's log, or your account."


def _asked_to_wait(error: Any) -> float | None:
    """Seconds that the server asks to wait, limited; None if it does not ask."""
    try:
        seconds = float(error.response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    # NaN gives 0.
    return min(max(0.0, seconds), MOST_SECONDS_BEFORE_RETRY)


def _cause(error: BaseException) -> str:
    return str(error.__cause__ or error)[:200]
