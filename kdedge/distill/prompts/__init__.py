"""Prompts: a template around the text, or virtual tokens in front of it. Off by default.

The ablation (benchmarks/results/ablation.md) shows that the task prompt makes no difference and
that the soft-label prompt harms.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from kdedge.distill.prompts.layer import PromptLayer
from kdedge.distill.prompts.soft_label import SoftLabelPrompt
from kdedge.distill.prompts.task import with_task_prompt
from kdedge.recipe import Distill
from kdedge.tasks import Task


@dataclass(frozen=True)
class PromptMethod:
    """How a value of the setting `prompt` is applied.

    Attributes:
        into: returns the student with a prompt inside; None if the prompt is not part of it.
        beside: returns a prompt for training only, from settings, task and seed; None if there is
            none.
    """

    into: Callable[[keras.Model, Distill], keras.Model] | None = None
    beside: Callable[[Distill, Task, int], PromptLayer] | None = None


# A new prompt: a file here and a line in this table.
PROMPTS = {
    "none": PromptMethod(),
    "task": PromptMethod(
        into=lambda student, settings: with_task_prompt(student, settings.prompt_tokens)
    ),
    "soft-label": PromptMethod(
        beside=lambda settings, task, seed: SoftLabelPrompt(
            task.width, settings.prompt_tokens, seed=seed, task=task
        )
    ),
}
