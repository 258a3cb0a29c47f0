"""``layers`` with enum types (2013 to 2014) become ``layer`` with type strings."""

from __future__ import annotations

from caffecompat.errors import NetError
from caffecompat.proto.layer_types import V1_TYPES
from caffecompat.proto.schema import Message, enum_names
from caffecompat.proto.upgrades import put, upgrade

# Fields of the same name that changed their meaning, or that today's layers do not have.
_CHANGED = {"type", "param", "blob_share_mode", "blobs_lr", "weight_decay", "layer"}


def has_v1_layers(net: Message) -> bool:
    """Whether the net has entries of the old kind."""
    return len(net.layers) > 0


@upgrade(
    "v1 layers",
    message="NetParameter",
    order=30,
    note='upgraded old-style layers { type: ENUM } entries to layer { type: "Name" }',
    needed=has_v1_layers,
)
def replace_v1_layers(net: Message) -> list[str]:
    """Each entry becomes one of today's; both kinds in one net are refused.

    Raises:
        NetError: the net has ``layer`` entries too.
    """
    if net.layer:
        raise NetError(
            f"the net has both layer (e.g. {net.layer[0].name!r}) and layers (e.g. "
            f"{net.layers[0].name!r}) entries, whose order is unknown; write all as layer"
        )
    names = {number: name for name, number in enum_names("V1LayerParameter.LayerType").items()}
    for old in net.layers:
        layer = net.layer.add()
        for entry, value in old.ListFields():
            if entry.name not in _CHANGED:
                put(layer, entry.name, value)
        if old.HasField("type"):
            layer.type = V1_TYPES[names[old.type]]
        _copy_parameter_settings(old, layer)
    net.ClearField("layers")
    return []


def _copy_parameter_settings(old: Message, layer: Message) -> None:
    """Four parallel lists become ``param`` entries, as many as the longest list has values."""
    for old_name, name in (
        ("param", "name"),
        ("blob_share_mode", "share_mode"),
        ("blobs_lr", "lr_mult"),
        ("weight_decay", "decay_mult"),
    ):
        for index, value in enumerate(getattr(old, old_name)):
            if index == len(layer.param):
                layer.param.add()
            setattr(layer.param[index], name, value)
