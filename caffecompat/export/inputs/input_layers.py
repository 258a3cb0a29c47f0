"""Nets on inputs in place of data layers."""

from __future__ import annotations

from caffecompat.export.model import CaffeModel
from caffecompat.export.wiring import Wiring, net_of
from caffecompat.net import Net
from caffecompat.net.definition import Definition
from caffecompat.proto.input_layers import INPUT, input_layer


def with_inputs(net: Net) -> CaffeModel:
    """A net in its state with its weights; each top of a data layer is an Input of its shape."""
    layers = []
    for step in Wiring(net.graph).steps:
        if step.bottoms or step.type == INPUT:
            message = step.message
            message.ClearField("include")
            message.ClearField("exclude")
            layers.append(message)
            continue
        layers += [input_layer(top.blob, net.shape_of(top)) for top in step.tops]
    definition = Definition(net_of(net.definition, layers), dialect=net.dialect)
    return CaffeModel(definition, net.to_weights())
