"""Tasks: what can be said of a text. Imports no TensorFlow."""

from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

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
        stored: what `task.model_dump()` gave, or a task.

    Raises:
        ValueError: it names no task that this kdedge knows, or is not as that task's should be.
    """
    if isinstance(stored, Task):
        return stored
    name = stored.get("name") if isinstance(stored, dict) else None
    if name not in TASKS:
        raise ValueError(f"task: {name!r}; this kdedge knows {', '.join(TASKS)}")
    return TASKS[name].model_validate(stored)


# A field of a stored model.
StoredTask = Annotated[Task, BeforeValidator(read_task), SerializeAsAny()]


def upgraded(stored: dict[str, Any], labels: str = "label_names") -> dict[str, Any]:
    """What an older kdedge stored, which knew of classification only, with its task.

    Args:
        stored: a JSON object; left as it is.
        labels: the key of the classes.
    """
    if "task" in stored:
        return stored
    rest = {key: value for key, value in stored.items() if key != labels}
    return {**rest, "task": {"name": "classification", "label_names": stored[labels]}}
