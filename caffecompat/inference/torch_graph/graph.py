"""The fx graph of a net's lean program, with what its nodes are layers of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import fx, nn

from caffecompat.errors import NetError
from caffecompat.graph import Version
from caffecompat.inference.torch_graph.weighted import Weighted, is_weighted
from caffecompat.layers import Layer, Shape
from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.fx_program import Program
from caffecompat.net.module import LayerModule
from caffecompat.reporting.units import format_shape


class InferenceGraph:
    """A graph that the files beside this one change. The net's own program stays as it is.

    Args:
        net: a net in phase TEST.
        blobs: names of blobs that it returns beside the outputs.
        shapes: of inputs, by name, for which changes are chosen; else those of the definition.

    Attributes:
        feeds: the source tops that the graph takes, in order.
        versions: the blobs that it returns, in order.
        device: where the net's parameters are.
    """

    def __init__(
        self, net: Net, blobs: Sequence[str] = (), shapes: Mapping[str, Shape] | None = None
    ) -> None:
        program = Program(net.layers, returned(net, blobs))
        self.feeds, self.versions = program.feeds, program.versions
        self.device = net.device
        self.module: fx.GraphModule = program.module
        self.graph = self.module.graph
        self._built = {built.module: built for built in net.layers if built.module is not None}
        self._shapes = {
            str(top): shape
            for built in _with_shapes(net, shapes).layers
            for top, shape in zip(built.tops, built.shapes, strict=True)
        }
        self._added = 0

    @property
    def nodes(self) -> Sequence[fx.Node]:
        """A copy of the list of nodes, in the order of execution."""
        return list(self.graph.nodes)

    def module_of(self, node: object) -> nn.Module | None:
        """The module that a node calls; None for nodes of other kinds."""
        if isinstance(node, fx.Node) and node.op == "call_module":
            return self.module.get_submodule(str(node.target))
        return None

    def built(self, node: object) -> BuiltLayer | None:
        """The layer that a node runs as the definition has it; None for changed ones."""
        module = self.module_of(node)
        return self._built.get(module) if isinstance(module, LayerModule) else None

    def layer(self, node: object) -> Layer | None:
        """The layer of :meth:`built`."""
        built = self.built(node)
        return built.layer if built is not None else None

    def weighted(self, node: object) -> Weighted | None:
        """A node's convolution or inner product of one bottom; None for nodes of other kinds."""
        module = self.module_of(node)
        if isinstance(module, Weighted):
            return module
        built = self.built(node)
        return Weighted(built) if built is not None and is_weighted(built) else None

    def shape(self, node: fx.Node) -> Shape | None:
        """The shape of a node's value with the definition's input sizes; None if it is unknown."""
        blobs = node.meta.get("blobs") or [""]
        return self._shapes.get(blobs[0])

    def set_module(self, node: fx.Node, module: nn.Module) -> None:
        """Makes ``module`` what a node calls."""
        node.op = "call_module"
        node.target = self.add(module)

    def add(self, module: nn.Module) -> str:
        """The target of a new module."""
        self._added += 1
        target = f"optimized_{self._added}"
        self.module.add_submodule(target, module)
        return target

    def bypass(self, node: fx.Node, value: fx.Node) -> None:
        """Removes a node; what read it reads ``value``, which then goes by the node's blobs."""
        node.replace_all_uses_with(value)
        value.meta["blobs"] = node.meta.get("blobs", value.meta.get("blobs"))
        self.graph.erase_node(node)

    def finish(self) -> fx.GraphModule:
        """The module to run, without modules that nothing calls."""
        self.graph.eliminate_dead_code()
        self.graph.lint()
        self.module.delete_all_unused_submodules()
        self.module.recompile()
        return self.module


def _with_shapes(net: Net, shapes: Mapping[str, Shape] | None) -> Net:
    """A net with inputs of these shapes, without values.

    Raises:
        NetError: the weights of ``net`` are not for such inputs.
    """
    if not shapes:
        return net
    changed = dict(net._options.shapes or {}, **shapes)
    options = replace(net._options, shapes=changed, shapes_only=True, state=None)
    made = Net(net.definition, phase="test", options=options)
    own = {name: value.shape for name, value in net.named_parameters()}
    for name, value in made.named_parameters():
        if name in own and own[name] != value.shape:
            given = ", ".join(f"{key} {format_shape(shape)}" for key, shape in shapes.items())
            raise NetError(
                f"shapes: the net's weights are not for inputs {given}: {name} is "
                f"{format_shape(own[name])} and would be {format_shape(value.shape)}; give shapes "
                "that the net can run with"
            )
    return made


def returned(net: Net, blobs: Sequence[str]) -> list[Version]:
    """The outputs of a net, and the last versions of further blobs.

    Raises:
        BlobError: there is no such blob.
    """
    last = {top.blob: top for built in net.layers for top in built.tops}
    for name in blobs:
        net.blobs[name]
    return [last[name] for name in dict.fromkeys([*net.outputs, *blobs])]


class OptimizedProgram:
    """A finished graph; see :class:`caffecompat.net.execution.inference.InferenceProgram`."""

    def __init__(self, graph: InferenceGraph) -> None:
        self.feeds: list[Version] = graph.feeds
        self.versions: list[Version] = graph.versions
        self.module = graph.finish()

    def __call__(
        self, feeds: Sequence[torch.Tensor]
    ) -> tuple[dict[Version, torch.Tensor], torch.Tensor | None]:
        with torch.no_grad():
            values, loss = self.module(*feeds)
        return dict(zip(self.versions, values, strict=True)), loss
