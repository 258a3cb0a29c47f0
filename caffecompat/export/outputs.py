"""A net cut down to what some of its blobs need, which become its outputs."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from caffecompat.errors import ExportError, suggestion
from caffecompat.export.free_names import free_name
from caffecompat.export.model import CaffeModel
from caffecompat.export.wiring import Step, Wiring, ancestors, net_of
from caffecompat.graph import Graph, Version, build_graph, net_state
from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.structure import NetStructure
from caffecompat.proto import schema
from caffecompat.proto.input_layers import INPUT
from caffecompat.weights import Weights

ACCURACY = "Accuracy"


def keep_outputs(model: CaffeModel, names: Sequence[str]) -> CaffeModel:
    """The model with only the layers that the blobs ``names`` need.

    A blob that a remaining layer reads is no output of a Caffe net, so that it becomes one through
    a Split layer.

    Args:
        names: blobs of the net in phase TEST; of a blob that layers change in place its last value.

    Raises:
        ExportError: the net has no such blob.
        NetError: the layers of the definition do not fit together.
    """
    definition = model.definition
    state = net_state(definition.message, "test")
    wiring = Wiring(build_graph(definition.message, state, definition.place))
    values = {wiring.name_of(top): top for step in wiring.steps for top in step.tops}
    for name in names:
        if name not in values:
            where = model.path or definition.message.name or "the net"
            raise ExportError(f"{where}: no blob {name!r}{suggestion(name, values)}")
    wanted = [values[name] for name in dict.fromkeys(names)]
    count = len(wiring.steps)
    producers = {top: step for step in wiring.steps for top in step.tops}
    needed = ancestors(wanted, producers)
    wiring.steps = [step for step in wiring.steps if needed.intersection(step.tops)]
    for step in wiring.steps:
        if step.type == INPUT:
            _keep_tops(step, needed)
    note = f"kept {len(wiring.steps)} of {count} layers, those that {', '.join(names)} needs"
    for value in wanted:
        if wiring.readers(value):
            _copy_out(wiring, value, values)
    message = net_of(definition.message, wiring.layers())
    kept = replace(definition, message=message, notes=[*definition.notes, note])
    return replace(model, definition=kept, weights=_weights_of(model.weights, wiring))


def check_outputs(net: NetStructure, who: str) -> None:
    """Refuses a net without outputs, for forms that hold what a net returns.

    Args:
        who: the net's file or name, for the message.

    Raises:
        ExportError: layers without tops (Silence) read all its blobs.
    """
    if net.outputs:
        return
    unread = {bottom for built in net.layers if not built.tops for bottom in built.bottoms}
    read = [version.blob for built in net.layers for version in built.tops if version in unread]
    advice = f"; name a blob as its output: --output {shlex.quote(read[-1])}" if read else ""
    raise ExportError(f"{who}: the net has no output, which this form needs{advice}")


def without_layers(
    net: Net, unknown: Sequence[BuiltLayer], reasons: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The end of a message about layers that cannot be written: their names, and a way without.

    A net for training becomes one for use; of others ``--output`` leaves out what needs the layers.

    Args:
        reasons: by layer name, what a layer does that cannot be written.
    """
    named = [(b, reasons.get(b.name, "")) for b in unknown]
    names = ", ".join(f"{b.name!r} ({b.type}{why and f', which {why}'})" for b, why in named)
    if any(b.layer is not None and (b.layer.is_loss or b.type == ACCURACY) for b in unknown):
        return f"{names}; a net for training becomes one for use with 'caffecompat deploy'"
    flags = output_flags(net.graph, {b.name for b in unknown})
    return f"{names}; without them the net is converted with {flags}" if flags else names


def output_flags(graph: Graph, unknown: Collection[str]) -> str:
    """The flags ``--output`` that leave layers out; "" if nothing is computed before them."""
    return " ".join(f"--output {shlex.quote(name)}" for name in outputs_without(graph, unknown))


def outputs_without(graph: Graph, unknown: Collection[str]) -> list[str]:
    """The blobs that layers called ``unknown`` read, and outputs that do not need these layers.

    Empty if nothing is computed before them, or by values that have no name of their own.
    """
    wiring = Wiring(graph)
    lost: set[Version] = set()
    ends: list[Version] = []
    for step in wiring.steps:
        if step.name in unknown or lost.intersection(step.bottoms):
            lost.update(step.tops)
            ends += [value for value in step.bottoms if value not in lost]
    ends += [value for value in wiring.outputs if value not in lost]
    made = [value for value in dict.fromkeys(ends) if _is_computed(wiring, value)]
    last = {wiring.name_of(top): top for step in wiring.steps for top in step.tops}
    if any(last[wiring.name_of(value)] != value for value in made):
        return []
    return [wiring.name_of(value) for value in made]


def _is_computed(wiring: Wiring, value: Version) -> bool:
    """Whether a layer makes the value from others."""
    producer = wiring.producer(value)
    return producer is not None and bool(producer.bottoms)


def _keep_tops(step: Step, needed: Collection[Version]) -> None:
    """Leaves the needed tops of an Input layer, with their shapes."""
    shapes = list(step.message.input_param.shape)
    kept = [index for index, top in enumerate(step.tops) if top in needed]
    if len(shapes) == len(step.tops):
        del step.message.input_param.shape[:]
        step.message.input_param.shape.extend(shapes[index] for index in kept)
    step.tops = [step.tops[index] for index in kept]


def _copy_out(wiring: Wiring, value: Version, taken: Collection[str]) -> None:
    """Gives the blob name of a value that is read to a copy of it that nothing reads."""
    name = wiring.name_of(value)
    other = free_name(f"{name}_read", taken)
    for step in wiring.steps:
        for top in step.tops:
            if wiring.name_of(top) == name:
                wiring.rename(top, other)
    message = schema.new("LayerParameter")
    message.name = free_name(f"{name}_output", {s.name for s in wiring.steps})
    message.type = "Split"
    producer = wiring.producer(value)
    assert producer is not None
    step = Step(message, producer.place, [value], [Version(name, value.number + 1)])
    wiring.steps.append(step)


def _weights_of(weights: Weights, wiring: Wiring) -> Weights:
    names = {step.name for step in wiring.steps}
    layers = [layer for layer in weights.layers if layer.name in names]
    return Weights(layers, weights.net_name, weights.path, weights.format)
