"""``layers`` with enum types (2013 to 2014) become ``layer`` with type strings."""

from __future__ import annotations

from collections.abc import Collection
from operator import itemgetter

from caffecompat.proto.descriptors import layout
from caffecompat.proto.exclusive_fields import left_out, surplus_fields
from caffecompat.proto.input_layers import INPUT
from caffecompat.proto.layer_types import V1_TYPES
from caffecompat.proto.schema import Message, enum_names
from caffecompat.proto.upgrades import OldNetError, put, upgrade

# Types that old files name although only today's layers have them.
SAME_AS_TODAY = {"INPUT": INPUT}

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
    notes = [note for old in net.layers for note in _convert(old, net.layer.add())]
    net.ClearField("layers")
    return notes


def join_generations(net: Message, lines: Collection[int], old_lines: Collection[int]) -> list[str]:
    """Brings ``layer`` and ``layers`` entries of one net into the order of their lines.

    A net whose order the lines do not tell, or that has layers of the first generation, stays as it
    is.

    Args:
        lines, old_lines: the line of each ``layer`` and of each ``layers`` entry.

    Returns:
        Notes; empty if nothing was done.
    """
    if not (net.layer and net.layers):
        return []
    if (len(lines), len(old_lines)) != (len(net.layer), len(net.layers)):
        return []
    if set(lines) & set(old_lines) or any(old.HasField("layer") for old in net.layers):
        return []
    entries = [*zip(lines, net.layer, strict=True), *zip(old_lines, net.layers, strict=True)]
    # Stable: entries of one kind that share a line keep their order.
    entries.sort(key=itemgetter(0))
    joined = type(net)()
    notes = []
    for _, entry in entries:
        layer = joined.layer.add()
        if entry.DESCRIPTOR.name == layer.DESCRIPTOR.name:
            layer.CopyFrom(entry)
        else:
            notes += _convert(entry, layer)
    del net.layer[:]
    net.ClearField("layers")
    net.MergeFrom(joined)
    return ["joined layer and layers entries in the order of their lines", *notes]


def _convert(old: Message, layer: Message) -> list[str]:
    """Fills ``layer`` from an entry of the old kind; returns notes."""
    names = {number: name for name, number in enum_names("V1LayerParameter.LayerType").items()}
    notes = []
    if old.HasField("type"):
        name = names[old.type]
        layer.type = V1_TYPES[name] if name in V1_TYPES else SAME_AS_TODAY.get(name, name)
        if name not in V1_TYPES and name not in SAME_AS_TODAY:
            # Its CROP, say, is not BVLC's Crop.
            notes.append(f"layer {old.name!r}: a fork's old type {name} keeps its name")
    going = surplus_fields(old, layout(layer.DESCRIPTOR).fields, layer.type or "no type")
    for entry, value in old.ListFields():
        if entry.name not in _CHANGED and entry.name not in going:
            put(layer, entry.name, value)
    _copy_parameter_settings(old, layer)
    return notes + left_out(old.name, layer.type, going)


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
