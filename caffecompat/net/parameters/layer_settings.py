"""The settings of a net's layers as a caffemodel stores them beside the blobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffecompat.graph.state import PHASES
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.proto import schema
from caffecompat.weights import Weights

# The field of LayerParameter in which the blobs stand between the other fields.
_BLOBS = 7
# Fields that a weight file has by itself: name, type, bottom, top, blobs.
_OWN = ("name", "type", "bottom", "top", "blobs")


def add_settings(weights: Weights, layers: Sequence[BuiltLayer]) -> None:
    """Gives each entry of ``weights`` the settings of its layer in ``layers``, in this order.

    Source: Caffe's Net::ToProto writes each layer's whole definition, with what the setup of the
    layer has added to it.
    """
    for entry, built in zip(weights.layers, layers, strict=True):
        message = _definition(built)
        entry.settings = (_part(message, before=True), _part(message, before=False))


def _definition(built: BuiltLayer) -> Any:
    """A copy of the layer's message with the phase, multipliers and weights in use."""
    message = schema.new("LayerParameter")
    message.CopyFrom(built.node.message)
    for name in _OWN:
        message.ClearField(name)
    message.phase = PHASES.index(built.node.phase)
    del message.loss_weight[:]
    message.loss_weight.extend(built.node.loss_weights)
    if built.layer is not None:
        if built.layer.is_loss and not message.loss_weight:
            message.loss_weight.append(1.0)
        for spec in built.layer.specs[len(message.param) :]:
            if not spec.learned:
                message.param.add().lr_mult = 0.0
    return message


def _part(message: Any, *, before: bool) -> bytes:
    """The bytes of the fields whose numbers are below that of the blobs, or above it."""
    part = type(message)()
    part.CopyFrom(message)
    for field, _ in message.ListFields():
        if (field.number < _BLOBS) != before:
            part.ClearField(field.name)
    data: bytes = part.SerializeToString(deterministic=True)
    return data
