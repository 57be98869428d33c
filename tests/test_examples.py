"""The examples in docstrings are run as they stand."""

import doctest
import importlib
from pathlib import Path

import pytest
from conftest import ROOT
from test_docs import COMMITTED_BUNDLE


def modules_with_examples() -> list[str]:
    paths = [path for path in (ROOT / "kdedge").rglob("*.py") if ">>> " in path.read_text()]
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundle").symlink_to(COMMITTED_BUNDLE)
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0
