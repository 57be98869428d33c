"""The labelling of `label_texts` on Ray Data: on several processes or machines."""

import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kdedge.errors import KdedgeError
from kdedge.labels.index import read_missing
from kdedge.labels.store import SoftLabels
from kdedge.progress import progress
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.label import TEXTS_A_SHARD, open_for, run_teacher
from kdedge.text.readers import TextFiles

# Of most languages' sentences not more than go into a shard.
BLOCK_BYTES = 32 * TEXTS_A_SHARD


def label_on_ray(
    load: Callable[[], BertTeacher],
    texts: TextFiles,
    folder: Path,
    batch_size: int = 64,
    actors: int = 1,
    address: str | None = None,
) -> SoftLabels:
    """Have copies of a teacher label the texts that the store in `folder` lacks.

    Gives the store of `label_texts`, and goes on after a kill as it does. Each file is read where
    Ray puts the reading of it, so that all machines must see the texts and the teacher under the
    same paths. What dies of Ray's processes is started again.

    Args:
        load: loads the teacher; runs here and once in each actor.
        texts: to label.
        folder: of the store; only this process writes to it.
        batch_size: texts that a teacher takes at a time.
        actors: copies of the teacher; each takes a share of the CPUs, and a GPU if there are
            enough of them.
        address: of a running Ray, HOST:PORT; None starts one on this machine, for as long as it is
            needed.

    Raises:
        KdedgeError: as `label_texts`; Ray is not installed, does not answer, has too few CPUs, or
            failed.
    """
    # Ray reports who uses it to its makers otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise KdedgeError("Ray is not installed: pip install 'kdedge[ray]'") from None
    if address:
        _need_answer(address)
    store, missing = open_for(load(), texts, folder)
    if not missing:
        return store
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.init(address or "local", log_to_driver=False, logging_level=logging.WARNING)
    try:
        cpus, gpus = _share(ray.nodes(), actors)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # The store's rows then come in the order of the texts.
        context.execution_options.preserve_order = True
        # A block is one actor's work, and by default 128 MB: a million texts.
        context.target_max_block_size = BLOCK_BYTES
        stored = ray.put(store.index)
        read = partial(read_missing, text=texts.text, stored=stored, size=TEXTS_A_SHARD)
        labelled = (
            ray.data.from_items([{"file": str(file)} for file in texts.files])
            .map_batches(read, batch_size=1, num_cpus=0)
            .map_batches(
                _Teacher,
                fn_constructor_args=(load, batch_size, cpus),
                compute=ray.data.ActorPoolStrategy(size=actors),
                batch_size=TEXTS_A_SHARD,
                num_cpus=cpus,
                num_gpus=gpus,
            )
        )
        with progress("labelling", missing, "texts") as advance:
            for said in labelled.iter_batches(batch_size=TEXTS_A_SHARD):
                # A text that is in two files comes twice.
                row_of = {text: row for row, text in enumerate(said["text"])}
                new = store.missing(row_of)
                rows = [row_of[text] for text in new]
                if new:
                    store.add(new, said["logits"][rows], said["pooled"][rows])
                advance(len(new))
    except ray.exceptions.RayError as error:
        raise KdedgeError(f"Ray: {error}") from None
    finally:
        ray.shutdown()
    return store


def _need_answer(address: str) -> None:
    # Ray itself takes minutes to notice.
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise KdedgeError(
            f"--address: no Ray answers at {address} ({error}). Write HOST:PORT of one that "
            "`ray start --head` started."
        ) from None


def _share(nodes: list[dict[str, Any]], actors: int) -> tuple[int, int]:
    """The CPUs and GPUs of each actor: as many as leave room for all of them."""
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    cpus = [int(r.get("CPU", 0)) for r in resources]
    shares = [n for n in range(1, max(cpus) + 1) if sum(c // n for c in cpus) >= actors]
    if not shares:
        raise KdedgeError(f"--actors: {actors}; this Ray has {sum(cpus)} CPUs, each needs one.")
    return max(shares), int(sum(r.get("GPU", 0) for r in resources) >= actors)


class _Teacher:
    def __init__(self, load: Callable[[], BertTeacher], batch_size: int, cpus: int) -> None:
        import tensorflow as tf

        # Of a machine's cores only the share that Ray gave.
        tf.config.threading.set_intra_op_parallelism_threads(cpus)
        self.teacher, self.batch_size = load(), batch_size

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        said = run_teacher(self.teacher, batch["text"].tolist(), self.batch_size)
        return batch | {"logits": said["logits"], "pooled": said["pooled"].astype(np.float16)}
