"""Runs models on token ids; needs only numpy and the models' runtimes.

python arm64_client.py TOKENS.npz SAID.npz MODEL...

TOKENS.npz holds int32 [texts, length] ids, mask and segment_ids; SAID.npz gets, under each model's
file name, float32 [texts, classes]: probabilities of a `.tflite`, logits of an `.onnx`.
"""

import sys
from pathlib import Path

import numpy as np


def litert(path, rows):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    inputs = [detail["index"] for detail in interpreter.get_input_details()]
    output = interpreter.get_output_details()[0]["index"]
    length = interpreter.get_input_details()[0]["shape"][1]
    for row in rows:
        for index, values in zip(inputs, row, strict=True):
            interpreter.set_tensor(index, np.pad(values, (0, length - len(values)))[None])
        interpreter.invoke()
        yield interpreter.get_tensor(output)[0].copy()


def onnx(path, rows):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    for row in rows:
        feeds = dict(zip(("input_ids", "attention_mask", "token_type_ids"), row, strict=True))
        wanted = {name: v[None].astype(np.int64) for name, v in feeds.items() if name in names}
        yield session.run(["logits"], wanted)[0][0]


tokens, outputs, *models = map(Path, sys.argv[1:])
with np.load(tokens) as arrays:
    ids, mask, segment_ids = (arrays[name] for name in ("ids", "mask", "segment_ids"))
# Without padding, as an app would do.
rows = [
    [values[: row[1].sum()] for values in row] for row in zip(ids, mask, segment_ids, strict=True)
]
engines = {".tflite": litert, ".onnx": onnx}
np.savez(outputs, **{m.name: np.stack(list(engines[m.suffix](m, rows))) for m in models})
