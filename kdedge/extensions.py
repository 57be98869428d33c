"""Finds what a recipe names: one of kdedge's own, or `module:NAME` of your Python file."""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from kdedge.errors import KdedgeError

T = TypeVar("T")


def with_folder(reference: str, folder: Path) -> str:
    """Add the folder to a reference whose file is in `folder`; other references are not changed.

    >>> with_folder("micro", Path("recipes"))
    'micro'
    """
    module, _, name = reference.partition(":")
    file = folder / f"{module}.py"
    return f"{file}:{name}" if name and file.is_file() else reference


def code_of(reference: str) -> str:
    """The code of the file that a reference names; "" for other references."""
    module, _, _ = reference.rpartition(":")
    file = Path(module if module.endswith(".py") else f"{module}.py")
    return file.read_text(encoding="utf-8") if module and file.is_file() else ""


def without_folder(reference: str) -> str:
    """The reference without the folder of its file.

    >>> without_folder("recipes/mine.py:SMALL"), without_folder("micro")
    ('mine.py:SMALL', 'micro')
    """
    module, colon, name = reference.rpartition(":")
    return f"{Path(module).name}:{name}" if colon else reference


def one_of(setting: str, name: str, ours: Mapping[str, T]) -> T:
    """The entry of `ours` that a setting names.

    Raises:
        KdedgeError: there is no such entry.
    """
    if name not in ours:
        raise KdedgeError(f"{setting}: {name!r} is unknown. Allowed: {', '.join(ours)}.")
    return ours[name]


def find(setting: str, reference: str, ours: Mapping[str, Any]) -> Any:
    """The object that a setting names.

    Args:
        setting: name of the setting, for messages.
        reference: a key of `ours`, `module:NAME` of a module that can be imported or that is a file
            in the working directory, or `FOLDER/module.py:NAME`. That module's code is run.
        ours: kdedge's own objects, by name.

    Raises:
        KdedgeError: there is no such object.
    """
    if reference in ours:
        return ours[reference]
    module, _, name = reference.rpartition(":")
    if not module:
        raise KdedgeError(
            f"{setting}: {reference!r} is unknown. Allowed: {', '.join(ours)}, or module:NAME of "
            "a Python file of your own."
        )
    try:
        there = _imported(module)
    except (ImportError, SyntaxError) as error:
        raise KdedgeError(f"{setting}: {module} can't be imported: {error}.") from error
    if not hasattr(there, name):
        raise KdedgeError(f"{setting}: {module} has no {name!r}.")
    return getattr(there, name)


def _imported(module: str) -> ModuleType:
    if not module.endswith(".py"):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            # The module exists, but another one that it imports does not.
            if error.name != module or not Path(f"{module}.py").is_file():
                raise
        module = f"{module}.py"
    file = Path(module).resolve()
    # The path is its name in sys.modules, because the file can have the name of another module.
    name = str(file)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ModuleNotFoundError(f"no file {file}")
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    try:
        spec.loader.exec_module(found)
    except BaseException:
        del sys.modules[name]
        raise
    return found
