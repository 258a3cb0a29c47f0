"""Input fields of the net (until 2015) become one Input layer at its front."""

from __future__ import annotations

from caffecompat.proto.input_layers import INPUT
from caffecompat.proto.schema import Message, new
from caffecompat.proto.upgrades import OldNetError, append_texts, upgrade

# input_dim always gave four extents to each input.
_EXTENTS = 4


def has_inputs(net: Message) -> bool:
    """Whether the net names inputs outside of a layer."""
    return len(net.input) > 0


@upgrade(
    "input fields",
    message="NetParameter",
    order=40,
    note="upgraded the net's input fields to an Input layer",
    needed=has_inputs,
)
def replace_inputs(net: Message) -> list[str]:
    """One layer "input" of type Input, with the inputs as tops.

    Shapes win over old-style dimensions, surplus dimensions are ignored, and inputs without any
    size are dropped: weights-only files name them so.
    """
    if net.input_shape or net.input_dim:
        layer = new("LayerParameter")
        layer.name = "input"
        layer.type = INPUT
        append_texts(layer.top, net.input)
        for index in range(len(net.input)):
            layer.input_param.shape.add().dim.extend(_shape(net, index))
        net.layer.insert(0, layer)
    net.ClearField("input")
    net.ClearField("input_shape")
    net.ClearField("input_dim")
    return []


def _shape(net: Message, index: int) -> list[int]:
    name = net.input[index]
    if net.input_shape:
        if index >= len(net.input_shape):
            raise OldNetError(
                f"input {name!r} is number {index + 1} of {len(net.input)}, but there are only "
                f"{len(net.input_shape)} input_shape; add one for each input",
                ("input", index),
            )
        return list(net.input_shape[index].dim)
    extents = list(net.input_dim[_EXTENTS * index : _EXTENTS * (index + 1)])
    if len(extents) < _EXTENTS:
        raise OldNetError(
            f"input {name!r} is number {index + 1} of {len(net.input)}, but there are only "
            f"{len(net.input_dim)} input_dim; give {_EXTENTS} for each input",
            ("input", index),
        )
    return extents
