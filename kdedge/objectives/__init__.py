"""The TensorFlow part of each task: heads, losses and schedules."""

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
# The losses that `losses` of a recipe can name. A new one: a file here and a line in this table.
LOSSES: dict[str, Callable[[Objective], DistillationLoss]] = {
    "two-sided": lambda objective: objective.two_sided_loss()
}


def objective_of(task: Task | None) -> Objective:
    """The head, the losses and the metrics for a task.

        >>> from kdedge.tasks import Classification
        >>> objective_of(Classification(label_names=("bad", "good"))).label_dtype
        'int32'

    Args:
        task: None for classification with any number of classes.
    """
    return OBJECTIVES[task.name](task) if task else ClassificationObjective(ANY_CLASSES)


ANY_CLASSES = Classification(label_names=("0", "1"))
