"""A net as a ``torch.fx`` graph over its layer modules.

There are two programs over the same modules: the *lean* one returns net outputs and the loss, the
*observed* one every blob and the loss. ``node.meta`` has the origin of a node: ``layer``, ``blobs``
and ``place`` (file and line of the prototxt).

fx generates Python code from a graph and does not escape names. Module targets and placeholders
are therefore identifiers that :class:`_Identifiers` makes; the names of the prototxt are in
``node.meta`` only.
"""

from __future__ import annotations

import operator
import re
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from caffecompat.graph import Version
from caffecompat.net.built_layer import BuiltLayer

# An optimization of inductor (torch 2.13) may move the use of a gradient before the scatter that
# fills it, after max pooling: the layers before the pooling then learn nothing, without an error.
_KEPT_IN_ORDER = {"reorder_for_peak_memory": False}

# How inductor's advice begins.
TF32_ADVICE = "TensorFloat32 tensor cores"

_LONGEST_IDENTIFIER = 60


class Program:
    """An executable graph from source tops to ``versions`` and the loss.

    Args:
        layers: those that it runs.
        versions: the blobs that it returns; None for all.
        feeds: the values that it takes, where ``layers`` are not all of a net; by default the
            source tops.

    Attributes:
        feeds: the values that it takes, in order.
        versions: the blobs that it returns, in order.
        module: the GraphModule; returns ``(tuple of values, loss or None)``.
    """

    def __init__(
        self,
        layers: Sequence[BuiltLayer],
        versions: Sequence[Version] | None,
        feeds: Sequence[Version] | None = None,
    ) -> None:
        sources = [top for b in layers if b.source is not None for top in b.tops]
        self.feeds = sources if feeds is None else list(feeds)
        graph = fx.Graph()
        targets = _module_targets(layers)
        values = _emit(graph, layers, targets, self.feeds)
        self.versions = list(values) if versions is None else list(versions)
        loss = _emit_loss(graph, layers, values)
        graph.output((tuple(values[v] for v in self.versions), loss))
        graph.lint()
        modules = {targets[b.key]: b.module for b in layers if b.module is not None}
        self.module = fx.GraphModule(modules, graph)
        # A strong reference back would keep the parameters of a dropped net until Python looks
        # for cycles, which it may not do for long.
        graph.owning_module = weakref.proxy(self.module)  # type: ignore[assignment]
        self._run: Callable[..., Any] = self.module

    def compile(self, backend: Any = "inductor", mode: str | None = None, **options: Any) -> None:
        """Compiles the program with ``torch.compile``, which gets all arguments."""
        from caffecompat.net.execution.compiled_pooling import keep_poolings_whole

        keep_poolings_whole(self.module)
        if backend != "inductor":
            self._run = torch.compile(self.module, backend=backend, mode=mode, **options)
            return
        from torch._inductor import list_mode_options

        # It recommends TF32, which this package switches off on purpose. Compilation may happen in
        # any later pass and thread.
        warnings.filterwarnings("ignore", TF32_ADVICE, UserWarning, r"torch\._inductor")

        # torch takes either a mode or options; a mode is a set of options.
        chosen = list_mode_options(mode) if mode else {}
        chosen = {**_KEPT_IN_ORDER, **chosen, **options.pop("options", {})}
        self._run = torch.compile(self.module, backend=backend, options=chosen, **options)

    def __call__(
        self, feeds: Sequence[torch.Tensor]
    ) -> tuple[dict[Version, torch.Tensor], torch.Tensor | None]:
        values, loss = self._run(*feeds)
        return dict(zip(self.versions, values, strict=True)), loss


def _module_targets(layers: Sequence[BuiltLayer]) -> dict[str, str]:
    """The target of each layer's module in the graph, by the layer's key."""
    identifiers = _Identifiers("layer")
    return {b.key: identifiers.make(b.name) for b in layers if b.module is not None}


def _emit(
    graph: fx.Graph,
    layers: Sequence[BuiltLayer],
    targets: dict[str, str],
    feeds: Sequence[Version],
) -> dict[Version, fx.Node]:
    values: dict[Version, fx.Node] = {}
    inputs = _Identifiers("input")
    makers = {top: built for built in layers for top in built.tops}
    for feed in feeds:
        values[feed] = graph.placeholder(inputs.make(str(feed)))
        if feed in makers:
            _described(values[feed], makers[feed], [feed])
    for built in layers:
        if built.node.automatic:
            for top in built.tops:
                values[top] = values[built.bottoms[0]]
        elif built.module is not None:
            _emit_layer(graph, built, targets[built.key], values)
    return values


def _emit_layer(
    graph: fx.Graph, built: BuiltLayer, target: str, values: dict[Version, fx.Node]
) -> None:
    arguments = [values[bottom] for bottom in built.bottoms]
    for i, blocked in enumerate(built.blocked):
        if blocked:
            arguments[i] = _described(graph.call_method("detach", (arguments[i],)), built, [])
    node = _described(graph.call_module(target, tuple(arguments)), built, built.tops)
    if len(built.tops) == 1:
        values[built.tops[0]] = node
        return
    for i, top in enumerate(built.tops):
        part = graph.call_function(operator.getitem, (node, i))
        values[top] = _described(part, built, [top])


def _emit_loss(
    graph: fx.Graph, layers: Sequence[BuiltLayer], values: dict[Version, fx.Node]
) -> fx.Node | None:
    """The sum over all blobs with a loss weight of weight times the sum of the elements.

    A top that other layers read gets its gradient from them alone: Caffe's backward pass
    overwrites the loss weight, which is stored in the same memory.
    """
    total: fx.Node | None = None
    for built in layers:
        for top, shape, weight, read in zip(
            built.tops, built.shapes, built.loss_weights, built.read, strict=True
        ):
            if weight == 0:
                continue
            term = values[top]
            if read:
                term = graph.call_method("detach", (term,))
            if shape:
                term = graph.call_method("sum", (term,))
            if weight != 1:
                term = graph.call_function(operator.mul, (term, weight))
            total = term if total is None else graph.call_function(operator.add, (total, term))
            _described(total, built, [])
    return total


def _described(node: fx.Node, built: BuiltLayer, blobs: Sequence[Version]) -> fx.Node:
    node.meta["layer"] = built.name
    node.meta["blobs"] = [str(blob) for blob in blobs]
    node.meta["place"] = built.place
    node.meta["location"] = built.node.location
    return node


class _Identifiers:
    """Distinct Python identifiers for names with arbitrary characters.

    Each is ``kind``, an underscore, and the ASCII letters and digits of the name, joined by single
    underscores; it is never a keyword or a name of torch.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._counts: dict[str, int] = {}

    def make(self, name: str) -> str:
        plain = re.sub(r"[^0-9A-Za-z]+", "_", name)[:_LONGEST_IDENTIFIER]
        identifier = f"{self._kind}_{plain}"
        used = self._counts.get(identifier, 0)
        self._counts[identifier] = used + 1
        # No identifier has two underscores in a row here, so that numbered ones are distinct.
        return f"{identifier}__{used}" if used else identifier
