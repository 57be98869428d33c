"""Selective quantization: the layers that a mode does most harm to are spared until it is right."""

from collections.abc import Callable, Collection
from typing import Protocol

from kdedge.bundle.manifest import SparedLayer


class Quantizer(Protocol):
    """Quantizes one model in one way."""

    layers: tuple[str, ...]
    spared_as: str

    def __call__(self, spared: Collection[str] = ()) -> bytes:
        """The quantized file, but for the layers `spared`."""
        ...


def spare_layers(
    quantizer: Quantizer,
    error: Callable[[bytes], float],
    holds: Callable[[bytes], bool],
) -> tuple[bytes, tuple[SparedLayer, ...]]:
    """Quantize, and leave out one layer after the other until the result holds.

    In each round the layer goes whose absence lowers the error most. So layers that do harm only
    together are found, which measuring each by itself would miss.

    Args:
        quantizer: gives a file for a choice of layers.
        error: of a file, on calibration texts; less is better.
        holds: whether a file is good enough.

    Returns:
        The file, and the layers that were spared. If no layer helps any more the file is returned
        as it is then, though it does not hold.
    """
    content = quantizer()
    spared: list[SparedLayer] = []
    while not holds(content):
        before = error(content)
        names = [layer.name for layer in spared]
        trials = []
        for layer in quantizer.layers:
            if layer not in names:
                trial = quantizer([*names, layer])
                trials.append((error(trial), layer, trial))
        if not trials or min(trials)[0] >= before:
            break
        after, layer, content = min(trials)
        spared.append(
            SparedLayer(
                name=layer, kept_as=quantizer.spared_as, error_before=before, error_after=after
            )
        )
    return content, tuple(spared)
