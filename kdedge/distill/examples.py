"""Batches of the transfer set and of the valid split for the Distiller."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kdedge.distill.plan import Plan
from kdedge.distill.terms import needs_pooled
from kdedge.memory import keep_freed_memory
from kdedge.text.batches import shuffled_batches
from kdedge.text.encoder import padded


class Examples:
    """Token ids, labels and soft labels, memory-mapped from files.

    Args:
        plan: the plan with the texts.
        folder: folder to write the files to.

    Attributes:
        steps: batches in an epoch.
        pooled: the teacher's sentence vectors, float16 [texts, hidden]; None if no loss needs them.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._file = plan, folder / "token_ids.int32"
        self._ids = plan.transfer.token_ids(plan.encoder, self._file)
        self._logits, pooled = plan.store.at(plan.transfer.rows, folder / "pooled.npy")
        self.pooled = pooled if needs_pooled(plan.settings) else None
        self.steps = -(-len(self._ids) // plan.settings.batch_size)

    def valid(self) -> tuple[Any, Any]:
        """Inputs and targets of the valid split, for `Distiller.evaluate`."""
        plan, split = self._plan, self._plan.corpus.valid
        # Each device must have a part of every batch, of the last one too.
        size = len(split) // plan.settings.devices * plan.settings.devices
        texts = split.texts[:size]
        targets = self._targets(split.labels[:size], *plan.store.lookup(texts))
        return plan.encoder.encode(texts).inputs, targets

    def epoch(self, epoch: int) -> tf.data.Dataset:
        """The batches of an epoch, each of texts of similar length, with new typos."""
        plan, settings, seed = self._plan, self._plan.settings, [self._plan.seed, epoch]
        if settings.typos:
            self._ids = plan.transfer.token_ids(plan.encoder, self._file, settings.typos, seed)
        chosen = shuffled_batches(self._ids.lengths, settings.batch_size, seed)

        def batches() -> Iterator[tuple[Any, Any]]:
            # Here, because on Python 3.11 TensorFlow sets the opposite when it makes a dataset of a
            # generator (ApplyPython311MemoryPatch), before the generator runs.
            keep_freed_memory()
            for rows in chosen:
                # All devices get the same number: some texts of the last batch occur twice.
                rows = np.resize(rows, -(-len(rows) // settings.devices) * settings.devices)
                yield self._batch(rows)

        inputs, targets = self._batch(chosen[0][:1])
        signature = (
            {name: tf.TensorSpec([None, None], array.dtype) for name, array in inputs.items()},
            {
                name: tf.TensorSpec([None, *array.shape[1:]], array.dtype)
                for name, array in targets.items()
            },
        )
        return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(8)

    def _batch(self, rows: Any) -> tuple[Any, Any]:
        tokens = [self._ids.of(row) for row in rows.tolist()]
        inputs = padded(tokens, pad_id=self._plan.encoder.pad_id).inputs
        pooled = None if self.pooled is None else self.pooled[rows]
        return inputs, self._targets(self._plan.transfer.labels[rows], self._logits[rows], pooled)

    def _targets(self, labels: Any, logits: Any, pooled: Any) -> dict[str, Any]:
        targets = {"label": labels, "teacher_logits": logits}
        if self.pooled is not None:
            targets["teacher_pooled"] = pooled.astype(np.float32)
        return targets
