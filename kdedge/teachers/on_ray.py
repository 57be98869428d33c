"""Labels texts with Ray Data, on several processes or machines."""

import logging
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from kdedge.errors import KdedgeError
from kdedge.labels.index import read_missing
from kdedge.labels.store import SoftLabels
from kdedge.progress import progress
from kdedge.teachers.label import TEXTS_A_SHARD, as_float16, open_for, run_teacher
from kdedge.teachers.teacher import Teacher
from kdedge.text.readers import TextFiles

# Size of a block of Ray: sentences in most languages are at most a shard.
BLOCK_BYTES = 32 * TEXTS_A_SHARD
# A slow teacher takes minutes for a shard. If none arrives for this long, Ray is waiting for a lost
# machine, or for CPUs that another program holds.
LONGEST_WAIT_S = 3600.0
Item = TypeVar("Item")


def label_on_ray(
    load: Callable[[], Teacher],
    texts: TextFiles,
    folder: Path,
    batch_size: int = 64,
    actors: int = 1,
    address: str | None = None,
) -> SoftLabels:
    """Label the texts that have no soft label in the store `folder`, with copies of a teacher.

    The result is that of `label_texts`, and a run that was killed continues in the same way. Ray
    decides which machine reads a file, so all machines need the texts and the teacher under the
    same paths. Ray restarts processes that die.

    Args:
        load: loads the teacher; called once here and once in each actor.
        texts: texts to label.
        folder: folder of the store; only this process writes to it.
        batch_size: texts in each batch.
        actors: number of copies; each gets a share of the CPUs, and a GPU if there are enough.
        address: HOST:PORT of a running Ray; None starts one on this machine for this call.

    Raises:
        KdedgeError: see `label_texts`; or Ray is not installed, does not answer, has too few CPUs,
            returns no labels for an hour, or fails; or the texts are pairs.
    """
    if texts.pair:
        raise KdedgeError(
            "--engine ray: labels single texts only. Label pairs with --engine local."
        )
    # Otherwise Ray sends usage statistics to its makers.
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
        cpus, gpus = actor_share(ray.nodes(), actors)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # So that the rows of the store have the order of the texts.
        context.execution_options.preserve_order = True
        # Each block goes to one actor. The default, 128 MB, would be a million texts.
        context.target_max_block_size = BLOCK_BYTES
        stored = ray.put(store.index)
        read = partial(read_missing, like=texts, stored=stored, size=TEXTS_A_SHARD)
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
            for rows in within(LONGEST_WAIT_S, labelled.iter_batches(batch_size=TEXTS_A_SHARD)):
                # A text that is in two files comes twice.
                position = {text: i for i, text in enumerate(rows["text"])}
                new = store.missing(position)
                chosen = [position[text] for text in new]
                if new:
                    pooled = rows["pooled"][chosen] if store.has_features else None
                    store.add(new, rows["logits"][chosen], pooled)
                advance(len(new))
    except ray.exceptions.RayError as error:
        raise KdedgeError(f"Ray: {error}") from None
    finally:
        ray.shutdown()
    return store


def within(seconds: float, items: Iterable[Item]) -> Iterator[Item]:
    """Yield items, each of which must arrive within `seconds`.

    Raises:
        KdedgeError: an item did not arrive in time.
    """
    ended = object()
    ready: queue.Queue[Any] = queue.Queue(1)

    def fill() -> None:
        try:
            for item in items:
                ready.put(item)
            ready.put(ended)
        except Exception as error:
            ready.put(error)

    # A daemon, so that an iterator that never ends does not keep the process alive.
    threading.Thread(target=fill, daemon=True).start()
    while True:
        try:
            item = ready.get(timeout=seconds)
        except queue.Empty:
            raise KdedgeError(
                f"Ray: no labels came for {seconds:.0f} s. Finished labels are kept: look at "
                "`ray status`, then run the same command again."
            ) from None
        if item is ended:
            return
        if isinstance(item, Exception):
            raise item
        yield item


def _need_answer(address: str) -> None:
    # Ray itself would notice only after minutes.
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise KdedgeError(
            f"--address: no Ray answers at {address} ({error}). Write HOST:PORT of one that "
            "`ray start --head` started."
        ) from None


def actor_share(nodes: list[dict[str, Any]], actors: int) -> tuple[int, int]:
    """CPUs and GPUs for each actor: the most with which there is room for all actors.

    Raises:
        KdedgeError: there are fewer CPUs than actors.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    cpus = [int(r.get("CPU", 0)) for r in resources]
    shares = [n for n in range(1, max(cpus) + 1) if sum(c // n for c in cpus) >= actors]
    if not shares:
        raise KdedgeError(f"--actors: {actors}; each needs a CPU, and this Ray has {sum(cpus)}.")
    return max(shares), int(sum(r.get("GPU", 0) for r in resources) >= actors)


class _Teacher:
    def __init__(self, load: Callable[[], Teacher], batch_size: int, cpus: int) -> None:
        import tensorflow as tf

        # Use only the share of the cores that Ray assigned.
        tf.config.threading.set_intra_op_parallelism_threads(cpus)
        self.teacher, self.batch_size = load(), batch_size

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        outputs = run_teacher(self.teacher, batch["text"].tolist(), self.batch_size)
        if "pooled" in outputs:
            batch["pooled"] = as_float16(outputs["pooled"])
        return batch | {"logits": outputs["logits"]}
