"""ONNX files.

The weights are written one after the other from the arrays that they are, so that a big model
is in memory once. The protobuf library would need two more copies. What the file contains besides
is made by onnx itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import caffecompat
from caffecompat.errors import ExportError, needing_extra
from caffecompat.export.onnx_graph.graph import Attribute, OnnxGraph, Value
from caffecompat.output_files import atomic_write

# Operators as torch writes them by default; programs of 2024 and later know them.
OPSET = 20
IR_VERSION = 9

# protobuf refuses larger messages.
MAX_BYTES = 2**31 - 1

# Field numbers and wire types of onnx.proto.
GRAPH_TAG = b"\x3a"  # ModelProto.graph
INITIALIZER_TAG = b"\x2a"  # GraphProto.initializer
RAW_DATA_TAG = b"\x4a"  # TensorProto.raw_data

CHUNK_BYTES = 16 << 20

# Names of extents that the user chooses.
INPUT_EXTENTS = {0: "batch", 2: "height", 3: "width"}

TYPES = {"float32": 1, "int64": 7, "float64": 11}


def import_onnx() -> Any:
    """The module onnx.

    Raises:
        MissingExtra: it is not installed.
    """
    with needing_extra("ONNX", "onnx"):
        import onnx
    return onnx


def write_onnx(graph: OnnxGraph, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes a model file atomically.

    Args:
        metadata: becomes ``metadata_props``.

    Raises:
        ExportError: it would be larger than protobuf allows.
        FileProblem: the file cannot be written.
        MissingExtra: onnx is not installed.
    """
    pieces = list(_graph_pieces(graph))
    length = sum(len(piece) for piece in pieces)
    head = _model(metadata).SerializeToString()
    if len(head) + length + 16 > MAX_BYTES:
        raise ExportError(
            f"{path}: the model has {length:,} bytes, ONNX files hold {MAX_BYTES:,}; write it as "
            ".safetensors or .pt2"
        )
    with atomic_write(path) as file:
        file.write(head)
        file.write(GRAPH_TAG + _varint(length))
        for piece in pieces:
            for start in range(0, len(piece), CHUNK_BYTES):
                file.write(piece[start : start + CHUNK_BYTES])


def _graph_pieces(graph: OnnxGraph) -> Iterator[memoryview]:
    """The bytes of a GraphProto; those of the weights are not copied."""
    yield memoryview(_graph_without_weights(graph).SerializeToString())
    onnx = import_onnx()
    for name, array in graph.weights.items():
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        tensor = onnx.TensorProto(
            name=name, dims=array.shape, data_type=TYPES[array.dtype.newbyteorder("=").name]
        ).SerializeToString()
        raw = RAW_DATA_TAG + _varint(plain.nbytes)
        length = _varint(len(tensor) + len(raw) + plain.nbytes)
        yield memoryview(INITIALIZER_TAG + length + tensor + raw)
        yield memoryview(plain.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


def _model(metadata: Mapping[str, str]) -> Any:
    """The ModelProto without its graph."""
    onnx = import_onnx()
    model = onnx.ModelProto(
        ir_version=IR_VERSION,
        producer_name="caffecompat",
        producer_version=caffecompat.__version__,
        opset_import=[onnx.helper.make_opsetid("", OPSET)],
    )
    onnx.helper.set_model_props(model, dict(metadata))
    return model


def _graph_without_weights(graph: OnnxGraph) -> Any:
    onnx = import_onnx()
    made = onnx.GraphProto(name=graph.name)
    for node in graph.nodes:
        entry = made.node.add(op_type=node.operator, name=node.name, doc_string=node.description)
        entry.input.extend(node.inputs)
        entry.output.extend(node.outputs)
        for name, value in node.attributes.items():
            entry.attribute.append(onnx.helper.make_attribute(name, _plain(value)))
    names: dict[tuple[int, ...], str] = {}
    made.input.extend(_value_info(onnx, value, names, INPUT_EXTENTS) for value in graph.inputs)
    made.output.extend(_value_info(onnx, value, names, {}) for value in graph.outputs)
    return made


def _plain(value: Attribute) -> Any:
    return value if isinstance(value, (int, float, str)) else list(value)


def _value_info(
    onnx: Any, value: Value, names: dict[tuple[int, ...], str], usual: Mapping[int, str]
) -> Any:
    """Name, type and shape; an extent that depends on the inputs is a name instead of a number.

    Args:
        names: the names of such extents so far; those that always agree have one name.
        usual: names for the first such extent along an axis.
    """
    extents: list[str | int] = []
    for axis, extent in enumerate(value.shape):
        if not value.varies(axis):
            extents.append(extent)
            continue
        plain = usual.get(axis)
        name = f"{value.name} {axis}" if plain is None or plain in names.values() else plain
        extents.append(names.setdefault(value.extents(axis), name))
    return onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, extents)


def _varint(number: int) -> bytes:
    out = bytearray()
    while True:
        low, number = number & 0x7F, number >> 7
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)
