"""A server that speaks the OpenAI protocol, with a model so small that its answers are known.

The model reads the last line that begins with `Text: `, and goes on after `Label` with a few tokens
of fixed probabilities:

    ":" 0.8, ": re" 0.2        two ways to split ": refund"
    " card" 0.6 (0.1)          in brackets: where the text has the word cash
    " cash" 0.4 (0.9)
    after " card":  "\\n" 0.5, " lost" 0.5
    after " lost", " cash", "fund":  "\\n" 1
    after ": re":  "fund" 0.9

So the names have, up to a factor of all: card 0.8 * 0.6 * 0.5 = 0.24, card lost 0.24, cash 0.32,
refund 0.2 * 0.9 = 0.18; where the text has the word cash: 0.04, 0.04, 0.72, 0.18.

Asked whether a label is right, it says yes with 0.9 if that is a word of the text, or else 0.2.
"""

import asyncio
import json
import math
import random
import re
import socket
import string
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

TOKEN = re.compile(r": re(?=fund)| card| cash| lost|fund| yes\n| no\n|Label(?=:)|.|\n", re.DOTALL)
LABELS = ("card", "card lost", "cash", "refund")
PLAIN, CASH = (0.24, 0.24, 0.32, 0.18), (0.04, 0.04, 0.72, 0.18)
# Letters have these, and something else 0.1; where the text has the word cash.
LETTERS, CASH_LETTERS = (0.4, 0.3, 0.2, 0.0), (0.05, 0.05, 0.7, 0.1)
KEY = "sk-secret-1234567890"


class Model:
    """The server, what it can do, and what goes wrong.

    Attributes:
        able: of echo, lists, logprobs, temperature, several (n is ignored, not
            refused), and thinks (max_tokens has another name).
        faults: what happens to the next requests, one each: an HTTP status, slow, half, no-json,
            page or odd.
        asked: the text of each request that was answered.
        answer: message of each answer of a chat; None for what the model says.
        key: that is wanted, if any.
        delay: seconds before each answer.
        shares: probability of each label, by name, for a text; None for those above.
    """

    def __init__(self, *able: str) -> None:
        self.able, self.faults = {*able}, list[int | str]()
        self.asked: list[str] = []
        self.contents: list[str] = []
        self.answer: dict[str, str | None] | None = None
        self.key: str | None = None
        self.delay = 0.0
        self.shares: Callable[[str], dict[str, float]] | None = None
        self.turns: dict[str, int] = {}
        self.held_out = "a text that is held out"
        self.app = FastAPI()
        self.app.post("/v1/completions")(self.completions)
        self.app.post("/v1/chat/completions")(self.chat)

    async def _trouble(self, request: Request) -> Response | None:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            given = request.headers.get("authorization")
            return _error(401, f"Incorrect API key provided: {given}")
        if self.delay:
            await asyncio.sleep(self.delay)
        if not self.faults:
            return None
        fault = self.faults.pop(0)
        if fault == "slow":
            await asyncio.sleep(1.0)
            return _error(500, "too late")
        if fault == "half":
            return _Half()
        if fault == "no-json":
            return Response('{"choices": [', media_type="application/json")
        if fault == "page":
            return Response("<html>Welcome!</html>", media_type="text/html")
        if fault == "odd":
            return JSONResponse({"choices": None})
        assert isinstance(fault, int)
        return _error(fault, f"trouble of {request.headers.get('authorization')}")

    async def completions(self, request: Request) -> Response:
        if trouble := await self._trouble(request):
            return trouble
        body = await request.json()
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        if "echo" not in self.able:
            return _error(404, "no completions here")
        if len(prompts) > 1 and "lists" not in self.able:
            return _error(500, "one prompt only")
        self.asked.append(text_in(prompts[0]))
        choices = [
            _echo_of(i, prompt, self.shares(text_in(prompt))) if self.shares else _echo(i, prompt)
            for i, prompt in enumerate(prompts)
        ]
        tokens = sum(len(prompt.encode()) // 4 for prompt in prompts)
        return _answer(choices, tokens, len(prompts))

    def writes(self, label: str) -> str:
        """Three texts: one is a held-out text, one is written each time, and one is new."""
        name, turn = json.loads(label), self.turns.get(label, 0)
        self.turns[label] = turn + 1
        if turn == 1:
            return "Here are three texts: ..."
        texts = [self.held_out.upper(), _written(name), _written(f"{name} {turn}")]
        return f"```json\n{json.dumps(texts)}\n```"

    async def chat(self, request: Request) -> Response:
        if trouble := await self._trouble(request):
            return trouble
        body = await request.json()
        (message,) = body["messages"]
        content = message["content"]
        if "thinks" in self.able and "max_tokens" in body:
            return _error(400, "Unsupported parameter: use 'max_completion_tokens' instead.")
        tokens = len(content.encode()) // 4
        if words := re.findall(
            'right label is still .*is data: do nothing .*?\n(".*?")\n', content
        ):
            self.contents.append(content)
            # One is near a held-out text, one is the same text, and one has the word cash.
            same = json.loads(words[0])
            texts = [f"{self.held_out}!", same.upper(), f"{same} for cash", f"{same} again"]
            message = {"role": "assistant", "content": json.dumps(texts)}
            return _answer([{"index": 0, "message": message, "finish_reason": "stop"}], tokens, 40)
        if label := re.findall(r"the right label is (\".*?\")", content):
            self.contents.append(content)
            choice = {
                "index": 0,
                "message": {"role": "assistant"}
                | (self.answer or {"content": self.writes(label[0])}),
            }
            return _answer([choice | {"finish_reason": "stop"}], tokens, 40)
        text = text_in(content)
        if body.get("logprobs"):
            if "logprobs" not in self.able:
                return _error(400, "logprobs is not supported")
            self.asked.append(text)
            self.contents.append(content)
            shares = self.shares(text).values() if self.shares else None
            return _answer([_letters(text, shares)], tokens, 1)
        if body.get("n", 1) > 1 and "several" not in self.able:
            return _error(400, "Value must be between 1 <= value <= 1")
        if body.get("temperature") == 1 and "temperature" not in self.able:
            return _error(400, "temperature is fixed")
        self.asked.append(text)
        self.contents.append(content)
        turn = self.turns[text] = self.turns.get(text, -1) + 1
        named = _named(text, turn if body["temperature"] else 0)
        choice = {
            "index": 0,
            "message": {"role": "assistant"} | (self.answer or {"content": named}),
        }
        return _answer([choice | {"finish_reason": "stop"}], tokens, 4)


class _Half(Response):
    """Promises more than it sends."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"500")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"choices": [{"index"'})


def _written(about: str) -> str:
    """A text that is like no text about anything else."""
    return f"{about}: " + "".join(random.Random(about).choices(string.ascii_lowercase, k=40))


def text_in(prompt: str) -> str:
    """The text that a prompt asks about: a text can't add a line to the prompt."""
    lines = re.findall(r"^Text: (.*)$", prompt, re.MULTILINE)
    return str(json.loads(lines[-1]))


def _probability(before: str, token: str, text: str, asked: str) -> float:
    yes = 0.9 if asked in text.split() else 0.2
    cash = 0.9 if "cash" in text else 0.4
    return {
        "Label": {":": 0.8, ": re": 0.2},
        ":": {" card": 1 - cash, " cash": cash, " yes\n": yes, " no\n": 1 - yes},
        " card": {"\n": 0.5, " lost": 0.5},
        " lost": {"\n": 1.0},
        " cash": {"\n": 1.0},
        ": re": {"fund": 0.9},
        "fund": {"\n": 1.0},
    }.get(before, {}).get(token, 0.01)


def _echo(index: int, prompt: str) -> dict[str, Any]:
    tokens = TOKEN.findall(prompt)
    text = text_in(prompt)
    asked = "".join(re.findall("only whether '(.+?)'", prompt))
    pairs = zip(tokens[:-1], tokens[1:], strict=True)
    logs = [None, *(math.log(_probability(before, token, text, asked)) for before, token in pairs)]
    # The one that the model goes on with.
    return {
        "index": index,
        "text": f"{prompt}x",
        "finish_reason": "length",
        "logprobs": {"tokens": [*tokens, "x"], "token_logprobs": [*logs, -3.0]},
    }


def _echo_of(index: int, prompt: str, shares: dict[str, float]) -> dict[str, Any]:
    """Echoes a prompt with a label at its end, which is one token with its probability."""
    before, mark, label = prompt.rpartition("Label:")
    tokens = [*before, *mark, label, "x"]
    logs = [None, *[-1.0] * (len(tokens) - 3), math.log(shares[label.strip()]), -3.0]
    return {
        "index": index,
        "text": f"{prompt}x",
        "finish_reason": "length",
        "logprobs": {"tokens": tokens, "token_logprobs": logs},
    }


def _letters(text: str, given: Iterable[float] | None = None) -> dict[str, Any]:
    shares = tuple(given) if given else CASH_LETTERS if "cash" in text else LETTERS
    if "silent" in text:
        silence = {"role": "assistant", "content": ""}
        empty: dict[str, Any] = {"content": []}
        return {"index": 0, "message": silence, "finish_reason": "stop", "logprobs": empty}
    if "refuse" in text:
        shares = (0.2, 0.0, 0.0, 0.0)
    listed = [(letter, share) for letter, share in zip("ABCD", shares, strict=False) if share]
    # The first letter comes in two ways.
    first, share = listed[0]
    listed = [(first, share / 2), (f" {first}", share / 2), *listed[1:], ("The", 0.1)]
    top = [{"token": token, "logprob": math.log(share)} for token, share in listed]
    content = [{"token": "A", "logprob": -1.0, "top_logprobs": top}]
    message = {"role": "assistant", "content": "A"}
    return {
        "index": 0,
        "message": message,
        "finish_reason": "length",
        "logprobs": {"content": content},
    }


def _named(text: str, turn: int) -> str | None:
    if "refuse" in text:
        return [None, "I can't help with that.", "card or cash", "<think>hm"][turn % 4]
    if "cash" in text:
        return "Label: Cash."
    # Of five: card three times, refund once, and once no label.
    return ["card", '{"label": "card"}', "refund", "hm", "<think>cash?</think> card"][turn % 5]


def _answer(choices: list[dict[str, Any]], read: int, written: int) -> Response:
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return JSONResponse(
        {"id": "x", "object": "x", "created": 0, "model": "m", "choices": choices, "usage": usage}
    )


def _error(status: int, words: str) -> Response:
    headers = {"retry-after": "0"} if status == 429 else {}
    return JSONResponse({"error": {"message": words}}, status, headers)


@contextmanager
def serving(model: Model) -> Iterator[str]:
    """The server's URL, while it runs in a thread."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(model.app, port=port, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join(10)
