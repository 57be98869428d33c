"""`.tflite` files as objects and back."""

import struct
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.tools import flatbuffer_utils

from kdedge.errors import KdedgeError


def parsed(content: bytes) -> Any:
    """A `ModelT` of TFLite's schema; data that lies behind the flatbuffer is put into it.

    Raises:
        KdedgeError: not a whole `.tflite` file.
    """
    try:
        # Its verifier looks at every offset and size; the parser follows them blindly.
        Interpreter(model_content=content)
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    except (ValueError, RuntimeError, IndexError, TypeError, struct.error) as error:
        raise KdedgeError(f"content: not a whole .tflite file: {error}") from None
    for buffer in model.buffers:
        # An array is written as a whole, anything else byte by byte.
        if buffer.data is not None:
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return model


def written(model: Any) -> bytes:
    """The file of a `ModelT`."""
    builder = _Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Builder(flatbuffers.Builder):
    """Puts weights at multiples of 16 bytes.

    The schema's `force_align: 16` says so, and Python's generated code does not heed it: a runtime
    must then copy all weights or, on some processors, fails.
    """

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N803, D102
        return super().StartVector(elemSize, numElems, 16)
