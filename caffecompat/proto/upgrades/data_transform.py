"""Transform fields inside the parameters of V1 data layers (until 2014) move out of them."""

from __future__ import annotations

from caffecompat.proto.schema import Message, enum_names
from caffecompat.proto.upgrades import upgrade

_PARAMETERS = {
    "DATA": "data_param",
    "IMAGE_DATA": "image_data_param",
    "WINDOW_DATA": "window_data_param",
}
_FIELDS = ("scale", "mean_file", "crop_size", "mirror")


def has_old_transforms(net: Message) -> bool:
    """Whether a V1 data layer gives one of the fields at the old place."""
    return any(parameters.HasField(name) for _, parameters in _data_layers(net) for name in _FIELDS)


@upgrade(
    "data transforms",
    message="NetParameter",
    order=20,
    note="moved scale, mean_file, crop_size and mirror of data layers into transform_param",
    needed=has_old_transforms,
)
def move_transforms(net: Message) -> list[str]:
    """Values move to ``transform_param`` and win over what is there.

    All data layers get a ``transform_param`` and their own parameters, empty ones too. As in Caffe,
    today's ``layer`` entries are not touched: there these fields have no effect.
    """
    for layer, parameters in _data_layers(net):
        layer.transform_param.SetInParent()
        parameters.SetInParent()
        for name in _FIELDS:
            if parameters.HasField(name):
                setattr(layer.transform_param, name, getattr(parameters, name))
                parameters.ClearField(name)
    return []


def _data_layers(net: Message) -> list[tuple[Message, Message]]:
    numbers = enum_names("V1LayerParameter.LayerType")
    kinds = {numbers[name]: field for name, field in _PARAMETERS.items()}
    return [
        (layer, getattr(layer, kinds[layer.type]))
        for layer in net.layers
        if layer.HasField("type") and layer.type in kinds
    ]
