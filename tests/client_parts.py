"""What the tests of other people's clients record for benchmarks/clients.py."""

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

Record = Callable[[str, object], None]


def record_client(
    record: Record,
    client: str,
    language: str,
    runtime: str,
    artifact: str,
    theirs: npt.NDArray[Any],
    ours: npt.NDArray[Any],
) -> None:
    """Record a client with its versions, and how its outputs differ from Python's.

    Args:
        record: pytest's `record_property`.
        client: name and version of the client.
        language: what an app calls it from.
        runtime: what runs the model, and where.
        artifact: name of the bundle's file.
        theirs: its outputs, float [texts, classes].
        ours: those of `kdedge.load_bundle` with the same file.
    """
    record("client", client)
    record("language", language)
    record("runtime", runtime)
    record("artifact", artifact)
    record("texts", len(ours))
    record("same label", int((theirs.argmax(1) == ours.argmax(1)).sum()))
    record("max difference", float(abs(theirs - ours).max()))
