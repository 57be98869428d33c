"""What all student architectures share: their inputs, and running them from the middle."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from kdedge.errors import KdedgeError


def student_inputs() -> dict[str, Any]:
    """int32 [batch, length] `ids`, `mask` (1 for tokens, 0 for padding) and `segment_ids`."""
    return {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("ids", "mask", "segment_ids")
    }


def run_from(
    model: keras.Model,
    layer: str,
    value: Any,
    inputs: Mapping[str, Any],
    training: bool | None = None,
) -> Any:
    """What a functional model gives when its layer `layer` gives `value`.

    Args:
        model: as of `build_student`.
        layer: name of the layer whose output is replaced, for instance `tokens`.
        value: tensor in the place of its output, float32 [batch, length, width].
        inputs: the model's, by name. An input that only `layer` reads can be left out, and the
            length of those it does not read can be another.
        training: as in Keras.
    """

    def operation(op: Any) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if op.name == layer:
                return value
            if training is not None and "training" in inspect.signature(op.call).parameters:
                kwargs["training"] = training
            return op(*args, **kwargs)

        return call

    # The public way, keras.Model(layer.output, ...), adds to the layers' nodes, and the model that
    # they belong to can then no longer be saved.
    values = [inputs.get(tensor.name, inputs["mask"]) for tensor in model.inputs]
    return model._run_through_graph(values, operation_fn=operation)


def token_layer(student: keras.Model) -> keras.layers.Embedding:
    """The student's token embeddings.

    Raises:
        KdedgeError: it has no embedding layer named `tokens`.
    """
    for layer in student.layers:
        if layer.name == "tokens" and isinstance(layer, keras.layers.Embedding):
            return layer
    raise KdedgeError(
        f"student: {student.name} has no embedding layer named tokens. It has: "
        f"{', '.join(layer.name for layer in student.layers)}."
    )
