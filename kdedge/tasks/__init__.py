"""Tasks: what can be said of a text. Imports no TensorFlow."""

from typing import Any

from kdedge.errors import KdedgeError
from kdedge.tasks.classification import Classification as Classification
from kdedge.tasks.task import Answer as Answer
from kdedge.tasks.task import Labels as Labels
from kdedge.tasks.task import Logits as Logits
from kdedge.tasks.task import Outputs as Outputs
from kdedge.tasks.task import Task as Task

# A new task: a file here, a file in kdedge.objectives, and a line in each of their lists.
TASKS: dict[str, type[Task]] = {"classification": Classification}


def read_task(stored: Any) -> Task:
    """The task that a store, a student or a bundle says it is for.

    Args:
        stored: what `task.model_dump()` gave.

    Raises:
        KdedgeError: it names no task that this kdedge knows.
        ValueError: it is not as that task's should be.
    """
    name = stored.get("name") if isinstance(stored, dict) else None
    if name not in TASKS:
        raise KdedgeError(f"task: {name!r}. This kdedge knows: {', '.join(TASKS)}.")
    return TASKS[name].model_validate(stored)
