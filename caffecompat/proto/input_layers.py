"""Input layers, by which definitions state the inputs of a net."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from caffecompat.proto.schema import Message, new

INPUT = "Input"


def input_layer(top: str, shape: Sequence[int]) -> Message:
    """A LayerParameter of type Input that has the name of its one top."""
    layer = new("LayerParameter")
    layer.name, layer.type = top, INPUT
    layer.top.append(top)
    layer.input_param.shape.add().dim.extend(shape)
    return layer


def input_layers(net: Message) -> Iterator[Message]:
    """The Input layers of a NetParameter, in order."""
    return (layer for layer in net.layer if layer.type == INPUT)
