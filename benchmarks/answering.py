"""Measures one bundle in this process, with whatever kdedge can be imported; of text_to_answer.py.

Uses only what kdedge 0.1.0 has too. Reads a JSON object from standard input and writes one:

    in      bundle, artifact; tokenize: whether to measure `tokenizers` alone; threads that lists
            may use; texts: warm_up, tokenize, answer, listed
    out     import_s, load_s: until kdedge is imported, and from there to the first answer;
            tokenize, answer: median microseconds of a text; list_N: microseconds for a text of a
            list with N threads
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any


def main() -> None:
    """Answer the request on standard input."""
    asked = json.load(sys.stdin)
    print(json.dumps(measured(**asked)))


def measured(
    bundle: str, artifact: str, threads: list[int], texts: dict[str, list[str]]
) -> dict[str, float]:
    """What is measured, by name."""
    start = time.perf_counter()
    from kdedge import load_bundle

    imported = time.perf_counter()
    model = load_bundle(bundle, artifact)
    model.predict(texts["warm_up"][:1])
    found = {"import_s": imported - start, "load_s": time.perf_counter() - imported}
    for text in texts["warm_up"]:
        model.predict([text])
    found["tokenize"] = median_us(lambda text: model.encoder.token_ids([text]), texts["tokenize"])
    found["answer"] = median_us(lambda text: model.predict([text]), texts["answer"])
    for number in threads:
        several = model if number == 1 else load_bundle(bundle, artifact, threads=number)
        found[f"list_{number}"] = median_us(several.predict, [texts["listed"]]) / len(
            texts["listed"]
        )
    return found


def median_us(work: Callable[[Any], object], given: Iterable[Any]) -> float:
    """Median microseconds of a call."""
    times = []
    for one in given:
        start = time.perf_counter_ns()
        work(one)
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


if __name__ == "__main__":
    main()
