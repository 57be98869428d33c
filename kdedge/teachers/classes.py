"""Matches a teacher's classes to the data's, by name. Imports no TensorFlow."""

import csv
import io
import itertools
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kdedge.errors import KdedgeError
from kdedge.tasks import Labels, Logits, Task, wilson_interval

BARE_KEY = re.compile("[A-Za-z0-9_-]+")
# Placeholders, which tell nothing about the class.
NUMBERED = re.compile("LABEL_[0-9]+")
# Up to this many classes all orders are tried; above, the most frequent pairs are matched first.
MOST_IN_ANY_ORDER = 6
# A name of this length or more matches a longer name that begins with it: neg, negative.
SHORTEST_BEGINNING = 3

# Confusion matrix, int64 [teacher, data]: number of texts by the teacher's answer and the label.
Counts = npt.NDArray[np.int64]
# The same, divided by the number of texts of each label.
Shares = npt.NDArray[np.float64]


def label_names(config: Mapping[str, Any], where: object) -> tuple[str, ...]:
    """Names of the classes in a config.json, in the order of their ids; () if it has none.

        >>> label_names({"id2label": {"2": "pos", "1": "neg"}}, "config.json")
        ('neg', 'pos')

    Raises:
        KdedgeError: `id2label` does not map numbers to different names, or `label2id` contradicts.
    """
    numbers = config.get("label2id") or {}
    try:
        names = config.get("id2label") or {number: name for name, number in numbers.items()}
        found = tuple(str(names[number]) for number in sorted(names, key=int))
        again = tuple(str(name) for name in sorted(numbers, key=lambda name: int(numbers[name])))
    except (ValueError, TypeError, AttributeError) as error:
        raise KdedgeError(f"{where}: id2label must map numbers to names: {error}") from None
    if len({*found}) < len(found) or not all(map(str.strip, found)):
        raise KdedgeError(
            f"{where}: id2label has the names {', '.join(map(repr, found[:10]))}. Each class needs "
            "a name of its own: write them into config.json."
        )
    # If label2id has other names, such as LABEL_0, it is left over from another model.
    if again != found and sorted(again) == sorted(found):
        raise KdedgeError(
            f"{where}: by id2label the classes are {', '.join(found)}, by label2id "
            f"{', '.join(again)}. Correct config.json."
        )
    return found


def need_count(names: Sequence[str], outputs: int, where: object) -> None:
    """Check that a head has an output for each of its class names, if there are names.

    Raises:
        KdedgeError: it does not.
    """
    if names and len(names) != outputs:
        raise KdedgeError(
            f"{where}: id2label has {len(names)} names ({', '.join(names[:5])}), but the head has "
            f"{outputs} outputs. Correct config.json."
        )


def renamed(names: Sequence[str], data_names: Mapping[str, str], where: object) -> tuple[str, ...]:
    """The teacher's class names, replaced by the data's where `data_names` has one.

    Args:
        names: the teacher's class names.
        data_names: the data's name for some of them.
        where: path or name of the teacher, for messages.

    Raises:
        KdedgeError: `data_names` has a class that the teacher does not have.
    """
    if unknown := [name for name in data_names if name not in names]:
        raise KdedgeError(
            f"data.labels, --map: {', '.join(unknown)}: {where} has no such class. It has "
            f"{', '.join(names)}."
        )
    return tuple(data_names.get(name, name) for name in names)


def order_of(
    teacher_task: Task,
    data_names: Mapping[str, str],
    task: Task,
    where: object,
    counts: Counts | None = None,
) -> list[int]:
    """The index of the teacher's logit for each of the data's classes.

        >>> from kdedge.tasks import Classification
        >>> theirs, ours = (Classification(label_names=n) for n in (("pos", "neg"), ("neg", "pos")))
        >>> order_of(theirs, {}, ours, "BERT")
        [1, 0]

    Args:
        teacher_task: the teacher's task, with its classes in the order of its logits.
        data_names: the data's name for some of the teacher's classes.
        task: the data's task.
        where: path or name of the teacher, for messages.
        counts: its answers to labelled texts, from which the message guesses the map.

    Raises:
        KdedgeError: the tasks differ, or the classes don't match. The message has the map to write,
            filled in as far as it can be guessed.
    """
    if teacher_task.name != task.name:
        raise KdedgeError(
            f"{where}: a teacher for {teacher_task.name}, but the data's task is {task.name}. To "
            f'fine-tune it with a new head, set [teach] pretrained = "{where}" and start = '
            f'"probe", or run `{_teach_anew(where)}`.'
        )
    names = teacher_task.output_names
    ours, theirs = task.output_names, renamed(names, data_names, where)
    if sorted(theirs) == sorted(ours):
        return [theirs.index(name) for name in ours]
    has = f"{where}: the teacher's classes are {', '.join(names)}, and the data's {task}."
    if len(theirs) != len(ours):
        raise KdedgeError(
            f"{has} A teacher must have the data's classes. To fine-tune it on them, set [teach] "
            f'pretrained = "{where}" and start = "probe", or run `{_teach_anew(where)}`.'
        )
    raise KdedgeError(f"{has} Map them in the recipe:\n\n{suggested_map(names, ours, counts)}")


def _teach_anew(where: object) -> str:
    return f"kdedge teach DATA --pretrained {shlex.quote(str(where))} --start probe"


def suggested_map(names: Sequence[str], ours: Sequence[str], counts: Counts | None) -> str:
    """A map of a teacher's classes to the data's, as lines for a recipe and as `--map`.

    It is filled in as far as it can be guessed.

    Args:
        names: the teacher's class names.
        ours: the data's class names.
        counts: see `order_of`.
    """
    map_to = _by_name(names, ours)
    sure = set(map_to)
    left = [name for name in names if name not in map_to]
    free = [name for name in ours if name not in map_to.values()]
    why = "guessed by the order only: check it"
    if counts is not None:
        rows, columns = [names.index(n) for n in left], [ours.index(n) for n in free]
        best = best_order(shares_of(counts)[np.ix_(rows, columns)])
        map_to |= {left[row]: free[column] for column, row in enumerate(best)}
        why = f"guessed from its answers to {counts.sum()} texts: check it"
    elif all(map(NUMBERED.fullmatch, left)):
        map_to |= dict(zip(left, free, strict=False))
    lines = ["[data.labels]"]
    for name in names:
        key = name if BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)
        value = json.dumps(map_to.get(name, ""), ensure_ascii=False)
        note = "" if name in sure else f"  # {why}" if name in map_to else f"  # {_one_of(free)}"
        lines.append(f"{key} = {value}{note}")
    if not any("=" in name for name in names):
        pairs = io.StringIO()
        csv.writer(pairs, lineterminator="").writerow(
            f"{name}={map_to.get(name, '...')}" for name in names
        )
        lines += ["", f"or on the command line: --map {shlex.quote(pairs.getvalue())}"]
    return "\n".join(lines)


def _one_of(names: Sequence[str]) -> str:
    return f"one of: {', '.join(names[:10])}"


def _by_name(names: Sequence[str], ours: Sequence[str]) -> dict[str, str]:
    """Match names that differ in case and punctuation only, or of which one begins the other."""
    matches: dict[str, str] = {}
    for alike in (str.__eq__, _begins):
        for name in names:
            free = [other for other in ours if other not in matches.values()]
            fits = [other for other in free if alike(_plain(name), _plain(other))]
            if name not in matches and len(fits) == 1:
                matches[name] = fits[0]
    return matches


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _begins(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return len(short) >= SHORTEST_BEGINNING and long.startswith(short)


def counts_of(logits: Logits, labels: Labels) -> Counts:
    """Count the texts by the teacher's answer and the label, int64 [teacher, data].

    Args:
        logits: float32 [texts, classes].
        labels: int [texts].
    """
    counts = np.zeros((logits.shape[1], logits.shape[1]), np.int64)
    np.add.at(counts, (logits.argmax(1), labels), 1)
    return counts


def shares_of(counts: Counts) -> Shares:
    """Divide counts by the number of texts of each label, so that all labels count equally."""
    return np.asarray(counts / np.maximum(counts.sum(0), 1), np.float64)


def best_order(shares: Shares) -> list[int]:
    """The index of the best matching teacher's class for each of the data's; each is used once.

    >>> best_order(np.array([[0.1, 0.9], [0.8, 0.2]]))
    [1, 0]
    """
    size = len(shares)
    if size <= MOST_IN_ANY_ORDER:
        columns = range(size)
        return list(
            max(itertools.permutations(columns), key=lambda rows: shares[list(rows), columns].sum())
        )
    order, left = [-1] * size, shares.astype(np.float64)
    for _ in range(size):
        row, column = np.unravel_index(left.argmax(), left.shape)
        order[column] = int(row)
        left[row], left[:, column] = -1, -1
    return order


def swap_warning(counts: Counts, task: Task, names: Sequence[str]) -> str:
    """A warning if other class names would make far more answers right; "" if none would.

    Args:
        counts: the teacher's answers to labelled texts, its classes in the data's order.
        task: the data's task.
        names: the teacher's own class names, in the same order.
    """
    texts, shares = int(counts.sum()), shares_of(counts)
    order, same = best_order(shares), list(range(len(shares)))
    # The mean over classes, so that a teacher that always gives one class does not look exchanged.
    now, best = shares[same, same].mean(), shares[order, same].mean()
    if wilson_interval(now, texts)[1] >= wilson_interval(best, texts)[0]:
        return ""
    right = counts[order, same].sum() / texts
    ours = task.output_names
    lines = [
        f"{json.dumps(names[row], ensure_ascii=False)} = {json.dumps(ours[i], ensure_ascii=False)}"
        for i, row in enumerate(order)
    ]
    return (
        f"its classes look exchanged: {100 * right:.1f}% of the answers would be right with\n\n"
        "[data.labels]\n" + "\n".join(lines) + "\n"
    )
