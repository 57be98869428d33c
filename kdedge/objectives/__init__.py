"""The TensorFlow half of tasks: heads, losses and schedules."""

from collections.abc import Callable

from kdedge.keras_environment import set_up_keras

set_up_keras()

from kdedge.objectives.classification import ClassificationObjective
from kdedge.objectives.losses import DistillationLoss
from kdedge.objectives.multi_label import MultiLabelObjective
from kdedge.objectives.objective import Objective
from kdedge.objectives.regression import RegressionObjective
from kdedge.tasks import Classification, Task

OBJECTIVES: dict[str, type[Objective]] = {
    "classification": ClassificationObjective,
    "multi-label": MultiLabelObjective,
    "regression": RegressionObjective,
}
# Of ours, those that a recipe's `losses` can name. A new one: a file here and a line in this table.
LOSSES: dict[str, Callable[[Objective], DistillationLoss]] = {
    "two-sided": lambda objective: objective.two_sided_loss()
}


def objective_of(task: Task | None) -> Objective:
    """What a model learns for this task.

    Args:
        task: None for classification, whose losses are the same for any number of classes.
    """
    return OBJECTIVES[task.name](task) if task else ClassificationObjective(ANY_CLASSES)


ANY_CLASSES = Classification(label_names=("0", "1"))
