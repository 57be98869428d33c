"""Reads `.tflite` files as objects and writes them back."""

import struct
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.tools import flatbuffer_utils

from kdedge.errors import KdedgeError


def parsed(content: bytes) -> Any:
    """Parse a file into a `ModelT` of TFLite's schema, with data after the flatbuffer included.

    Raises:
        KdedgeError: not a complete `.tflite` file.
    """
    try:
        # Its verifier checks every offset and size; the parser follows them blindly.
        Interpreter(model_content=content)
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    except (ValueError, RuntimeError, IndexError, TypeError, struct.error) as error:
        raise KdedgeError(f"content: not a whole .tflite file: {error}") from None
    for buffer in model.buffers:
        # Arrays are written at once, anything else byte by byte.
        if buffer.data is not None:
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return model


def serialized(model: Any) -> bytes:
    """Serialize a `ModelT` to a file's bytes."""
    builder = _Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Builder(flatbuffers.Builder):
    """Aligns weights to 16 bytes.

    The schema demands it (`force_align: 16`), but Python's generated code ignores it: a runtime
    must then copy all weights or, on some processors, fails.
    """

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N803, D102
        return super().StartVector(elemSize, numElems, 16)
