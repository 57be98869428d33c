"""What suits the data: the settings that a recipe leaves open, by the rules that are here.

docs/distilling.md says what they were measured on. A setting that a recipe names always wins.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kdedge.errors import KdedgeError
from kdedge.recipe import Distill, Label, Teach
from kdedge.tasks import Task
from kdedge.text.splits import Split

# max_length: the tokens that so many of the texts fit into, in steps, within bounds. What a model
# takes for a text grows with it.
WHOLE_TEXTS, LENGTH_STEP, SHORTEST, LONGEST = 0.99, 8, 16, 128
# Lengths of a LiteRT file for several: what these shares of the texts fit into, in such steps.
SHARES_THAT_FIT = (0.25, 0.5, 0.75, 0.95)
# Teacher: an epoch fewer the more texts there are, so that about so many are learned in all.
TEXTS_LEARNED, FEWEST_EPOCHS, MOST_EPOCHS = 25_000, 2, 20
# It ends after this share of the epochs, and at least so many, without a better one.
PATIENCE, LEAST_PATIENCE = 0.25, 2
# Fewer texts get smaller batches, so that there are enough steps.
SMALL_DATA, SMALL_BATCH, BATCH = 1_000, 16, 32
# A wider model takes smaller steps (arXiv 2203.03466): this rate is for MiniLM's width, and BERT of
# 768 gets half of it.
LEARNING_RATE, ITS_WIDTH, USUAL_WIDTH = 1e-4, 384, 768
SMALLEST_RATE, LARGEST_RATE = 2e-5, 3e-4
# The probe tries class weights where the largest class has so many times the texts of the smallest.
UNBALANCED = 10.0
# Student: augmented texts for each training text, within bounds, and steps of the training.
AUGMENTED_EACH, LEAST_AUGMENTED, MOST_AUGMENTED = 4, 10_000, 40_000
STUDENT_STEPS, FEWEST_STUDENT_EPOCHS, MOST_STUDENT_EPOCHS = 4_000, 8, 30


class FullTeach(Teach):
    """`Teach` with nothing left open but what the probe finds out."""

    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    max_length: int
    metric: Any


class FullDistill(Distill):
    """`Distill` with nothing left open but what a student's preset says."""

    epochs: int
    max_length: int


def full_teach(
    settings: Teach,
    task: Task,
    train: Split,
    lengths: Sequence[int],
    longest: int,
    width: int | None = None,
) -> FullTeach:
    """The settings of fine-tuning, for these texts.

    Args:
        settings: of the recipe.
        task: of the labels.
        train: the texts that are learned.
        lengths: of these texts, in tokens; not needed where the settings have a max_length.
        longest: tokens that the pretrained model can take.
        width: of its hidden states; None if that is not known.

    Raises:
        KdedgeError: the task does not have the metric.
    """
    if settings.metric and settings.metric not in task.metrics:
        raise KdedgeError(
            f"teach.metric: {settings.metric}; {task.name} has {', '.join(task.metrics)}."
        )
    # One that is used as it is has the same length, and is the model of all the rest.
    given = settings.model_dump(exclude_none=True, exclude={"teacher"})
    given["pretrained"] = settings.source
    texts = len(train)
    suited = bounded(round(TEXTS_LEARNED / texts), FEWEST_EPOCHS, MOST_EPOCHS)
    epochs = settings.epochs or suited
    rate = LEARNING_RATE * ITS_WIDTH / (width or USUAL_WIDTH)
    found = {
        "epochs": epochs,
        "patience": max(LEAST_PATIENCE, round(PATIENCE * epochs)),
        "batch_size": BATCH if texts >= SMALL_DATA else SMALL_BATCH,
        "learning_rate": max(SMALLEST_RATE, min(LARGEST_RATE, rate)),
        "max_length": settings.max_length or min(longest, length_for(lengths)),
        "metric": task.metric,
        # Left open where classes differ much: the probe tries all.
        "class_weights": None if is_unbalanced(task, train) else "none",
    }
    return FullTeach.model_validate(found | given)


def full_augmented(settings: Label, texts: int) -> int:
    """How many augmented texts are made of so many texts."""
    if settings.augmented is not None:
        return settings.augmented
    return bounded(AUGMENTED_EACH * texts, LEAST_AUGMENTED, MOST_AUGMENTED)


def full_distill(settings: Distill, texts: int, longest: int) -> FullDistill:
    """The settings of distillation.

    Args:
        settings: of the recipe.
        texts: in the transfer set.
        longest: tokens that the teacher cuts texts to.
    """
    given = settings.model_dump(exclude_none=True)
    epochs = round(STUDENT_STEPS * settings.batch_size / max(1, texts))
    found = {
        "epochs": bounded(epochs, FEWEST_STUDENT_EPOCHS, MOST_STUDENT_EPOCHS),
        "max_length": longest,
    }
    return FullDistill.model_validate(found | given)


def length_for(lengths: Sequence[int]) -> int:
    """max_length for texts of these lengths in tokens."""
    fits = float(np.quantile(lengths, WHOLE_TEXTS, method="inverted_cdf"))
    return bounded(-(-round(fits) // LENGTH_STEP) * LENGTH_STEP, SHORTEST, LONGEST)


def several_lengths(lengths: Sequence[int], longest: int) -> tuple[int, ...]:
    """The lengths that a LiteRT file has, the shortest first: a text takes the first that holds it.

        >>> several_lengths([10, 12, 17, 30], longest=64)
        (16, 24, 32, 64)

    Args:
        lengths: of texts, in tokens, special tokens included.
        longest: tokens that texts are cut to.
    """
    fits = np.quantile(lengths or [longest], SHARES_THAT_FIT, method="inverted_cdf")
    steps = {-(-int(tokens) // LENGTH_STEP) * LENGTH_STEP for tokens in fits}
    return (*sorted(step for step in steps if step < longest), longest)


def is_unbalanced(task: Task, train: Split) -> bool:
    """Whether some classes have many times the texts of others."""
    if not task.has_classes:
        return False
    counts = np.unique(task.strata(train.labels), return_counts=True)[1]
    return bool(counts.max() >= UNBALANCED * counts.min())


def bounded(value: int, least: int, most: int) -> int:
    """The value, or the bound that it is beyond."""
    return max(least, min(most, value))
