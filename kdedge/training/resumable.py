"""Reading what a stopped training left, or saying how to go on without it."""

import json
from pathlib import Path
from typing import Any

import tensorflow as tf

from kdedge.errors import KdedgeError

STATE = "state.json"


def read_state(folder: Path) -> dict[str, Any] | None:
    """What `state.json` in a folder of checkpoints says; None if there is none.

    Raises:
        KdedgeError: it can't be read.
    """
    try:
        return dict(json.loads((folder / STATE).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(folder, error) from None


def restore(checkpoint: tf.train.Checkpoint, path: str | None, folder: Path) -> Any:
    """Restore a checkpoint and give its status.

    Args:
        checkpoint: of the variables.
        path: as its manager says; None if there is none.
        folder: of all checkpoints, for messages.

    Raises:
        KdedgeError: a file is missing or damaged.
    """
    if path is None:
        raise _damaged(folder, "a checkpoint is missing")
    try:
        return checkpoint.restore(path)
    except (tf.errors.OpError, ValueError) as error:
        raise _damaged(folder, error) from None


def _damaged(folder: Path, why: object) -> KdedgeError:
    return KdedgeError(
        f"{folder}: what a stopped run left here is damaged: {why}. Remove this folder; the same "
        "command then begins this stage anew."
    )
