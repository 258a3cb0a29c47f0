"""``layers`` with enum types (2013 to 2014) become ``layer`` with type strings."""

from __future__ import annotations

from caffecompat.proto.layer_types import V1_TYPES
from caffecompat.proto.schema import Message, enum_names
from caffecompat.proto.upgrades import OldNetError, put, upgrade

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
        raise OldNetError(
            f"the net has both layer (e.g. {net.layer[0].name!r}{{0}}) and layers (e.g. "
            f"{net.layers[0].name!r}{{1}}) entries, whose order is unknown; write all as layer",
            ("layer", 0),
            ("layers", 0),
        )
    names = {number: name for name, number in enum_names("V1LayerParameter.LayerType").items()}
    notes = []
    for old in net.layers:
        layer = net.layer.add()
        for entry, value in old.ListFields():
            if entry.name not in _CHANGED:
                put(layer, entry.name, value)
        if old.HasField("type"):
            name = names[old.type]
            layer.type = V1_TYPES.get(name, name)
            if name not in V1_TYPES:
                # Its CROP, say, is not BVLC's Crop.
                notes.append(f"layer {old.name!r}: a fork's old type {name} keeps its name")
        _copy_parameter_settings(old, layer)
    net.ClearField("layers")
    return notes


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
