"""Measures a bundle in this process with the kdedge on its path; text_to_answer.py runs it.

Reads a JSON object with the arguments of `measure` from standard input, and writes its result.
Uses only what kdedge 0.1.0 has too.
"""

import inspect
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

# The first texts, for which the table of words is still empty.
FIRST = 100


def measure(
    bundle: str, artifact: str, threads: Sequence[int], texts: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Measure milliseconds to import kdedge and load a bundle, and microseconds for each text.

    Args:
        bundle: the folder.
        artifact: name of the model.
        threads: numbers of threads for lists of texts. With 1, `tokenizers` too gets one thread
            instead of all cores. In 0.1.0, only `tokenizers` has threads.
        texts: texts by their use: `warm_up` first, then `tokenize`, `answer`, and `listed` in one
            call. No text should be in two of them.
    """
    start = time.perf_counter_ns()
    from kdedge import load_bundle

    imported = time.perf_counter_ns()
    model = load_bundle(bundle, artifact)
    model.predict(texts["warm_up"][:1])
    times = {
        "import": (imported - start) / 1e6,
        "load": (time.perf_counter_ns() - imported) / 1e6,
        "first": median_us(lambda text: model.predict([text]), texts["warm_up"][1:FIRST]),
    }
    for text in texts["warm_up"][FIRST:]:
        model.predict([text])
    times["tokenize"] = median_us(lambda text: model.encoder.token_ids([text]), texts["tokenize"])
    times["answer"] = median_us(lambda text: model.predict([text]), texts["answer"])
    for count in threads:
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if count > 1 else "false"
        of_list = model
        if count > 1 and "threads" in inspect.signature(load_bundle).parameters:
            of_list = load_bundle(bundle, artifact, threads=count)
            of_list.predict([*texts["warm_up"], *texts["tokenize"], *texts["answer"]])
        whole = median_us(of_list.predict, [texts["listed"]])
        times[f"list_{count}"] = whole / len(texts["listed"])
    return times


def median_us(work: Callable[[Any], object], inputs: Iterable[Any]) -> float:
    """Median microseconds of the calls."""
    times = []
    for one in inputs:
        start = time.perf_counter_ns()
        work(one)
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


if __name__ == "__main__":
    print(json.dumps(measure(**json.load(sys.stdin))))
