"""``layers { layer { } }`` of the first generation (2013) becomes ``layers`` of the second.

Padding was a layer of its own then. Caffe rebuilds such a net from few of its fields, and so do
we: state, debug_info, input_shape, ``layer`` entries, and include, exclude and loss_weight of the
layers are lost, each with a note here.
"""

from __future__ import annotations

from caffecompat.errors import suggestion
from caffecompat.proto.layer_types import V0_TYPES
from caffecompat.proto.schema import Message, enum_names, new
from caffecompat.proto.upgrades import OldNetError, Problem, append_texts, put, upgrade

_PADDING = "padding"
_KEPT = ("name", "input", "input_dim", "force_backward", "layers")
_KEPT_OF_LAYERS = ("bottom", "top", "layer")

# Where a field of the flat V0 message went: for each type that has it, a path into the V1 layer.
_WEIGHTED = {"conv": "convolution_param", "innerproduct": "inner_product_param"}
_WINDOWED = {"conv": "convolution_param", "pool": "pooling_param"}
_SOURCES = {
    "data": "data_param",
    "hdf5_data": "hdf5_data_param",
    "images": "image_data_param",
    "window_data": "window_data_param",
}
_IMAGES = {"images": "image_data_param"}
_WINDOWS = {"window_data": "window_data_param"}
_LRN = {"lrn": "lrn_param"}
_MOVED: dict[str, tuple[str, dict[str, str]]] = {
    "num_output": ("num_output", _WEIGHTED),
    "biasterm": ("bias_term", _WEIGHTED),
    "weight_filler": ("weight_filler", _WEIGHTED),
    "bias_filler": ("bias_filler", _WEIGHTED),
    "pad": ("pad", _WINDOWED),
    "kernelsize": ("kernel_size", _WINDOWED),
    "group": ("group", {"conv": "convolution_param"}),
    "stride": ("stride", _WINDOWED),
    "pool": ("pool", {"pool": "pooling_param"}),
    "dropout_ratio": ("dropout_ratio", {"dropout": "dropout_param"}),
    "local_size": ("local_size", _LRN),
    "alpha": ("alpha", _LRN),
    "beta": ("beta", _LRN),
    "k": ("k", _LRN),
    "source": ("source", {**_SOURCES, "infogain_loss": "infogain_loss_param"}),
    # Of the VGG group's fork, see vgg_2013.py.
    "root_img_dir": ("root_folder", _IMAGES),
    "top_k": ("top_k", {"accuracy": "accuracy_param"}),
    "batchsize": ("batch_size", _SOURCES),
    "rand_skip": ("rand_skip", {"data": "data_param", **_IMAGES}),
    "shuffle_images": ("shuffle", _IMAGES),
    "new_height": ("new_height", _IMAGES),
    "new_width": ("new_width", _IMAGES),
    "concat_dim": ("concat_dim", {"concat": "concat_param"}),
    "det_fg_threshold": ("fg_threshold", _WINDOWS),
    "det_bg_threshold": ("bg_threshold", _WINDOWS),
    "det_fg_fraction": ("fg_fraction", _WINDOWS),
    "det_context_pad": ("context_pad", _WINDOWS),
    "det_crop_mode": ("crop_mode", _WINDOWS),
}
# Taken over whatever the type is.
_TRANSFORMS = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
    "crop_meanfile": "crop_mean_file",
}
# Fields that no type of that generation used.
_UNUSED = ("new_num", "new_channels")
_SAME = ("name", "blobs", "blobs_lr", "weight_decay")


def has_v0_layers(net: Message) -> bool:
    """Whether an entry of ``layers`` holds a layer of the first generation."""
    return any(layer.HasField("layer") for layer in net.layers)


@upgrade(
    "v0 layers",
    message="NetParameter",
    order=10,
    note="upgraded layers { layer { } } entries of the first generation",
    needed=has_v0_layers,
)
def replace_v0_layers(net: Message) -> list[str]:
    """Pads move from padding layers to the layers that use them, the rest moves field by field.

    Raises:
        NetError: a bottom that no layer makes, a padding layer below one that cannot pad, or an
            unknown type.
    """
    notes = _lost_fields(net)
    for name in {entry.name for entry in net.DESCRIPTOR.fields} - set(_KEPT):
        net.ClearField(name)
    layers = [_upgraded(layer, index, notes) for index, layer in _without_padding(net)]
    net.ClearField("layers")
    net.layers.extend(layers)
    return notes


def _lost_fields(net: Message) -> list[str]:
    lost = [f"{e.name} of the net" for e, _ in net.ListFields() if e.name not in _KEPT]
    for index, layer in enumerate(net.layers):
        name = layer.layer.name or layer.name or str(index)
        for entry, _ in layer.ListFields():
            if entry.name not in _KEPT_OF_LAYERS:
                lost.append(f"{entry.name} of layer {name!r}")
    return [f"dropped {what}, which the first generation did not have" for what in lost]


def _without_padding(net: Message) -> list[tuple[int, Message]]:
    """Index and copy of all layers but padding, with pads and bottoms as padding layers demand."""
    makers: dict[str, Message | None] = dict.fromkeys(net.input)
    kept = []
    for index, original in enumerate(net.layers):
        layer = new("V1LayerParameter")
        layer.CopyFrom(original)
        for position, bottom in enumerate(original.bottom):
            if bottom not in makers:
                raise OldNetError(
                    f"layer {original.layer.name!r} (number {index + 1}): no layer above it makes "
                    f"its bottom {bottom!r}, and it is no input of the net",
                    ("layers", index),
                )
            maker = makers[bottom]
            if maker is not None and maker.layer.type == _PADDING:
                _take_pad(layer, index, position, maker)
        if layer.layer.type != _PADDING:
            kept.append((index, layer))
        makers.update(dict.fromkeys(original.top, original))
    return kept


def _take_pad(layer: Message, index: int, position: int, padding: Message) -> None:
    name = layer.layer.name
    below = padding.layer.name
    if layer.layer.type not in _WINDOWED:
        raise OldNetError(
            f"layer {name!r} ({layer.layer.type}) stands on the padding layer {below!r}, "
            f"expected a layer that can pad (conv or pool)",
            ("layers", index),
        )
    if len(layer.bottom) != 1 or len(padding.bottom) != 1 or len(padding.top) != 1:
        raise OldNetError(
            f"layer {name!r} on the padding layer {below!r}: both must have one bottom, and the "
            f"padding layer one top",
            ("layers", index),
        )
    layer.layer.pad = padding.layer.pad
    layer.bottom[position] = padding.bottom[0]


def _upgraded(connection: Message, index: int, notes: list[str]) -> Message:
    result = new("V1LayerParameter")
    append_texts(result.bottom, connection.bottom)
    append_texts(result.top, connection.top)
    if not connection.HasField("layer"):
        return result
    old = connection.layer
    if old.HasField("type"):
        if old.type not in V0_TYPES:
            raise OldNetError(
                f"layer {old.name!r}: the first generation had no type {old.type!r}"
                f"{suggestion(old.type, V0_TYPES)}",
                ("layers", index),
            )
        result.type = enum_names("V1LayerParameter.LayerType")[V0_TYPES[old.type]]
    for entry, value in old.ListFields():
        if entry.name == "type" or _move(result, old.type, entry, value):
            continue
        dropped = f"layer {old.name!r} ({old.type}): dropped {entry.name}, which "
        if entry.name in _UNUSED:
            notes.append(f"{dropped}no layer of the first generation used")
        else:
            notes.append(Problem(f"{dropped}this type never had"))
    return result


def _move(result: Message, kind: str, entry: Message, value: Message) -> bool:
    """Put one V0 field at its new place; False if layers of this type do not have it."""
    if entry.name in _SAME:
        put(result, entry.name, value)
    elif entry.name in _TRANSFORMS:
        put(result.transform_param, _TRANSFORMS[entry.name], value)
    elif entry.name == "hdf5_output_param" and kind == "hdf5_output":
        result.hdf5_output_param.MergeFrom(value)
    else:
        name, homes = _MOVED.get(entry.name, ("", {}))
        if kind not in homes:
            return False
        put(getattr(result, homes[kind]), name, value)
    return True
