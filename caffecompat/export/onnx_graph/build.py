"""An ONNX graph from a net, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import ExportError
from caffecompat.export.fork_settings import redefined_by, unwritten_settings, writer_name
from caffecompat.export.inputs.input_sizes import Freedom, Sizes, possible_sizes
from caffecompat.export.model import CaffeModel
from caffecompat.export.onnx_graph.graph import OnnxGraph, Value
from caffecompat.export.onnx_graph.layer import FixedSizesNeeded, OnnxLayer, writers
from caffecompat.export.outputs import without_layers
from caffecompat.export.value_names import is_same, value_names
from caffecompat.graph import Version
from caffecompat.layers.silence import Silence
from caffecompat.net import Net
from caffecompat.net.module import LayerModule
from caffecompat.net.setup.build import BuiltLayer
from caffecompat.reporting.units import format_shape

# Fields of forks in BVLC Caffe's layer types that the writers know.
KNOWN_FORK_FIELDS = (
    "relu_param.relu6",
    "dropout_param.scale_train",
    "dropout_param.sample_weights_test",
    "reshape_param.pixelshuffler",
    "inner_product_param.normalize",
    *(f"pooling_param.{name}_list" for name in ("kernel_size", "stride", "pad")),
    "pooling_param.dilation",
    *(f"convolution_param.pad_{side}" for side in "lrtb"),
    "pooling_param.ceil_mode",
    "pooling_param.pool: AVE_EXC_PAD",
    "pooling_param.pool: AVE_TF",
    *(f"pooling_param.pad_{side}" for side in "lrtb"),
)

# What layers do that no operators of ONNX do, by their writers' names.
_BY_COLOUR = "blurs along the colours of each image, in a lattice made of them"
_DRAWS = "draws random examples for training"
REASONS = {
    "MultiStageMeanfield": _BY_COLOUR,
    "MULTI_STAGE_MEANFIELD": _BY_COLOUR,
    "AnchorTargetLayer": _DRAWS,
    "ProposalTargetLayer": _DRAWS,
    "ProposalTarget": _DRAWS,
    "MarginInnerProduct": "has a margin for training, which depends on labels and iteration",
    "Filter": "selects any number of items of the batch",
    "HDF5Output": "writes a file",
    "Python": "runs Python code",
}


def unknown_layers(net: Net) -> list[BuiltLayer]:
    """The layers whose type ONNX export does not know."""
    return [
        built
        for built in net.layers
        if built.module is not None
        and not is_same(built)
        and not isinstance(built.layer, Silence)
        and (writer_name(built) not in writers or _unwritten(built))
    ]


def _unwritten(built: BuiltLayer) -> str:
    """The fields of forks in a layer that its writer would miss."""
    return "" if redefined_by(built) else unwritten_settings(built, KNOWN_FORK_FIELDS)


def build_onnx_graph(
    net: Net, fold: Preprocessing | None = None, program: str = ""
) -> tuple[OnnxGraph, Freedom]:
    """The graph of a net in phase TEST, and the input sizes that it takes.

    Batch, height and width of the inputs are free where net and operators allow it.

    Args:
        net: a net with its weights, on the CPU; the graph's weights are views of them.
        fold: preprocessing that becomes part of the graph, whose input is then RGB from 0 to 1.
        program: the program that will read the file ("opencv5"), or "" for any.

    Raises:
        ExportError: a layer has no operators in ONNX.
    """
    phase = net.phase.lower()
    shapes_only = Net(net.definition, phase=phase, shapes_only=True, dialect=net.dialect)
    for freedom in Freedom:
        sizes = possible_sizes(shapes_only, freedom)
        if sizes is None:
            continue
        try:
            return _Walk(net, sizes, fold, program).graph, freedom
        except FixedSizesNeeded:
            continue
    raise AssertionError("no freedom needs no fixed sizes")


class _Walk:
    """The net's layers in order, each written by the function of its type."""

    def __init__(self, net: Net, sizes: Sizes, fold: Preprocessing | None, program: str) -> None:
        self._program = program
        self.graph = OnnxGraph(net.name or "net")
        self._sizes = sizes
        self._values: dict[Version, Value] = {}
        self._weights: dict[tuple[int, tuple[int, ...]], str] = {}
        self._names = value_names(net)
        for name in self._names.values():
            self.graph.new_value(name)
        for built in net.layers:
            self._add(built)
        self._add_outputs(net)
        if fold is not None:
            fold_preprocessing(self.graph, fold)

    def _add(self, built: BuiltLayer) -> None:
        if built.node.automatic or is_same(built):
            for top in built.tops:
                self._values[top] = self._values[built.bottoms[0]]
            return
        if not isinstance(built.layer, Silence):
            for top in built.tops:
                self._values[top] = Value(self._names[top], self._sizes.shapes[top])
        if built.source is not None:
            self.graph.inputs += [self._values[top] for top in built.tops]
        elif not isinstance(built.layer, Silence):
            self.graph.layers.append((built.name, built.type))
            if fields := _unwritten(built):
                raise ExportError(f"{built.place}: its settings {fields} have no form in ONNX here")
            writers.find(writer_name(built), built.place)(self._layer(built))

    def _layer(self, built: BuiltLayer) -> OnnxLayer:
        assert built.module is not None
        return OnnxLayer(
            name=built.name,
            layer=built.layer,
            bottoms=tuple(self._values[bottom] for bottom in built.bottoms),
            tops=tuple(self._values[top] for top in built.tops),
            arrays=_arrays(built.module),
            weights=self._weights,
            graph=self.graph,
            program=self._program,
        )

    def _add_outputs(self, net: Net) -> None:
        """Declares the outputs; one that is another blob's value is copied to have its name."""
        last = _last_versions(net)
        for blob in net.outputs:
            value = self._values[last[blob]]
            name = self._names[last[blob]]
            if value.name != name:
                self.graph.add_node("Identity", [value.name], [name], f"output {blob}", {})
            self.graph.outputs.append(Value(name, value.shapes))


def _arrays(module: LayerModule) -> dict[str, np.ndarray]:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = {spec.name: spec.shape for spec in module.layer.specs}
    return {name: tensors[name].detach().numpy().reshape(shape) for name, shape in shapes.items()}


def _last_versions(net: Net) -> dict[str, Version]:
    return {top.blob: top for built in net.layers for top in built.tops}


def fold_preprocessing(graph: OnnxGraph, steps: Preprocessing) -> None:
    """Puts channel order, mean and scale before the first image input.

    The input is then RGB (or gray) from 0 to 1, with its old name.

    Raises:
        ExportError: no input has as many channels as the preprocessing.
    """
    channels = 1 if steps.channel_order == "gray" else 3
    images = [v for v in graph.inputs if len(v.shape) == 4 and v.shape[1] == channels]
    if not images:
        raise ExportError(
            f"preprocessing for {channels} channels ({steps.channel_order}) does not fit the "
            f"inputs {', '.join(f'{v.name!r} {format_shape(v.shape)}' for v in graph.inputs)}"
        )
    image = images[0]
    inner = graph.new_value(f"{image.name}/preprocessed")
    _rename_input(graph, image.name, inner)
    mean = np.asarray(steps.mean, np.float64).reshape(1, -1, 1, 1)
    x, nodes = image.name, list(graph.nodes)
    graph.nodes.clear()
    if steps.channel_order == "BGR":
        order = graph.add_weight("preprocessing/order", np.array([2, 1, 0], np.int64))
        x = _preprocess(graph, "Gather", [x, order], axis=1)
    factor = graph.add_weight(
        "preprocessing/factor", np.array(255 * steps.scale, np.float32).reshape(1, 1, 1, 1)
    )
    x = _preprocess(graph, "Mul", [x, factor])
    shift = graph.add_weight("preprocessing/shift", (-mean * steps.scale).astype(np.float32))
    graph.add_node("Add", [x, shift], [inner], "preprocessing/Add", {})
    graph.nodes.extend(nodes)


def _preprocess(graph: OnnxGraph, operator: str, inputs: Sequence[str], axis: int = -1) -> str:
    output = graph.new_value(f"preprocessing/{operator}")
    attributes = {} if axis < 0 else {"axis": axis}
    graph.add_node(operator, inputs, [output], output, attributes)
    return output


def _rename_input(graph: OnnxGraph, old: str, new: str) -> None:
    for index, node in enumerate(graph.nodes):
        inputs = tuple(new if name == old else name for name in node.inputs)
        graph.nodes[index] = replace(node, inputs=inputs)


def _reasons(unknown: Sequence[BuiltLayer]) -> dict[str, str]:
    return {b.name: REASONS[writer_name(b)] for b in unknown if writer_name(b) in REASONS}


def check_known(model: CaffeModel, net: Net) -> None:
    """Refuses a net with layers that ONNX export does not know.

    Raises:
        ExportError: names them all.
    """
    unknown = unknown_layers(net)
    if unknown:
        raise ExportError(
            f"{model.path or net.name}: ONNX has no operators for "
            f"{without_layers(net, unknown, _reasons(unknown))}"
        )
