"""Merges `.tflite` files of a model for several lengths into one file with shared weights."""

from collections.abc import Sequence
from typing import Any

from kdedge.export.litert.flatbuffer import parsed, serialized


def merged(contents: Sequence[bytes]) -> bytes:
    """Merge files into one with a subgraph and a signature for each of them.

    Equal weights are stored once. The first file's subgraph, with the signature `serving_default`,
    stays the first: programs that know no signatures run it. The signatures of the others are named
    `length_16`, `length_32`, ...

    Args:
        contents: files of one subgraph with inputs int32 [1, length], as `to_litert` or
            `LiteRTQuantizer` make them, each with another length.
    """
    model, *others = map(parsed, contents)
    places = {_data(buffer): place for place, buffer in reversed([*enumerate(model.buffers)])}
    codes = [_code(code) for code in model.operatorCodes]
    for other in others:
        (graph,) = other.subgraphs
        (signature,) = other.signatureDefs
        for tensor in graph.tensors:
            buffer = other.buffers[tensor.buffer]
            if _data(buffer) not in places:
                places[_data(buffer)] = len(model.buffers)
                model.buffers.append(buffer)
            tensor.buffer = places[_data(buffer)]
        for op in graph.operators:
            code = other.operatorCodes[op.opcodeIndex]
            if _code(code) not in codes:
                codes.append(_code(code))
                model.operatorCodes.append(code)
            op.opcodeIndex = codes.index(_code(code))
        _, length = graph.tensors[graph.inputs[0]].shape
        signature.signatureKey = f"length_{length}".encode()
        signature.subgraphIndex = len(model.subgraphs)
        model.subgraphs.append(graph)
        model.signatureDefs.append(signature)
    return serialized(model)


def _data(buffer: Any) -> bytes:
    """The content of a buffer; empty for the first one, which computed tensors have."""
    return b"" if buffer.data is None else buffer.data.tobytes()


def _code(code: Any) -> tuple[Any, ...]:
    return code.builtinCode, code.customCode, code.version
