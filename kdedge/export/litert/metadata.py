"""Writes the metadata that MediaPipe's TextClassifier needs into a `.tflite` file."""

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from kdedge.errors import KdedgeError
from kdedge.export.litert.convert import INPUTS
from kdedge.export.litert.flatbuffer import parsed, serialized

NAME = b"TFLITE_METADATA"
VOCABULARY = "vocab.txt"
LABELS = "labels.txt"
# The first version of the schema with a BERT tokenizer among the input_process_units.
MIN_PARSER_VERSION = "1.1.0"
# Values of the enumerations in metadata_schema.fbs.
TENSOR_AXIS_LABELS, VOCABULARY_FILE = 2, 5
BERT_TOKENIZER_OPTIONS = 4


def with_metadata(
    content: bytes,
    vocabulary: Sequence[str],
    label_names: Sequence[str],
    output: str = "probabilities",
) -> bytes:
    """Add TFLite metadata, vocabulary and labels, so that MediaPipe needs no other file.

    Metadata that the model already has are replaced. Equal arguments give equal bytes. `vocab.txt`
    and `labels.txt` are an uncompressed zip archive at the end of the file: `zipfile.ZipFile` opens
    the result.

    Specification: https://www.tensorflow.org/lite/models/convert/metadata, and metadata_schema.fbs,
    file identifier M001, which MediaPipe's wheel carries.

    Args:
        content: a `.tflite` file: int32 [1, length] ids, mask, segment_ids, in this order ->
            float32 [1, outputs].
        vocabulary: BERT's word pieces in the order of their ids.
        label_names: the names of the outputs, in their order.
        output: name of the outputs, for instance probabilities.

    Raises:
        KdedgeError: not a `.tflite` file; the model has other inputs or outputs; or a word piece or
            a label has a line break.
    """
    if content[4:8] != b"TFL3":
        raise KdedgeError("content: not a .tflite file; to_litert writes one.")
    model = parsed(content)
    _check(model, len(label_names))
    files = {
        VOCABULARY: _lines("vocabulary", vocabulary),
        LABELS: _lines("label_names", label_names),
    }
    entries = {entry.name: entry for entry in model.metadata or []}
    entry = entries.setdefault(NAME, schema.MetadataT())
    if entry.name is None:
        entry.name, entry.buffer = NAME, len(model.buffers)
        model.buffers.append(schema.BufferT())
    model.metadata = list(entries.values())
    model.buffers[entry.buffer].data = np.frombuffer(_metadata(output), np.uint8)

    file = io.BytesIO(serialized(model))
    with zipfile.ZipFile(file, "a") as archive:
        for name, lines in files.items():
            # A new ZipInfo always has the same time stamp.
            archive.writestr(zipfile.ZipInfo(name), lines)
    return file.getvalue()


def _check(model: Any, classes: int) -> None:
    try:
        (graph, *more) = model.subgraphs
        inputs = [graph.tensors[index] for index in graph.inputs]
        outputs = [graph.tensors[index] for index in graph.outputs]
        [model.buffers[entry.buffer] for entry in model.metadata or []]
    except (TypeError, ValueError, IndexError):
        raise KdedgeError("content: a .tflite file with parts missing.") from None
    kinds = [tensor.type for tensor in (*inputs, *outputs)]
    if more or kinds != [schema.TensorType.INT32] * 3 + [schema.TensorType.FLOAT32]:
        raise KdedgeError(
            f"content: a model of {1 + len(more)} subgraphs, {len(inputs)} inputs and "
            f"{len(outputs)} outputs; one subgraph with three int32 inputs ({', '.join(INPUTS)}) "
            "and one float32 output is needed."
        )
    if outputs[0].shape is None or list(outputs[0].shape) != [1, classes]:
        raise KdedgeError(
            f"label_names: {classes} names, but the model's output has shape "
            f"{outputs[0].shape}. Give one name for each output."
        )


def _lines(argument: str, values: Sequence[str]) -> bytes:
    for value in values:
        if "\n" in value or "\r" in value:
            raise KdedgeError(f"{argument}: {value!r} has a line break; its file has lines.")
    return ("\n".join(values) + "\n").encode()


def _metadata(output: str) -> bytes:
    """The ModelMetadata table. A table is a dictionary: slot of a field in the .fbs -> value."""
    vocabulary = {0: VOCABULARY, 2: VOCABULARY_FILE}
    labels = {0: LABELS, 2: TENSOR_AXIS_LABELS}
    subgraph = {
        2: [{0: name} for name in INPUTS],
        3: [{0: output, 6: [labels]}],
        5: [{0: BERT_TOKENIZER_OPTIONS, 1: {0: [vocabulary]}}],
    }
    builder = flatbuffers.Builder()
    root = _add(builder, {0: "BertTextClassifier", 3: [subgraph], 7: MIN_PARSER_VERSION})
    builder.Finish(root, b"M001")
    return bytes(builder.Output())


def _add(builder: Any, value: Any) -> int:
    """Write a string, a vector of tables or a table, and return its offset."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, list):
        offsets = [_add(builder, table) for table in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())
    # Everything that a table points to must be written before it.
    fields = {slot: v if isinstance(v, int) else _add(builder, v) for slot, v in value.items()}
    builder.StartObject(max(fields) + 1)
    for slot, field in fields.items():
        if isinstance(value[slot], int):
            builder.PrependInt8Slot(slot, field, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, field, 0)
    return int(builder.EndObject())
