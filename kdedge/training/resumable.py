"""What fine-tuning, distilling and compressing share: to be stopped at any time, and to go on."""

import json
import shutil
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.files import write_text
from kdedge.progress import Advance, progress

STATE = "state.json"
# Of the state and the checkpoints. What another version left is not gone on from.
FORMAT = 2
SECONDS_BETWEEN_CHECKPOINTS = 45.0


class Resumable:
    """A training that can be stopped at any time and then ends as if it had not been.

    `.NAME.checkpoints`, beside what is made, holds the latest checkpoint, that of the best epoch
    and what was measured of each epoch, until the end.

        training = Resumable(out, fingerprint(settings))
        training.track(variables, model, by="val_loss")
        with training.progress("learning", steps=9, epochs=3) as advance:
            for epoch in training.epochs_left(3):
                ...  # nine times: a step, and advance(1)
                training.end_epoch({"val_loss": 0.5})
        training.restore_best()
        ...  # write `out`
        remove_checkpoints(out)

    Args:
        out: what is made in the end.
        job: fingerprint of everything that goes into it. A part of another job is removed.
        part: name of a part of the job that is a training of its own, in a folder in that folder.

    Attributes:
        folder: of the checkpoints; what else a training keeps on disk can be there too.
        history: what was measured of each epoch that is done.
        step: steps that are done of the epoch after those.
        loss: the sum of these steps' losses.

    Raises:
        KdedgeError: what a stopped run left is damaged.
    """

    def __init__(self, out: Path, job: str, part: str = "") -> None:
        self.folder = _checkpoints(out) / part
        self._job = f"{FORMAT} {job}"
        self.history: list[dict[str, float]] = []
        self.step, self.loss = 0, 0.0
        self._stopped = self._read_state()
        if self._stopped is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._saved = time.monotonic()

    def track(
        self, state: Any, best: Any = None, *, by: str | None = None, highest: bool = False
    ) -> None:
        """Name what a step changes, and put it where a stopped run left it.

        Args:
            state: variables, or what TensorFlow can find them in; lists and dictionaries of those.
            best: that of which the best epoch is kept; None where the last one is.
            by: the measure that says which epoch is best.
            highest: whether the highest is best; else it is the lowest.
        """
        self._by, self._highest = by, highest
        latest = tf.train.Checkpoint(state=state)
        self._latest = tf.train.CheckpointManager(latest, self.folder / "latest", 2)
        if best is not None:
            kept = tf.train.Checkpoint(best=best)
            self._best = tf.train.CheckpointManager(kept, self.folder / "best", 1)
        if self._stopped:
            self._restore(latest, self._stopped["checkpoint"]).assert_consumed()
            self.history = self._stopped["history"]
            self.step, self.loss = self._stopped["step"], self._stopped["loss"]

    def epochs_left(self, epochs: int) -> range:
        """Those of so many epochs that are not done, counted from 0."""
        return range(len(self.history), epochs)

    def progress(self, task: str, steps: int, epochs: int) -> AbstractContextManager[Advance]:
        """Show how far the training is; see `kdedge.progress`.

        Args:
            task: what is being done, in a word or two.
            steps: of an epoch.
            epochs: of the training.
        """
        done = steps * len(self.history) + self.step
        return progress(task, steps * epochs, "steps", done)

    def end_step(self, loss: float) -> None:
        """Count a step of an epoch that can be stopped within, and save now and then."""
        self.step += 1
        self.loss += loss
        if time.monotonic() - self._saved > SECONDS_BETWEEN_CHECKPOINTS:
            self._save()

    def end_epoch(self, measures: dict[str, float]) -> None:
        """Keep what was measured of an epoch, its checkpoint and, if it is best, the model."""
        if self._by is not None:
            # Lowest is best from here on.
            sign = -1 if self._highest else 1
            values = [sign * past[self._by] for past in self.history]
            if sign * measures[self._by] < min(values, default=float("inf")):
                self._best.save()
        self.history.append({"epoch": len(self.history) + 1, **measures})
        self.step, self.loss = 0, 0.0
        self._save()

    def restore_best(self) -> None:
        """Give the model the weights that it had after the best epoch."""
        self._restore(self._best.checkpoint, self._best.latest_checkpoint).expect_partial()

    def _save(self) -> None:
        state = {
            "job": self._job,
            "checkpoint": self._latest.save(),
            "step": self.step,
            "loss": self.loss,
            "history": self.history,
        }
        write_text(self.folder / STATE, json.dumps(state))
        self._saved = time.monotonic()

    def _read_state(self) -> dict[str, Any] | None:
        """What a stopped run of the same job left; None if there is none."""
        try:
            state = dict(json.loads((self.folder / STATE).read_bytes()))
            return state if state["job"] == self._job else None
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
            "the same command then begins this stage anew."
        )


def remove_checkpoints(out: Path) -> None:
    """Remove what trainings kept to make `out`, with all parts: it is made."""
    shutil.rmtree(_checkpoints(out), ignore_errors=True)


def _checkpoints(out: Path) -> Path:
    return out.with_name(f".{out.name}.checkpoints")
