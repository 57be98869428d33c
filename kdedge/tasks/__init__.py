"""The tasks that models can be trained for. Imports no TensorFlow."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from kdedge.errors import KdedgeError
from kdedge.tasks.classification import Classification as Classification
from kdedge.tasks.intervals import wilson_interval as wilson_interval
from kdedge.tasks.multi_label import MultiLabel as MultiLabel
from kdedge.tasks.regression import Regression as Regression
from kdedge.tasks.task import UNSURE as UNSURE
from kdedge.tasks.task import Answer as Answer
from kdedge.tasks.task import Labels as Labels
from kdedge.tasks.task import Logits as Logits
from kdedge.tasks.task import Outputs as Outputs
from kdedge.tasks.task import Task as Task

# A new task: a file here, a file in kdedge.objectives, and a line in each of their lists.
TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "multi-label": MultiLabel,
    "regression": Regression,
}
# The key of the task in the config.json of a teacher that kdedge wrote.
CONFIG_KEY = "kdedge_task"
FORMER_ACTIVATION = "sbert_ce_default_activation_function"
# All other metrics are shares and are shown in percent.
NO_SHARES = (Regression.metric, "spearman", "mean_absolute_error")


def format_metric(metric: str, value: float, digits: int = 2) -> str:
    """Format the value of a metric.

        >>> format_metric("accuracy", 0.8555), format_metric("pearson", 0.87)
        ('85.55%', '0.8700')

    Args:
        metric: name of the metric.
        value: its value.
        digits: decimal places of a percentage; other metrics have two more.
    """
    if metric in NO_SHARES:
        return f"{value:.{digits + 2}f}"
    return f"{100 * value:.{digits}f}%"


def task_of_names(name: str, output_names: Sequence[str]) -> Task:
    """The task of a model of which only the names of its outputs are known.

    Args:
        name: name of the task.
        output_names: names of the outputs, in order; not used for regression.

    Raises:
        KdedgeError: unknown task, too few names, or one that is empty or there twice.
    """
    if name not in TASKS:
        raise KdedgeError(f"task: {name!r} is unknown. Allowed: {', '.join(TASKS)}.")
    if name == "regression":
        return Regression(mean=0.0, deviation=1.0)
    if len({*output_names}) < len(output_names) or not all(map(str.strip, output_names)):
        raise KdedgeError(
            f"labels: {', '.join(map(repr, output_names))}. Each needs a name of its own."
        )
    try:
        return read_task({"name": name, "label_names": [*output_names]})
    except ValidationError:
        names = ", ".join(output_names) or "none"
        raise KdedgeError(f"labels: {names}. For {name} at least two are needed.") from None


def task_of_config(config: Mapping[str, Any], output_names: Sequence[str], where: object) -> Task:
    """The task of a checkpoint according to its config.json.

    Args:
        config: the JSON object, as transformers or kdedge writes it.
        output_names: names of the outputs.
        where: path of the checkpoint, for messages.

    Raises:
        KdedgeError: kdedge does not support the task.
    """
    if stored := config.get(CONFIG_KEY):
        try:
            task = read_task(stored)
        except ValueError as error:
            raise KdedgeError(f"{where}: {CONFIG_KEY} in config.json: {error}") from None
        if task.output_names != tuple(output_names):
            raise KdedgeError(
                f"{where}: in config.json the classes are {', '.join(output_names)} by id2label, "
                f"and {task} by {CONFIG_KEY}. If another program fine-tuned the model after "
                f"kdedge, remove {CONFIG_KEY}."
            )
        return task
    kinds = {
        "single_label_classification": None,
        "multi_label_classification": "multi-label",
        "regression": "regression",
    }
    problem, count = config.get("problem_type"), len(output_names)
    if problem and problem not in [*kinds]:
        raise KdedgeError(
            f"{where}: problem_type {problem!r} in config.json is unknown. Allowed: "
            f"{', '.join(kinds)}."
        )
    kind = kinds.get(problem) if problem else None
    # sentence-transformers, in its present and its former versions.
    activation = [config.get("sentence_transformers"), config.get(FORMER_ACTIVATION)]
    if count == 1 and (kind == "multi-label" or "Sigmoid" in str(activation)):
        raise KdedgeError(
            f"{where}: its score is the sigmoid of one output, and kdedge supports only scores "
            "without a sigmoid. Label the texts with another program, and import its answers with "
            "`kdedge import-labels`."
        )
    kind = "regression" if count == 1 else kind
    if kind == "regression" and count > 1:
        raise KdedgeError(
            f"{where}: a model with {count} scores for each text; kdedge supports one."
        )
    return task_of_names(kind or "classification", output_names)


def are_probabilities(task: Task, outputs: Logits) -> bool:
    """Whether outputs, float32 [texts, width], that should be logits look like probabilities."""
    inside = bool(((outputs >= 0) & (outputs <= 1)).all())
    softmax = task.has_classes and np.allclose(outputs.sum(1), 1, atol=1e-3)
    return inside and (softmax or task.name == "multi-label")


def read_task(stored: Any) -> Task:
    """Read a task from its stored form.

    Args:
        stored: the result of `task.model_dump()`, or a task.

    Raises:
        ValueError: a task that this kdedge does not know, or invalid fields.
    """
    if isinstance(stored, Task):
        return stored
    name = stored.get("name") if isinstance(stored, dict) else None
    if name not in TASKS:
        raise ValueError(f"task: {name!r}; this kdedge knows {', '.join(TASKS)}")
    return TASKS[name].model_validate(stored)


# A field of a stored model.
StoredTask = Annotated[Task, BeforeValidator(read_task), SerializeAsAny()]


def with_task(stored: dict[str, Any], labels: str = "label_names") -> dict[str, Any]:
    """Add the task to a JSON object of an older kdedge, which had classification only.

    Args:
        stored: the JSON object; it is not changed.
        labels: the key of the classes.
    """
    if "task" in stored:
        return stored
    rest = {key: value for key, value in stored.items() if key != labels}
    return {**rest, "task": {"name": "classification", "label_names": stored[labels]}}
