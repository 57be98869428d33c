"""Engines: outputs worked out by hand, and the options that files are opened with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdedge import engines
from kdedge.bench import agent
from kdedge.bench.devices.device import npz
from kdedge.engines import EngineError
from kdedge.export.litert.flatbuffer import parsed, serialized
from kdedge.runtime import load_engine
from kdedge.text.encoder import Encoded


@pytest.fixture
def texts() -> Encoded:
    """Two texts whose ids, mask and segment ids all differ."""
    ids = np.array([[2, 5, 6, 7, 8, 9, 9, 3], [2, 5, 3, 0, 0, 0, 0, 0]], np.int32)
    segment_ids = np.array([[0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0, 0, 0]], np.int32)
    return Encoded(ids, (ids > 0).astype(np.int32), segment_ids)


def by_hand(model: Any, texts: Encoded) -> Any:
    """What the tiny model computes, in numpy."""
    ids, segments, kernel, bias = model.get_weights()
    if len(ids) == 2:
        ids, segments = segments, ids
    rows = (ids[texts.ids] + segments[texts.segment_ids]) * texts.mask[..., None]
    return rows.reshape(len(texts.ids), -1) @ kernel + bias


def test_numbers_of_a_tflite_file(tiny_model: Any, tflite: Path, texts: Encoded) -> None:
    engine = engines.load(tflite)
    assert engine.length == 8
    outputs = engine.run(texts.inputs)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, by_hand(tiny_model, texts), atol=1e-6)
    (row,) = engine.infer(engine.feed({name: a[1:] for name, a in texts.inputs.items()}))
    np.testing.assert_array_equal(row, outputs[1])
    # Its second text has three tokens.
    np.testing.assert_array_equal(engine.run_text([2, 5, 3], [0, 1, 1], pad_id=4), outputs[1])
    whole = [texts.ids[0].tolist(), texts.segment_ids[0].tolist()]
    np.testing.assert_array_equal(engine.run_text(*whole), outputs[0])


def test_inputs_go_by_their_names_and_else_by_their_places(
    tiny_model: Any, tflite: Path, texts: Encoded, tmp_path: Path
) -> None:
    # The converter names its tensors after the inputs.
    names = ("ids", "mask", "segment_ids")
    model = parsed(tflite.read_bytes())
    (graph,) = model.subgraphs
    tensors = {
        graph.tensors[tensor].name.decode().removeprefix("serving_default_")[:-2]: tensor
        for tensor in graph.inputs
    }
    path = tmp_path / "turned.tflite"
    for order in (names, names[::-1], ("mask", "ids", "segment_ids")):
        graph.inputs = [tensors[name] for name in order]
        path.write_bytes(serialized(model))
        engine = engines.load(path)
        assert engine.inputs == order
        np.testing.assert_allclose(engine.run(texts.inputs), by_hand(tiny_model, texts), atol=1e-6)

    graph.inputs = [tensors[name] for name in names]
    model.signatureDefs = None
    path.write_bytes(serialized(model))
    engine = engines.load(path)
    assert engine.inputs == names
    np.testing.assert_allclose(engine.run(texts.inputs), by_hand(tiny_model, texts), atol=1e-6)


def test_inputs_of_other_names(tflite: Path, tmp_path: Path) -> None:
    model = parsed(tflite.read_bytes())
    model.signatureDefs[0].inputs[0].name = b"words"
    path = tmp_path / "other.tflite"
    path.write_bytes(serialized(model))
    with pytest.raises(EngineError, match="inputs are .*words.*; needed are .*'segment_ids'"):
        engines.load(path)


def test_numbers_of_an_onnx_file(onnx_file: Path, texts: Encoded) -> None:
    engine = engines.load(onnx_file)
    # It has no token_type_ids.
    assert (engine.length, engine.inputs) == (None, ("ids", "mask"))
    outputs = engine.run(texts.inputs)
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs, texts.ids * texts.mask)
    np.testing.assert_array_equal(engine.run_text([2, 5, 3], [0, 1, 1]), [2, 5, 3])


def test_sums_of_8_bit_integers_are_whole(tmp_path: Path) -> None:
    """Without VNNI, two products could be added in 16 bits and cut to 32767."""
    from onnx import TensorProto, helper, numpy_helper, save

    kernel = numpy_helper.from_array(np.array([[127, -128]] * 4, np.int8), "kernel")
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("MatMulInteger", ["bytes", "kernel"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["logits"], to=TensorProto.FLOAT),
    ]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", 4])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "sums", [ids], [logits], [kernel])
    path = tmp_path / "sums.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    outputs = engines.load(path).run({"ids": np.full((1, 4), 255, np.int32)})
    # 4 * 255 * 127 and 4 * 255 * -128.
    np.testing.assert_array_equal(outputs, [[129540, -130560]])


@pytest.mark.parametrize(
    ("cpuinfo", "saturate"),
    [
        ("flags\t\t: fpu avx avx2 fma avx512f avx512_vnni avx512_bf16\n", False),
        ("flags\t\t: fpu avx avx2 fma avx_vnni\n", False),
        ("flags\t\t: fpu avx avx2 fma avx512f avx512vbmi\n", True),
        ("Features\t: fp asimd asimddp\n", True),
        ("", True),
    ],
)
def test_where_int8_sums_need_an_option_to_be_whole(cpuinfo: str, saturate: bool) -> None:
    assert engines.int8_sums_saturate(cpuinfo) is saturate


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_runtime_and_agent_open_files_with_the_same_options(
    format: str,
    tflite: Path,
    onnx_file: Path,
    texts: Encoded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import onnxruntime
    from ai_edge_litert import interpreter

    opened: list[dict[str, Any]] = []
    interpreter_of, session_of = interpreter.Interpreter, onnxruntime.InferenceSession

    def open_tflite(**given: Any) -> Any:
        opened.append(given)
        return interpreter_of(**given)

    def open_onnx(path: str, options: Any, **given: Any) -> Any:
        precision = options.get_session_config_entry("session.x64quantprecision")
        public = [name for name in dir(options) if not name.startswith("_")]
        values = {name: getattr(options, name) for name in public}
        plain = {name: value for name, value in values.items() if not callable(value)}
        opened.append({"path": path, "precision": precision, **plain, **given})
        return session_of(path, options, **given)

    monkeypatch.setattr(interpreter, "Interpreter", open_tflite)
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_onnx)
    model = {"litert": tflite, "onnx": onnx_file}[format]
    load_engine(model, threads=2)
    inputs = tmp_path / "texts.npz"
    inputs.write_bytes(npz(texts))
    request = {"kind": "outputs", "model": str(model), "format": format, "inputs": str(inputs)}
    agent.measure({**request, "threads": 2})
    of_runtime, of_agent = opened
    assert of_runtime == of_agent
    if format == "litert":
        assert of_runtime == {"model_path": str(model), "num_threads": 2}
    else:
        cpuinfo = Path("/proc/cpuinfo").read_text()
        assert of_runtime["precision"] == "01"[engines.int8_sums_saturate(cpuinfo)]
        assert of_runtime["intra_op_num_threads"] == 2
        assert of_runtime["providers"] == ["CPUExecutionProvider"]


def test_a_file_of_another_format(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"suffix is '.pt'; allowed are .tflite, .onnx"):
        engines.load(tmp_path / "model.pt")


def test_int32_inputs_of_an_onnx_file(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["batch", "length"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length"])
    node = helper.make_node("Cast", ["input_ids"], ["logits"], to=TensorProto.FLOAT)
    graph = helper.make_graph([node], "cast", [ids], [logits])
    path = tmp_path / "int32.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    engine = engines.load(path)
    assert engine.run({"ids": np.array([[3, 4], [5, 6]], np.int32)}).tolist() == [[3, 4], [5, 6]]
    assert engine.run_text([7, 8], [0, 0]).tolist() == [7, 8]
    ids.type.tensor_type.elem_type = TensorProto.FLOAT
    graph = helper.make_graph([node], "cast", [ids], [logits])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    with pytest.raises(EngineError, match=r"'input_ids': 'tensor\(float\)'.*allowed.*int32"):
        engines.load(path)


def test_an_onnx_file_with_other_inputs(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    words = helper.make_tensor_value_info("words", TensorProto.INT64, ["batch"])
    logits = helper.make_tensor_value_info("logits", TensorProto.INT64, ["batch"])
    node = helper.make_node("Identity", ["words"], ["logits"])
    graph = helper.make_graph([node], "other", [words], [logits])
    path = tmp_path / "other.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    with pytest.raises(EngineError, match="inputs are .'words'.; allowed are .'input_ids', "):
        engines.load(path)
