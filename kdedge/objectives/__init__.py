"""The TensorFlow half of tasks: heads, losses and schedules."""

from kdedge.keras_environment import set_up_keras

set_up_keras()

from kdedge.objectives.classification import ClassificationObjective, TwoSidedCrossEntropy
from kdedge.objectives.losses import DistillationLoss
from kdedge.objectives.objective import Objective
from kdedge.tasks import Classification, Task

OBJECTIVES: dict[str, type[Objective]] = {"classification": ClassificationObjective}
# Of ours, those that a recipe's `losses` can name. A new one: a file here and a line in this table.
LOSSES: dict[str, type[DistillationLoss]] = {"two-sided": TwoSidedCrossEntropy}


def objective_of(task: Task | None) -> Objective:
    """What a model learns for this task.

    Args:
        task: None for classification, whose losses are the same for any number of classes.
    """
    return OBJECTIVES[task.name](task) if task else ClassificationObjective(ANY_CLASSES)


ANY_CLASSES = Classification(label_names=("0", "1"))
