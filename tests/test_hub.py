"""Models of the hub, with a small local server that speaks its protocol."""

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import huggingface_hub.constants
import pytest

from kdedge import KdedgeError
from kdedge.teachers.checkpoints import find_pretrained, revision_of

MAIN, OLD = "a" * 40, "b" * 40
SHARDED = (
    "config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    "model.safetensors.index.json", "sentencepiece.bpe.model", "tokenizer_config.json",
    "pytorch_model.bin", "README.md", "onnx/model.onnx",
)  # fmt: skip
# Files of each commit; their content is their name and commit.
FILES = {MAIN: SHARDED, OLD: ("config.json", "model.safetensors", "vocab.json", "merges.txt")}
REVISIONS = {"main": MAIN, MAIN: MAIN, "v1": OLD, OLD: OLD}


def content(commit: str, file: str) -> bytes:
    return f"{file} of {commit}".encode()


class Hub(BaseHTTPRequestHandler):
    """/api/models/ID/revision/REVISION and /ID/resolve/COMMIT/FILE of `owner/model`."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(self.path.partition("?")[0])
        name = "owner/gated" if "owner/gated" in path else "owner/model"
        if f"/{name}" not in path:
            return self.send(404, b"", {"X-Error-Code": "RepoNotFound"})
        if name == "owner/gated":
            return self.send(403, b"", {"X-Error-Code": "GatedRepo"})
        if path.startswith("/api/models/"):
            revision = path.partition(f"/{name}")[2].removeprefix("/revision/") or "main"
            if revision not in REVISIONS:
                return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            commit = REVISIONS[revision]
            siblings = [{"rfilename": file} for file in FILES[commit]]
            about = {"id": name, "modelId": name, "sha": commit, "siblings": siblings}
            return self.send(200, json.dumps(about | {"tags": [], "downloads": 0}).encode())
        revision, _, file = path.partition("/resolve/")[2].partition("/")
        commit = REVISIONS[revision]
        if file not in FILES[commit]:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
        data = content(commit, file)
        etag = hashlib.sha256(data).hexdigest()
        return self.send(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})

    def send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(autouse=True)
def hub(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Use the server and an empty cache, as a new process with HF_ENDPOINT and HF_HOME would."""
    at(url, tmp_path, monkeypatch)
    return url


def at(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What huggingface_hub takes from the environment when it is imported.
    for name, module in list(sys.modules.items()):
        if name.startswith("huggingface_hub"):
            for constant in ("ENDPOINT", "HF_HUB_CACHE"):
                if hasattr(module, constant):
                    value = url if constant == "ENDPOINT" else str(cache / "hub")
                    monkeypatch.setattr(module, constant, value)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    import huggingface_hub.file_download as file_download
    from huggingface_hub import hf_api

    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(hf_api.api, "endpoint", url)
    find_pretrained.__globals__["_download"].cache_clear()


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_shards_and_tokenizer_are_downloaded() -> None:
    folder = find_pretrained("owner/model")
    assert names(folder) == {*SHARDED} - {"pytorch_model.bin", "README.md", "onnx/model.onnx"}
    assert (folder / "config.json").read_bytes() == content(MAIN, "config.json")
    assert revision_of(folder) == MAIN


@pytest.mark.parametrize("revision", ["v1", OLD])
def test_a_revision(revision: str) -> None:
    folder = find_pretrained(f"owner/model@{revision}")
    assert names(folder) == {*FILES[OLD]}
    assert (folder / "config.json").read_bytes() == content(OLD, "config.json")
    assert revision_of(folder) == OLD


def test_without_weights() -> None:
    found = names(find_pretrained("owner/model", weights=False))
    assert "sentencepiece.bpe.model" in found
    assert not any(name.endswith(".safetensors") for name in found)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("owner/none", "owner/none: no such folder here, and the hub has no such model, or it is"),
        ("owner/model@v9", "owner/model@v9: no such folder here, and the hub has no revision v9"),
        ("owner/gated", "owner/gated: no such folder here, and its owner must be asked for access"),
        ("a b/model", "no such folder, and not an id of the form OWNER/NAME or OWNER/NAME@REVIS"),
    ],
)
def test_what_there_is_not(source: str, message: str) -> None:
    with pytest.raises(KdedgeError, match=message) as refused:
        find_pretrained(source)
    assert "\n" not in str(refused.value)


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_pretrained("owner/model")
    # Nobody listens at port 9: what was downloaded before is there, and nothing else.
    at("http://127.0.0.1:9", tmp_path, monkeypatch)
    assert revision_of(find_pretrained("owner/model")) == MAIN
    with pytest.raises(KdedgeError, match="hub can't be reached and it was not downloaded") as no:
        find_pretrained("owner/other")
    assert "\n" not in str(no.value)
