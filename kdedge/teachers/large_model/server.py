"""A server that speaks the OpenAI protocol, asked within limits, and what that costs."""

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
# What a server says of a request that it can't do, whatever the time.
CANNOT = (400, 404, 405, 413, 415, 422, 501)
NEW_NAME = "max_completion_tokens"
BUSY = (408, 409, 425, 429, 502, 503, 504)
SECONDS_BEFORE_RETRY, MOST_SECONDS_BEFORE_RETRY = 0.5, 60.0
# In most languages and tokenizers; for estimates, and where a server tells no numbers.
BYTES_A_TOKEN = 4
# Characters of an answer that a message quotes.
QUOTED = 60

T = TypeVar("T")


class NotDone(KdedgeError):
    """A request that the server answered, but not with what was asked for.

    Attributes:
        status: of HTTP; None if the answer can be read and lacks something.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def quoted(words: str) -> str:
    """An answer of a model for a message, shortened."""
    return repr(words if len(words) <= QUOTED else words[:QUOTED] + "...")


@dataclass
class Spent:
    """What the requests of a run have cost so far.

    Attributes:
        requests: that were sent, each try.
        read: tokens that the model read.
        written: tokens that it wrote.
        faults: tries that failed, by what was wrong.
    """

    requests: int = 0
    read: int = 0
    written: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def cost(self, settings: LargeModel) -> float:
        """In the currency of the prices; 0 without prices."""
        return (self.read * settings.price_in + self.written * settings.price_out) / 1e6

    def exceeds(self, settings: LargeModel) -> str | None:
        """The limit that is reached; None if there is none."""
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
        """The faults and how often each was."""
        return ", ".join(f"{fault}: {count}" for fault, count in sorted(self.faults.items()))

    def line(self, settings: LargeModel) -> str:
        """In words; with the cost if there are prices."""
        cost = self.cost(settings)
        words = f"{self.requests:,} requests, {self.read:,} + {self.written:,} tokens"
        return f"{words}, cost {cost:,.4g}" if cost else words


class Server:
    """A server that speaks the OpenAI protocol. Several threads may use it.

    A request that fails for a reason that passes (busy, 5xx, no or half an answer) is sent again,
    at most `retries` times, after a wait that doubles or that the server names. Where not one
    request has found a server that speaks the protocol, it is not: the URL is wrong.

    Args:
        settings: of the recipe. The key is read from the environment, `KDEDGE_API_KEY`.

    Attributes:
        settings: as given.
        spent: on all requests so far.
        one_at_a_time: the server refuses to give several answers to a request.

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
            # A server of one's own wants none, and the client can't be made without.
            api_key=os.environ.get(KEY) or "none",
            timeout=settings.timeout,
            max_retries=0,
        )

    def complete(
        self, prompts: Sequence[str], read: "Callable[[Completion], T]", **options: Any
    ) -> T:
        """Have the model go on with texts.

        Args:
            prompts: the texts; one is sent as text, several as a list.
            read: what is wanted of the answer.
            **options: of the protocol.

        Raises:
            NotDone: the server can't do this, or the answer lacks something.
            KdedgeError: it is not reached, refuses the key, or fails again and again.
        """
        given = prompts[0] if len(prompts) == 1 else list(prompts)
        create: Any = self._client.completions.create
        return self._ask(
            lambda: create(model=self.settings.model, prompt=given, **options),
            read,
            sum(len(prompt.encode()) for prompt in prompts),
        )

    def chat(
        self, content: str, read: "Callable[[ChatCompletion], T]", most: int, **options: Any
    ) -> T:
        """Have the model answer a message of at most `most` tokens; see `complete`."""
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
        except NotDone as error:
            # Models that think have another name for it.
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
                # A web page is text.
                self._reached |= not isinstance(answer, str)
                self._count(getattr(answer, "usage", None), size)
                return read(answer)
            except openai.APIStatusError as error:
                status, self._reached = error.status_code, True
                fault, why = f"HTTP {status}", _words(error)
                # Errors of openai may quote the request or its key: nothing is chained to ours.
                if status in CANNOT:
                    raise NotDone(f"{fault}{why}.", status) from None
                if status < 500 and status not in BUSY:
                    raise KdedgeError(f"{self.where}: {fault}{why}. {_remedy(status)}") from None
                wait = _asked_to_wait(error) or wait
            except openai.APITimeoutError:
                status, fault, why = None, f"no answer within {self.settings.timeout:g} s", ""
            except openai.APIConnectionError as error:
                status, fault, why = None, "no connection", f" ({_cause(error)})"
            # What openai makes of an answer that is not as the protocol says.
            except (
                openai.OpenAIError, ValueError, AttributeError, TypeError, LookupError
            ):  # fmt: skip
                status, fault, why = 200, "an answer that can't be read", ""
            if not self._reached and fault in ("no connection", "an answer that can't be read"):
                raise KdedgeError(
                    f"{self.where}: {fault}{why}. Is a server with the OpenAI protocol there, and "
                    "is the URL right, with /v1 at its end?"
                )
            with self._lock:
                self.spent.faults[fault] += 1
            if attempt + 1 < tries:
                time.sleep(wait * random.uniform(0.75, 1))
        message = f"{self.where}: {fault}{why}, {tries} times."
        if status is None or status in BUSY:
            raise KdedgeError(message)
        raise NotDone(message, status)

    @property
    def where(self) -> str:
        """URL and model, for messages."""
        return f"{self.settings.url}, model {self.settings.model}"

    def _wait_for_turn(self) -> None:
        """Count a request, and send no more in a minute than is allowed."""
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
    """What the server says is wrong; nothing if it is the key, which it may quote."""
    if error.status_code in (401, 403):
        return ""
    body = error.body if isinstance(error.body, dict) else {}
    words = " ".join(str(body.get("message") or body.get("detail") or "").split())[:200]
    key = os.environ.get(KEY)
    return f": {words.replace(key, '***') if key else words}".rstrip(": .")


def _remedy(status: int) -> str:
    if status in (401, 403):
        return f"Is the right key in the environment variable {KEY}?"
    return "Is the URL right?" if status < 400 else "Look into the server's log, or your account."


def _asked_to_wait(error: Any) -> float | None:
    """Seconds that the server asks to wait, as long as that is not too long."""
    try:
        seconds = float(error.response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    # What is not a number gives 0.
    return min(max(0.0, seconds), MOST_SECONDS_BEFORE_RETRY)


def _cause(error: BaseException) -> str:
    return str(error.__cause__ or error)[:200]
