"""Selective quantization: leaves out the layers that cause most of the loss."""

from collections.abc import Callable, Collection
from typing import Protocol

from kdedge.bundle.manifest import SparedLayer


class Quantizer(Protocol):
    """Quantizes one model in one way."""

    layers: tuple[str, ...]
    spared_as: str

    def __call__(self, spared: Collection[str] = ()) -> bytes:
        """The quantized file, without quantizing the layers `spared`."""
        ...


def spare_layers(
    quantizer: Quantizer,
    error: Callable[[bytes], float],
    holds: Callable[[bytes], bool],
) -> tuple[bytes, tuple[SparedLayer, ...]]:
    """Quantize, and leave out one layer after the other until the file is good enough.

    Each round leaves out the layer that lowers the error most. This also finds layers that cause a
    loss only together, which measuring each layer alone would miss.

    Args:
        quantizer: makes a file for a choice of layers.
        error: error of a file on calibration texts; lower is better.
        holds: whether a file is good enough.

    Returns:
        The file, and the layers that were left out. If no layer lowers the error any more, the file
        is returned although it is not good enough.
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
