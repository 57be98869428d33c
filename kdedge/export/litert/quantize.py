"""Quantizes float32 `.tflite` files."""

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from litert_quantizer.algorithm_manager import AlgorithmName
from litert_quantizer.calibrator import CalibrationMode, Calibrator
from litert_quantizer.qtyping import QuantGranularity as Granularity
from litert_quantizer.qtyping import TFLOperationName as Op
from litert_quantizer.quantizer import Quantizer
from litert_quantizer.recipe_manager import RecipeManager
from litert_quantizer.utils import qsv_utils
from tensorflow.lite.python import schema_py_generated as schema

from kdedge.errors import KdedgeError
from kdedge.export.litert.convert import SIGNATURE
from kdedge.export.litert.flatbuffer import parsed, serialized
from kdedge.text.encoder import Encoded

# A tensor with at most this many distinct values was clustered. A scale for each channel would give
# it many values again, and make the download large.
CLUSTERED = 256


@dataclass(frozen=True)
class LiteRTQuantization:
    """A way to quantize `.tflite` files.

    Attributes:
        apply: configures litert-quantizer for a scope, with one scale for each channel or tensor.
        spared_as: precision of the layers that are left out.
        needs_calibration: whether it needs calibration data.
        with_lookups: whether embedding tables are read by EMBEDDING_LOOKUP.
    """

    apply: Callable[[Quantizer, str, Granularity], None]
    spared_as: str = "float32"
    needs_calibration: bool = False
    with_lookups: bool = True


class LiteRTQuantizer:
    """Quantizes one float32 `.tflite` file in one way; layers can be left out.

    Args:
        content: the file, as `to_litert` makes it.
        quantization: how to quantize it.
        calibration: calibration data, int32 [texts, length].
        integer_output: return probabilities as integers with a scale, if activations are integers.

    Attributes:
        layers: name scopes of the graph's layers.
        spared_as: precision of the layers that are left out.
    """

    def __init__(
        self,
        content: bytes,
        quantization: LiteRTQuantization,
        calibration: Encoded,
        integer_output: bool = False,
    ) -> None:
        self.quantization, self.spared_as = quantization, quantization.spared_as
        self.integer_output = integer_output
        self.content = _with_lookups(content) if quantization.with_lookups else content
        model = parsed(self.content)
        outputs = [model.subgraphs[0].tensors[op.outputs[0]] for op in model.subgraphs[0].operators]
        scopes = [tensor.name.decode().split(";")[0].rpartition("/")[0] for tensor in outputs]
        # A scope without a slash is the whole model.
        self.layers = tuple(dict.fromkeys(scope for scope in scopes if "/" in scope))
        self.clustered = [
            scope
            for scope, op in zip(scopes, model.subgraphs[0].operators, strict=True)
            if scope and _is_clustered(model, op)
        ]
        self.ranges = self._ranges(calibration)

    def __call__(self, spared: Collection[str] = ()) -> bytes:
        """The quantized file, without quantizing the layers `spared`.

        Raises:
            KdedgeError: the quantizer refuses the model.
        """
        try:
            with _quiet():
                result = self._quantizer(spared).quantize(
                    self.ranges, enable_progress_bar=False, enable_progress_report=False
                )
        except (RuntimeError, ValueError) as error:
            raise KdedgeError(f"litert-quantizer refuses this model: {error}") from None
        model = parsed(bytes(result.quantized_model))
        _raise_versions(model)
        return serialized(model)

    def _ranges(self, calibration: Encoded) -> Any:
        quantizer = self._quantizer(())
        if not quantizer.need_calibration:
            return None
        recipe = RecipeManager()
        recipe.load_quantization_recipe(quantizer.get_quantization_recipe())
        samples = [
            {name: values[i : i + 1] for name, values in calibration.inputs.items()}
            for i in range(len(calibration.ids))
        ]
        with _quiet():
            # Its default averages the ranges of the texts, which cuts off rare values, such as the
            # number of tokens of a long text.
            calibrator = Calibrator(
                bytearray(self.content),
                num_threads=1,
                mode=CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS,
                qsv_update_func=qsv_utils.min_max_update,
            )
            calibrator.calibrate({SIGNATURE: samples}, recipe)
        return calibrator.get_model_qsvs()

    def _quantizer(self, spared: Collection[str]) -> Quantizer:
        quantizer = Quantizer(bytearray(self.content))
        self.quantization.apply(quantizer, ".*", Granularity.CHANNELWISE)
        for scope in self.clustered:
            self.quantization.apply(quantizer, _within(scope), Granularity.TENSORWISE)
        for scope in spared:
            if self.spared_as == "int8":
                int8(quantizer, _within(scope), Granularity.CHANNELWISE)
            else:
                quantizer.update_quantization_recipe(
                    _within(scope), Op.ALL_SUPPORTED, None, AlgorithmName.NO_QUANTIZE
                )
        if not self.integer_output:
            quantizer.update_quantization_recipe(".*", Op.OUTPUT, None, AlgorithmName.NO_QUANTIZE)
        return quantizer


def int8(quantizer: Quantizer, scope: str, granularity: Granularity) -> None:
    """Dynamic range: int8 weights; activations are quantized at run time.

    Dense layers have one scale each, so they run in every TensorFlow Lite since 2019. With a scale
    for each channel they would need LiteRT 1.0 and be no more accurate.
    """
    quantizer.add_dynamic_config(scope, Op.ALL_SUPPORTED, 8, granularity)
    quantizer.add_dynamic_config(scope, Op.FULLY_CONNECTED, 8, Granularity.TENSORWISE)
    int8_table(quantizer, scope)


def masked_scores_in_float(quantizer: Quantizer) -> None:
    """Leave attention scores in float: those of padding are too low for a common int8 scale."""
    quantizer.update_quantization_recipe(
        r"/softmax(_\d+)+/", Op.ALL_SUPPORTED, None, AlgorithmName.NO_QUANTIZE
    )


def int8_table(quantizer: Quantizer, scope: str) -> None:
    """One scale for the whole table: a scale for each row would add a tenth to its size."""
    quantizer.add_dynamic_config(scope, Op.EMBEDDING_LOOKUP, 8, Granularity.TENSORWISE)


def _within(scope: str) -> str:
    return rf"^{re.escape(scope)}(/|;|$)"


# The op versions that allow int8 weights with one scale, and with several (TensorFlow's
# op_version.cc).
INT8_VERSIONS = {
    schema.BuiltinOperator.FULLY_CONNECTED: (3, 12),
    schema.BuiltinOperator.CONV_2D: (2, 5),
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: (4, 6),
    schema.BuiltinOperator.EMBEDDING_LOOKUP: (1, 4),
    schema.BuiltinOperator.DEQUANTIZE: (2, 5),
}


def _raise_versions(model: Any) -> None:
    """Set the op versions that are needed, so that older runtimes refuse the file.

    litert-quantizer keeps the versions of the float ops. An old TensorFlow Lite would then use the
    first of several scales for all channels and give wrong outputs.
    """
    (graph,) = model.subgraphs
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        if code.builtinCode not in INT8_VERSIONS:
            continue
        # DEQUANTIZE has only one input.
        weights = graph.tensors[op.inputs[:2][-1]]
        one, several = INT8_VERSIONS[code.builtinCode]
        scales = 0 if weights.quantization is None else np.size(weights.quantization.scale)
        if weights.type == schema.TensorType.INT4 or scales > 1:
            code.version = max(code.version, several)
        elif weights.type == schema.TensorType.INT8:
            code.version = max(code.version, one)


def _is_clustered(model: Any, op: Any) -> bool:
    """Whether a weight of the op has few distinct values."""
    for tensor in (model.subgraphs[0].tensors[i] for i in op.inputs if i >= 0):
        data = model.buffers[tensor.buffer].data
        if tensor.type == schema.TensorType.FLOAT32 and data is not None and len(tensor.shape) > 1:
            values = np.frombuffer(bytes(data), np.float32)
            if len(values) > 16 * CLUSTERED and len(np.unique(values)) <= CLUSTERED:
                return True
    return False


def _with_lookups(content: bytes) -> bytes:
    """Read embedding tables by EMBEDDING_LOOKUP, which has kernels for quantized tables.

    GATHER from a quantized table returns quantized rows, which only a full-integer graph can use.
    """
    model = parsed(content)
    (graph,) = model.subgraphs
    codes = [code.builtinCode for code in model.operatorCodes]

    def operator(code: int, inputs: list[int], output: int) -> Any:
        if code not in codes:
            codes.append(code)
            entry = schema.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, code, 1
            model.operatorCodes.append(entry)
        op = schema.OperatorT()
        op.opcodeIndex = codes.index(code)
        op.inputs, op.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        return op

    def tensor(name: bytes, kind: int, shape: Sequence[int], buffer: int = 0) -> int:
        entry = schema.TensorT()
        entry.name, entry.type, entry.buffer = name, kind, buffer
        entry.shape = np.array(shape, np.int32)
        graph.tensors.append(entry)
        return len(graph.tensors) - 1

    def reshape(source: int, target: int, shape: Sequence[int]) -> Any:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.array(shape, np.int32).tobytes(), np.uint8)
        model.buffers.append(buffer)
        name = graph.tensors[target].name + b"/shape"
        constant = tensor(name, schema.TensorType.INT32, [len(shape)], len(model.buffers) - 1)
        op = operator(schema.BuiltinOperator.RESHAPE, [source, constant], target)
        op.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
        op.builtinOptions = schema.ReshapeOptionsT()
        op.builtinOptions.newShape = np.array(shape, np.int32)
        return op

    operators = []
    for op in graph.operators:
        if codes[op.opcodeIndex] != schema.BuiltinOperator.GATHER:
            operators.append(op)
            continue
        table, ids = (graph.tensors[i] for i in op.inputs)
        rows = graph.tensors[op.outputs[0]]
        if len(table.shape) != 2 or model.buffers[table.buffer].data is None:
            operators.append(op)
            continue
        count = int(np.prod(ids.shape))
        flat = tensor(rows.name + b"/ids", ids.type, [count])
        found = tensor(rows.name + b"/rows", table.type, [count, table.shape[1]])
        operators += [
            reshape(op.inputs[1], flat, [count]),
            operator(schema.BuiltinOperator.EMBEDDING_LOOKUP, [flat, op.inputs[0]], found),
            reshape(found, op.outputs[0], rows.shape.tolist()),
        ]
    graph.operators = operators
    return serialized(model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the quantizer's progress bar and warnings."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
