"""ONNX models in int8: weights per channel, activations with ranges from a few batches."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from caffecompat.errors import ExportError, MissingExtra, first_line

# OpenVINO 2026 ends the process while it compiles several of them in int8 before a Concat; they
# compute nothing, so that bytes gain little.
_IN_SINGLE_PRECISION = {"Gather"}


def quantize(model: Path, target: Path, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Writes ``model`` with quantized weights and activations (pairs of QDQ operators).

    Args:
        batches: inputs of the model; their ranges of values become those of int8.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        ExportError: it cannot quantize the model.
    """
    try:
        from onnxruntime import quantization
        from onnxruntime.quantization import registry
    except ImportError as error:
        raise MissingExtra("int8", "onnx") from error

    class Batches(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._left, None)
            return None if batch is None else dict(batch)

    try:
        with _quiet():
            prepared = target.with_suffix(".prepared.onnx")
            quantization.quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(target),
                Batches(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                # Without the instructions for it, sums of two products may overflow 16 bits.
                reduce_range=not sums_in_32_bits(),
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=sorted(
                    {*registry.QLinearOpsRegistry, *registry.QDQRegistry} - _IN_SINGLE_PRECISION
                ),
            )
    except Exception as error:  # of nearly every type
        raise ExportError(f"ONNX Runtime cannot quantize the net: {first_line(error)}") from error


def sums_in_32_bits() -> bool:
    """Whether the processor adds products of bytes in 32 bits (VNNI)."""
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(supported and supported())


@contextmanager
def _quiet() -> Iterator[None]:
    """Context without the advice that the quantization writes to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
