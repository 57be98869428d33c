"""What all students take."""

from typing import Any

import keras


def student_inputs() -> dict[str, Any]:
    """int32 [batch, length] `ids`, `mask` (1 for tokens, 0 for padding) and `segment_ids`."""
    return {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("ids", "mask", "segment_ids")
    }


def masked(x: Any, mask: Any) -> Any:
    """x float32 [batch, length, width] with zeros where there is padding.

    So a text gives the same logits whatever length it is padded to.
    """
    column = keras.layers.Reshape((-1, 1))(mask)
    return keras.layers.Multiply()([x, keras.layers.Rescaling(1.0)(column)])
