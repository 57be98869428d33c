"""The TensorFlow half of tasks: heads, losses and schedules."""

from kdedge.objectives.classification import ClassificationObjective
from kdedge.objectives.objective import Objective
from kdedge.tasks import Task

OBJECTIVES: dict[str, type[Objective]] = {"classification": ClassificationObjective}


def objective_of(task: Task) -> Objective:
    """What a model learns for this task."""
    return OBJECTIVES[task.name](task)
