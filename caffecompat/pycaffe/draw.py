"""Drawings of nets by Graphviz: what ``caffe.draw`` is in pycaffe.

Needs pydot (``pip install 'caffecompat[draw]'``) and Graphviz's program ``dot``. ``caffecompat
draw`` draws with shapes and parameter counts and needs no Python library.
"""

from __future__ import annotations

import os
import re
from typing import Any

from caffecompat.errors import CaffeError, FileProblem, needing_extra
from caffecompat.output_files import atomic_write
from caffecompat.pycaffe.proto import caffe_pb2

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": "#6495ED", "style": "filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}

_CONVOLUTIONS = ("Convolution", "Deconvolution")
_POOLING = "Pooling"
_INNER_PRODUCT = "InnerProduct"
_DATA = "Data"
_DEFAULT_RATE = 1.0


class DrawingError(CaffeError, RuntimeError):
    """Graphviz cannot draw a net."""


def get_pooling_types_dict() -> dict[int, str]:
    """The names of the pooling methods by number."""
    return {number: name for name, number in caffe_pb2.PoolingParameter.PoolMethod.items()}


def get_edge_label(layer: Any) -> str:
    """What stands at the edge from a layer to its tops: its outputs, or the size of a batch."""
    if layer.type == _DATA:
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in _CONVOLUTIONS:
        return str(layer.convolution_param.num_output)
    if layer.type == _INNER_PRODUCT:
        return str(layer.inner_product_param.num_output)
    return '""'


def get_layer_lr_mult(layer: Any) -> tuple[float, float]:
    """The learning-rate factors of weight and bias; 1 where none is given or none counts."""
    rates = [_DEFAULT_RATE, _DEFAULT_RATE]
    if layer.type in (*_CONVOLUTIONS, _INNER_PRODUCT):
        for i, param in enumerate(layer.param[:2]):
            rates[i] = param.lr_mult
    return rates[0], rates[1]


def get_layer_label(layer: Any, rankdir: str, display_lrm: bool = False) -> str:
    """The text of a layer's node: its name and type, and the geometry of its kernel.

    Args:
        layer: a LayerParameter.
        rankdir: the direction of the drawing; the lines of the text stand beside each other in one
            from top to bottom or back (TB, BT), else below each other.
        display_lrm: with the learning-rate factor of layers with weights.
    """
    # Graphviz reads backslash and n as the end of a line.
    separator = " " if rankdir in ("TB", "BT") else r"\n"
    parts = [_in_record(layer.name), f"({_in_record(layer.type)})"]
    if layer.type in _CONVOLUTIONS:
        param = layer.convolution_param
        parts += [
            f"kernel size: {_extent(param, 'kernel', 1)}",
            f"stride: {_extent(param, 'stride', 1)}",
            f"pad: {_extent(param, 'pad', 0)}",
        ]
        parts += [f"dilation: {param.dilation[0]}"] if param.dilation else []
    elif layer.type == _POOLING:
        param = layer.pooling_param
        parts[1] = f"({layer.type} {get_pooling_types_dict()[param.pool]})"
        parts += [
            f"kernel size: {_extent(param, 'kernel', 1)}",
            f"stride: {_extent(param, 'stride', 1)}",
            f"pad: {_extent(param, 'pad', 0)}",
        ]
    rates = get_layer_lr_mult(layer)
    if display_lrm and layer.type in (*_CONVOLUTIONS, _INNER_PRODUCT) and any(rates):
        parts.append("lr mult: {:.1f}, {:.1f}".format(*rates))
    return f'"{separator.join(parts)}"'


def _extent(param: Any, name: str, default: int) -> str:
    """An extent of a kernel: one number, or height x width where two are given."""
    height, width = getattr(param, f"{name}_h"), getattr(param, f"{name}_w")
    if height or width:
        return f"{height}x{width}"
    plain = getattr(param, "kernel_size" if name == "kernel" else name)
    values = [plain] if isinstance(plain, int) else list(plain) or [default]
    return "x".join(str(value) for value in dict.fromkeys(values))


def choose_color_by_layertype(layertype: str) -> str:
    """The colour of layers of a type: convolutions, pooling, inner products, others."""
    if layertype in _CONVOLUTIONS:
        return "#FF5050"
    if layertype == _POOLING:
        return "#FF9900"
    if layertype == _INNER_PRODUCT:
        return "#CC33FF"
    return LAYER_STYLE_DEFAULT["fillcolor"]


def get_pydot_graph(
    caffe_net: Any,
    rankdir: str,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> Any:
    """The graph of a net: a node for each layer and blob, an edge for each bottom and top.

    Args:
        caffe_net: a NetParameter.
        rankdir: direction of the drawing: LR, RL, TB or BT.
        label_edges: outputs of layers stand at their edges.
        phase: ``caffe_pb2.TRAIN`` or ``TEST``, for the layers of that phase; None for all.
        display_lrm: layers show the learning-rate factor of their weights.

    Returns:
        a ``pydot.Dot``.

    Raises:
        MissingExtra: pydot is not installed.
    """
    pydot = _pydot()
    graph = pydot.Dot(_quoted(caffe_net.name or "Net"), graph_type="digraph", rankdir=rankdir)
    nodes: dict[str, Any] = {}
    edges = []
    for layer in caffe_net.layer:
        if not _is_included(layer, phase):
            continue
        node = f"{layer.name}_{layer.type}"
        neuron = list(layer.bottom) == list(layer.top) and len(layer.top) == 1
        style = dict(NEURON_LAYER_STYLE if neuron else LAYER_STYLE_DEFAULT)
        if not neuron:
            style["fillcolor"] = choose_color_by_layertype(layer.type)
        label = get_layer_label(layer, rankdir, display_lrm=display_lrm)
        nodes[node] = pydot.Node(_quoted(node), label=label, **style)
        for bottom in layer.bottom:
            nodes[f"{bottom}_blob"] = _blob_node(pydot, bottom)
            edges.append((f"{bottom}_blob", node, '""'))
        for top in layer.top:
            nodes[f"{top}_blob"] = _blob_node(pydot, top)
            edges.append((node, f"{top}_blob", get_edge_label(layer) if label_edges else '""'))
    for node in nodes.values():
        graph.add_node(node)
    for source, target, label in edges:
        graph.add_edge(pydot.Edge(nodes[source], nodes[target], label=label))
    return graph


def draw_net(
    caffe_net: Any,
    rankdir: str,
    ext: str = "png",
    phase: int | None = None,
    display_lrm: bool = False,
) -> bytes:
    """A net drawn by Graphviz, as bytes of a file of the kind ``ext``: png, svg, pdf, ...

    Raises:
        MissingExtra: pydot is not installed.
        DrawingError: Graphviz is not installed, does not write files of that kind, or fails.
    """
    graph = get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm)
    try:
        drawn: bytes = graph.create(format=ext)
    except FileNotFoundError as error:
        raise DrawingError(
            "drawing needs Graphviz, whose program dot is not on the PATH; install the package "
            "graphviz of your system"
        ) from error
    except (OSError, AssertionError) as error:
        raise DrawingError(
            f"Graphviz cannot draw the net as {ext!r}: {error}; formats are png, svg, pdf, ..."
        ) from error
    return drawn


def draw_net_to_file(
    caffe_net: Any,
    filename: str | os.PathLike[str],
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Draws a net into a file; its suffix (.png, .svg, .pdf, ...) says of what kind.

    Raises:
        MissingExtra, DrawingError: see :func:`draw_net`.
        FileProblem: the name has no suffix, or the file cannot be written.
    """
    kind = os.path.splitext(os.fspath(filename))[1].lstrip(".")
    if not kind:
        raise FileProblem(f"{filename}: the name needs a suffix, such as .png or .svg")
    drawn = draw_net(caffe_net, rankdir, kind, phase, display_lrm)
    with atomic_write(filename) as file:
        file.write(drawn)


def _is_included(layer: Any, phase: int | None) -> bool:
    """Whether the include and exclude rules of a layer allow a phase."""
    if phase is None:
        return True
    included = [rule.phase == phase for rule in layer.include if rule.HasField("phase")]
    excluded = [rule.phase == phase for rule in layer.exclude if rule.HasField("phase")]
    return (any(included) or not included) and not any(excluded)


def _blob_node(pydot: Any, name: str) -> Any:
    return pydot.Node(_quoted(f"{name}_blob"), label=_quoted(name), **BLOB_STYLE)


def _quoted(name: str) -> str:
    """A name as Graphviz reads it whatever characters it has."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _in_record(name: str) -> str:
    """A name for the label of a record, in which some characters divide it into fields."""
    return re.sub(r'([\\"{}|<>])', r"\\\1", name)


def _pydot() -> Any:
    with needing_extra("caffe.draw", "draw"):
        import pydot
    return pydot
