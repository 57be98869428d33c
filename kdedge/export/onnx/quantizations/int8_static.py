"""The quantization int8-static: int8 weights and activations, in QDQ form."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime.quantization as ort_quantization

from kdedge.export.onnx.convert import INPUTS
from kdedge.export.onnx.quantize import OnnxQuantization, with_int8_embeddings
from kdedge.text.encoder import Encoded

MULTIPLYING = ["MatMul", "Gemm", "Conv"]


def int8_static(source: Path, target: Path, spared: list[str], calibration: Encoded) -> None:
    """Int8 weights and activations, with ranges from calibration data.

    They are pairs of QuantizeLinear and DequantizeLinear nodes (QDQ).
    """
    ort_quantization.quantize_static(
        with_int8_embeddings(source, spared),
        target,
        _Calibration(calibration),
        quant_format=ort_quantization.QuantFormat.QDQ,
        op_types_to_quantize=MULTIPLYING,
        per_channel=True,
        activation_type=ort_quantization.QuantType.QInt8,
        weight_type=ort_quantization.QuantType.QInt8,
        nodes_to_exclude=spared,
    )


class _Calibration(ort_quantization.CalibrationDataReader):
    def __init__(self, encoded: Encoded) -> None:
        arrays = (encoded.ids, encoded.mask, encoded.segment_ids)
        self.rows = iter(
            {
                name: array[i : i + 1].astype(np.int64)
                for name, array in zip(INPUTS, arrays, strict=True)
            }
            for i in range(len(encoded.ids))
        )

    def get_next(self) -> dict[str, Any] | None:
        """The inputs of the next text; None after the last one."""
        return next(self.rows, None)


QUANTIZATION = OnnxQuantization(int8_static, "model_int8.onnx", needs_calibration=True)
