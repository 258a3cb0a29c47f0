"""The ONNX file of a net, which lasts as long as an engine needs it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from caffecompat.errors import ExportError
from caffecompat.export.model import CaffeModel
from caffecompat.export.onnx_graph.build import build_onnx_graph, unknown_layers
from caffecompat.export.onnx_graph.file import import_onnx, write_onnx
from caffecompat.export.onnx_graph.graph import OnnxGraph, Value
from caffecompat.export.onnx_graph.rewriting.changes import Changes, rewrite
from caffecompat.export.passes.fold_batch_norm import fold_batch_norm
from caffecompat.export.value_names import value_names
from caffecompat.graph import Version
from caffecompat.inference.onnx_model.parts import takes_single_rows
from caffecompat.layers import Shape
from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.definition import Definition

# Operators with as many results as they find.
_COUNTING = {"NonMaxSuppression", "NonZero"}


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file of a net.

    Attributes:
        path: the file, in a folder that goes with the context.
        inputs: the names of its inputs, in the order of the program's feeds.
        outputs: the names of its outputs, in the order of ``versions``.
        feeds, versions: the source tops and the outputs of the net.
        extents: those of each input; along an axis of free size, what tells it from other sizes.
        single_rows: whether rows one by one are faster than a batch in a few parts.
        bindable: whether passes over inputs of the same sizes can write the outputs to the same
            memory: they have always the same sizes, and none is an input, which is not written.
        note: what was changed in the graph; empty for nothing.
    """

    path: Path
    inputs: list[str]
    outputs: list[str]
    feeds: list[Version]
    versions: list[Version]
    extents: list[tuple[int | tuple[int, ...], ...]]
    single_rows: bool = False
    bindable: bool = True
    note: str = ""

    def takes(self, shapes: Iterable[Shape]) -> bool:
        """Whether the graph is written for inputs of these shapes, in their order.

        Free sizes that have one name in the file, as the batch of two inputs, must be equal: ONNX
        Runtime gives values with such sizes the same memory.
        """
        sizes: dict[int | tuple[int, ...], int] = {}
        return all(
            len(shape) == len(extents)
            and all(
                found == (wanted if isinstance(wanted, int) else sizes.setdefault(wanted, found))
                for wanted, found in zip(extents, shape, strict=True)
            )
            for shape, extents in zip(shapes, self.extents, strict=True)
        )


def reason_against(net: Net, blobs: Sequence[str], precision: str) -> str:
    """Why ONNX cannot hold a net in a precision; empty if it can."""
    if not net.outputs:
        return "it has no outputs"
    unknown = unknown_layers(net)
    if unknown:
        return f"ONNX has no operators for {_named(unknown)}"
    stateful = [b for b in net.layers if b.layer is not None and b.layer.keeps_state]
    if stateful:
        return f"state passes from pass to pass in {_named(stateful)}"
    places = [b for b in net.layers if b.layer is not None and b.layer.reads_coordinates]
    if places and precision != "fp32":
        return f"{precision} would move the regions of {_named(places)}"
    extra = [name for name in blobs if name not in net.outputs]
    if extra:
        return f"the blob {extra[0]!r}, which is read after each pass, is no output"
    return ""


def _named(layers: Sequence[BuiltLayer]) -> str:
    return ", ".join(f"layer {b.name!r} ({b.type})" for b in layers)


@contextmanager
def onnx_model(
    net: Net, folded: bool = False, changes: Changes | None = None
) -> Iterator[OnnxModel]:
    """Context with the ONNX file of a net on the CPU.

    Args:
        folded: fold BatchNorm and Scale into the layers before them.
        changes: of the graph, for operators that the program is faster at.

    Raises:
        ExportError: ONNX cannot hold the net.
        MissingExtra: onnx is not installed.
    """
    import_onnx()
    program = net.program()
    source = _folded(net) if folded else net
    graph, _ = build_onnx_graph(source)
    names = value_names(source)
    note = rewrite(graph, _shapes(source), changes) if changes else ""
    last = {top.blob: top for built in source.layers for top in built.tops}
    outputs = [names[last[version.blob]] for version in program.versions]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.onnx")
        write_onnx(graph, path, {})
        inputs = [feed.blob for feed in program.feeds]
        found = {value.name: _extents(value) for value in graph.inputs}
        if not set(inputs) <= set(found):
            raise ExportError(f"the ONNX graph has the inputs {', '.join(sorted(found))}")
        yield OnnxModel(
            *(path, inputs, outputs, list(program.feeds), list(program.versions)),
            *([found[name] for name in inputs], takes_single_rows(net)),
            *(_are_bindable(graph, inputs, outputs), note),
        )


def _are_bindable(graph: OnnxGraph, inputs: Sequence[str], outputs: Sequence[str]) -> bool:
    counts = any(node.operator in _COUNTING for node in graph.nodes)
    return not counts and set(inputs).isdisjoint(outputs)


def _extents(value: Value) -> tuple[int | tuple[int, ...], ...]:
    return tuple(
        value.extents(axis) if value.varies(axis) else extent
        for axis, extent in enumerate(value.shape)
    )


def _shapes(net: Net) -> dict[str, Shape]:
    """The shapes of the graph's values, with the input sizes of the definition."""
    names = value_names(net)
    return {
        names[top]: shape
        for built in net.layers
        for top, shape in zip(built.tops, built.shapes, strict=True)
    }


def _folded(net: Net) -> Net:
    definition = Definition(net.definition, dialect=net.dialect)
    return fold_batch_norm(CaffeModel(definition, net.to_weights())).net()
