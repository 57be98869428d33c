"""Rules that choose the settings that a recipe does not have, from the data.

docs/distilling.md lists them. Settings of the recipe always win.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kdedge.errors import KdedgeError
from kdedge.recipe import Distill, Label, Mixture, Teach
from kdedge.tasks import Task
from kdedge.text.corpus import Corpus
from kdedge.text.encoder import LENGTH_STEP
from kdedge.text.splits import Split
from kdedge.text.vocabulary import unseen_share

# max_length is the shortest length that holds this share of the texts, within bounds. Latency grows
# with it.
WHOLE_TEXTS, SHORTEST, LONGEST = 0.99, 16, 128
# The lengths of a LiteRT file for several lengths hold these shares of the texts.
SHARES_THAT_FIT = (0.25, 0.5, 0.75, 0.95)
# Teacher: fewer epochs for more texts, so that the number of steps is similar.
TEXTS_LEARNED, FEWEST_EPOCHS, MOST_EPOCHS = 25_000, 2, 20
# Training stops after this share of the epochs, and at least this number, without improvement.
PATIENCE, LEAST_PATIENCE = 0.25, 2
# Small data gets smaller batches, so that there are enough steps.
SMALL_DATA, SMALL_BATCH, BATCH = 1_000, 16, 32
# Wider models need smaller learning rates (arXiv 2203.03466): this one is for MiniLM's width, and a
# BERT of width 768 gets half of it.
LEARNING_RATE, REFERENCE_WIDTH, USUAL_WIDTH = 1e-4, 384, 768
SMALLEST_RATE, LARGEST_RATE = 2e-5, 3e-4
# The probe tries class weights if the largest class has this many times the texts of the smallest.
UNBALANCED = 10.0
# Student: augmented texts for each training text, and steps of the training, within bounds.
AUGMENTED_EACH, LEAST_AUGMENTED, MOST_AUGMENTED = 4, 10_000, 40_000
STUDENT_STEPS, FEWEST_STUDENT_EPOCHS, MOST_STUDENT_EPOCHS = 4_000, 8, 30
# If there are few training texts, and more than this share of the words of the valid split are not
# in them, there are more augmented texts, of which WORDS in WORDS + 3 have random words, and fewer
# steps, because with more the student soon gets worse on new texts.
FEW_TEXTS, MANY_UNSEEN = 5_000, 0.1
LEAST_WITH_WORDS, WORDS, FEWER_STEPS = 20_000, 9, 1_250


class FullTeach(Teach):
    """`Teach` with all settings except those that the probe chooses."""

    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    max_length: int
    metric: Any


class FullMixture(Mixture):
    """`Mixture` with all weights."""

    words: int


class FullLabel(Label):
    """`Label` with all settings."""

    augmented: int
    mixture: FullMixture


class FullDistill(Distill):
    """`Distill` with all settings except those of the preset."""

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
    """Complete the settings of fine-tuning.

    Args:
        settings: settings of the recipe.
        task: task of the labels.
        train: the train split.
        lengths: lengths of its texts in tokens; not needed if the settings have a max_length.
        longest: longest input of the pretrained model in tokens.
        width: width of its hidden states; None if unknown.

    Raises:
        KdedgeError: the task does not have the metric.
    """
    if settings.metric and settings.metric not in task.metrics:
        raise KdedgeError(
            f"teach.metric: {settings.metric}; for {task.name} it can be "
            f"{' or '.join(task.metrics)}."
        )
    # A ready teacher takes the place of the pretrained model.
    given = settings.model_dump(exclude_none=True, exclude={"teacher"})
    given["pretrained"] = settings.source
    texts = len(train)
    suited = bounded(round(TEXTS_LEARNED / texts), FEWEST_EPOCHS, MOST_EPOCHS)
    epochs = settings.epochs or suited
    rate = LEARNING_RATE * REFERENCE_WIDTH / (width or USUAL_WIDTH)
    found = {
        "epochs": epochs,
        "patience": max(LEAST_PATIENCE, round(PATIENCE * epochs)),
        "batch_size": BATCH if texts >= SMALL_DATA else SMALL_BATCH,
        "learning_rate": max(SMALLEST_RATE, min(LARGEST_RATE, rate)),
        "max_length": settings.max_length or min(longest, length_for(lengths)),
        "metric": task.metric,
        # None if the sizes of classes differ much: the probe then chooses.
        "class_weights": None if is_unbalanced(task, train) else "none",
    }
    return FullTeach.model_validate(found | given)


def full_label(settings: Label, corpus: Corpus) -> FullLabel:
    """Complete the settings of labelling.

    Args:
        settings: settings of the recipe.
        corpus: the corpus that augmented texts are made for.
    """
    unseen = lacks_words(corpus)
    texts = len(corpus.train) + len(corpus.unlabelled)
    least = LEAST_WITH_WORDS if unseen else LEAST_AUGMENTED
    found = {
        "augmented": bounded(AUGMENTED_EACH * texts, least, MOST_AUGMENTED),
        "mixture": {"words": WORDS if unseen else 0}
        | settings.mixture.model_dump(exclude_none=True),
    }
    return FullLabel.model_validate(
        found | settings.model_dump(exclude_none=True, exclude={"mixture"})
    )


def lacks_words(corpus: Corpus) -> bool:
    """Whether a student learns from few texts, which lack many words of the valid split."""
    known = (*corpus.train.texts, *corpus.unlabelled)
    return len(known) < FEW_TEXTS and unseen_share(corpus.valid.texts, known) > MANY_UNSEEN


def full_distill(settings: Distill, corpus: Corpus, texts: int, longest: int) -> FullDistill:
    """Complete the settings of distillation.

    Args:
        settings: settings of the recipe.
        corpus: the corpus.
        texts: number of texts in the transfer set.
        longest: length that the teacher truncates texts to, in tokens.
    """
    given = settings.model_dump(exclude_none=True)
    steps = FEWER_STEPS if lacks_words(corpus) else STUDENT_STEPS
    epochs = round(steps * settings.batch_size / max(1, texts))
    found = {
        "epochs": bounded(epochs, FEWEST_STUDENT_EPOCHS, MOST_STUDENT_EPOCHS),
        "max_length": longest,
    }
    return FullDistill.model_validate(found | given)


def length_for(lengths: Sequence[int]) -> int:
    """max_length for texts of these lengths in tokens.

    >>> length_for([12] * 99 + [90])
    16
    """
    fits = float(np.quantile(lengths, WHOLE_TEXTS, method="inverted_cdf"))
    return bounded(-(-round(fits) // LENGTH_STEP) * LENGTH_STEP, SHORTEST, LONGEST)


def several_lengths(lengths: Sequence[int], longest: int) -> tuple[int, ...]:
    """The lengths of a LiteRT file, the shortest first; a text uses the first that holds it.

        >>> several_lengths([10, 12, 17, 30], longest=64)
        (16, 24, 32, 64)

    Args:
        lengths: lengths of texts in tokens, special tokens included.
        longest: length that texts are truncated to, in tokens.
    """
    fits = np.quantile(lengths or [longest], SHARES_THAT_FIT, method="inverted_cdf")
    steps = {-(-int(tokens) // LENGTH_STEP) * LENGTH_STEP for tokens in fits}
    return (*sorted(step for step in steps if step < longest), longest)


def is_unbalanced(task: Task, train: Split) -> bool:
    """Whether the largest class has many times the texts of the smallest."""
    if not task.has_classes:
        return False
    counts = np.unique(task.strata(train.labels), return_counts=True)[1]
    return bool(counts.max() >= UNBALANCED * counts.min())


def bounded(value: int, least: int, most: int) -> int:
    """The value, limited to the bounds."""
    return max(least, min(most, value))
