"""ONNX files of others: what is safe to pass on to a program that runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import ExportError, FormatError, first_line
from caffecompat.export.onnx_graph.file import MAX_BYTES, import_onnx
from caffecompat.input_files import ClaimedBytes, read_input
from caffecompat.proto.binary.claimed_messages import count_messages

# Shapes depend on the values of smaller weights at most.
SMALL_WEIGHT = 1024
FLOAT_BYTES = 4

STANDARD_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


def read_onnx(path: Path, max_bytes: int | None = None) -> Any:
    """The ModelProto of a file that keeps its weights and needs no code of its own.

    Raises:
        FileProblem: it is unreadable.
        FormatError: it is no ONNX file, or claims more than ``max_bytes``.
        ExportError: its weights are in other files, or its operators are not those of ONNX.
    """
    onnx = import_onnx()
    data = read_input(path, MAX_BYTES if max_bytes is None else max_bytes)
    # An empty node is two bytes in the file and a hundred in memory.
    count_messages(data, onnx.ModelProto.DESCRIPTOR, ClaimedBytes(path, len(data), max_bytes))
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf has an exception of its own for each implementation
        raise FormatError(f"{path}: is no ONNX file: {first_line(error)}") from error
    if not model.HasField("graph") or not model.ir_version:
        raise FormatError(f"{path}: is no ONNX file: it has no graph")
    _check(model, path)
    return model


def _check(model: Any, path: Path) -> None:
    domains = [opset.domain for opset in model.opset_import]
    foreign = [domain for domain in domains if domain not in STANDARD_DOMAINS]
    if foreign:
        raise ExportError(
            f"{path}: has operators of {foreign[0]!r}, which come with code of their own and are "
            "not run"
        )
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    if any(uses_external_data(tensor) for tensor in _get_all_tensors(model)):
        raise ExportError(
            f"{path}: its weights are in other files, which are not read; save it with its weights "
            "inside (onnx.save of onnx.load)"
        )


def input_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs; 0 for extents that may have any size."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: tuple(
            d.dim_value if d.HasField("dim_value") else 0 for d in value.type.tensor_type.shape.dim
        )
        for value in model.graph.input
        if value.name not in weights
    }


def region_inputs(model: Any) -> frozenset[str]:
    """The inputs that hold regions of images."""
    read = {n.input[1] for n in model.graph.node if n.op_type == "MaxRoiPool" and len(n.input) > 1}
    return frozenset(read & set(input_shapes(model)))


def preprocessing_inside(model: Any, path: Path) -> Preprocessing | None:
    """The preprocessing that the graph does itself, if this package wrote it so."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if "preprocessing_in_graph" not in metadata or "preprocessing" not in metadata:
        return None
    return Preprocessing.from_json(metadata["preprocessing"], str(path))


def with_all_values(model: Any) -> tuple[Any, list[str]]:
    """The model with every float value as an output, and their names in order of execution.

    Raises:
        ExportError: the shapes in the model contradict each other.
    """
    import onnx

    inferred = _infer(model)
    types = {value.name: value for value in inferred.graph.value_info}
    outputs = {value.name for value in inferred.graph.output}
    names = []
    for node in inferred.graph.node:
        for name in node.output:
            info = types.get(name)
            if name in outputs:
                names.append(name)
            elif info is not None and info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
                inferred.graph.output.append(info)
                names.append(name)
    return inferred, names


def value_bytes(model: Any, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The sizes of float values, as far as the shapes of the inputs tell them.

    Args:
        shapes: those of all inputs.

    Raises:
        ExportError: the shapes in the model contradict each other.
    """
    inferred = _infer(_without_weights(model, shapes))
    found = {}
    for value in inferred.graph.value_info:
        extents = value.type.tensor_type.shape.dim
        if all(extent.HasField("dim_value") for extent in extents):
            found[value.name] = FLOAT_BYTES * prod(extent.dim_value for extent in extents)
    return found


def grouped(names: Sequence[str], sizes: Mapping[str, int], most_bytes: int) -> Iterator[list[str]]:
    """The names in order, in groups of at most ``most_bytes``, or of one; unknown sizes are 0."""
    group: list[str] = []
    total = 0
    for name in names:
        size = sizes.get(name, 0)
        if group and total + size > most_bytes:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    if group:
        yield group


def _without_weights(model: Any, shapes: Mapping[str, Sequence[int]]) -> Any:
    """The model with the shapes of its large weights only, and inputs of other shapes."""
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.output.extend(model.graph.output)
    for value in model.graph.input:
        type_ = value.type.tensor_type.elem_type
        shape = shapes.get(value.name)
        if shape is not None:
            value = onnx.helper.make_tensor_value_info(value.name, type_, shape)
        graph.input.append(value)
    for tensor in model.graph.initializer:
        if prod(tensor.dims) <= SMALL_WEIGHT:
            graph.initializer.append(tensor)
        else:
            graph.value_info.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return light


def _infer(model: Any) -> Any:
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise ExportError(f"the model's shapes cannot be inferred: {first_line(error)}") from error
