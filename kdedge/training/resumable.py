"""Checkpoints of a training, so that it can be stopped at any time and resumed."""

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.files import write_text
from kdedge.progress import Advance, progress

STATE = "state.json"
# Version of state and checkpoints. A training does not continue from another version.
FORMAT = 3
SECONDS_BETWEEN_CHECKPOINTS = 45.0

# Measures of each finished epoch -> the place of the one to be kept.
Best: TypeAlias = Callable[[Sequence[Mapping[str, float]]], int]


class Resumable:
    """A training that can be stopped at any time, resumed, and then ends with the same result.

    Until the end, the folder `.NAME.checkpoints` beside the result has the latest checkpoint, that
    of the best epoch, and the measures of each epoch.

        training = Resumable(out, fingerprint(settings))
        training.track(variables, model, best=lowest("val_loss"))
        with training.progress("learning", steps=9, epochs=3) as advance:
            for epoch in training.epochs_left(3):
                ...  # nine times: a step, and advance(1)
                training.end_epoch({"val_loss": 0.5})
        training.restore_best()
        ...  # write `out`
        remove_checkpoints(out)

    Args:
        out: the result of the training.
        key: fingerprint of everything that the result depends on. Checkpoints with another key are
            removed.
        part: name of one of several trainings for the same result; it gets its own subfolder.

    Attributes:
        folder: folder of the checkpoints; a training can keep other files there too.
        history: measures of each finished epoch.
        step: number of finished steps of the current epoch.
        loss: sum of the losses of these steps.

    Raises:
        KdedgeError: the checkpoints of a stopped run are damaged.
    """

    def __init__(self, out: Path, key: str, part: str = "") -> None:
        self._out = out
        self.folder = _checkpoints(out) / part
        self._key = f"{FORMAT} {key}"
        self.history: list[dict[str, float]] = []
        self.step, self.loss = 0, 0.0
        self._stopped = self._read_state()
        if self._stopped is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        # TensorFlow takes the path of a checkpoint for a pattern. In this one nothing is one.
        self._links = tempfile.TemporaryDirectory(prefix="kdedge-")
        self._link = Path(self._links.name, "checkpoints")
        self._link.symlink_to(self.folder.absolute())
        self._saved = time.monotonic()

    def track(self, state: Any, model: Any = None, best: Best | None = None) -> None:
        """Name everything that a step changes, and restore it if a run was stopped.

        Args:
            state: variables, objects that have them, or lists and dictionaries of these.
            model: the part to save after the best epoch; None to use the last epoch.
            best: says which of the finished epochs is to be kept. One that was passed over once
                must not come back.
        """
        self._best_of = best
        latest = tf.train.Checkpoint(state=state)
        self._latest = tf.train.CheckpointManager(latest, self._link / "latest", 2)
        if model is not None:
            kept = tf.train.Checkpoint(best=model)
            self._best = tf.train.CheckpointManager(kept, self._link / "best", 1)
        if self._stopped:
            path = self._link / "latest" / Path(self._stopped["checkpoint"]).name
            self._restore(latest, str(path)).assert_consumed()
            self.history = self._stopped["history"]
            self.step, self.loss = self._stopped["step"], self._stopped["loss"]

    def epochs_left(self, epochs: int) -> range:
        """The epochs that are not finished, counted from 0."""
        return range(len(self.history), epochs)

    def progress(self, task: str, steps: int, epochs: int) -> AbstractContextManager[Advance]:
        """Show the progress of the training; see `kdedge.progress`.

        Args:
            task: what is being done, in a word or two.
            steps: steps of each epoch.
            epochs: number of epochs.
        """
        # Epoch 0, if there is one, is the start, without a step.
        done = steps * sum(epoch["epoch"] > 0 for epoch in self.history) + self.step
        return progress(task, steps * epochs, "steps", done)

    def end_step(self, loss: float) -> None:
        """Count a step, and save a checkpoint from time to time."""
        self.step += 1
        self.loss += loss
        if time.monotonic() - self._saved > SECONDS_BETWEEN_CHECKPOINTS:
            self._save()

    def end_epoch(self, measures: dict[str, float]) -> None:
        """Save the measures of an epoch, a checkpoint and, if it is the best, the model.

        Args:
            measures: by name; `epoch`, unless it is given, counts from 1.

        Raises:
            KdedgeError: a loss is not finite.
        """
        for name, value in measures.items():
            if name.endswith("loss") and not math.isfinite(value):
                raise KdedgeError(
                    f"{self._out}: after epoch {len(self.history) + 1} {name} is {value}: the "
                    "training diverged. Lower learning_rate, --learning-rate, and check the "
                    "weights of the losses."
                )
        history = [*self.history, {"epoch": len(self.history) + 1, **measures}]
        if self._best_of and self._best_of(history) == len(history) - 1:
            self._best.save()
        self.history = history
        self.step, self.loss = 0, 0.0
        self._save()

    def restore_best(self) -> None:
        """Restore the weights of the best epoch."""
        self._restore(self._best.checkpoint, self._best.latest_checkpoint).expect_partial()

    def _save(self) -> None:
        state = {
            "job": self._key,
            "checkpoint": self._latest.save(),
            "step": self.step,
            "loss": self.loss,
            "history": self.history,
        }
        write_text(self.folder / STATE, json.dumps(state))
        self._saved = time.monotonic()

    def _read_state(self) -> dict[str, Any] | None:
        """The state that a stopped run with the same key left; None if there is none."""
        try:
            state = dict(json.loads((self.folder / STATE).read_bytes()))
            return state if state["job"] == self._key else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise self._damaged(error) from None

    def _restore(self, checkpoint: tf.train.Checkpoint, path: str | None) -> Any:
        if path is None:
            raise self._damaged("a checkpoint is missing")
        try:
            return checkpoint.restore(path)
        except (tf.errors.OpError, ValueError) as error:
            raise self._damaged(error) from None

    def _damaged(self, why: object) -> KdedgeError:
        return KdedgeError(
            f"{self.folder}: what a stopped run left here is damaged: {why}. Remove this folder; "
            "the same command then begins this stage again."
        )


def lowest(measure: str) -> Best:
    """The first of the epochs in which the measure is lowest."""
    return lambda history: min(range(len(history)), key=lambda i: history[i][measure])


def remove_checkpoints(out: Path) -> None:
    """Remove the checkpoints of all trainings for `out`, once it is written."""
    shutil.rmtree(_checkpoints(out), ignore_errors=True)


def _checkpoints(out: Path) -> Path:
    return out.with_name(f".{out.name}.checkpoints")
