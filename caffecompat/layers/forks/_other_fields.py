"""Fields of a fork's messages that other forks have added."""

from __future__ import annotations

from collections.abc import Iterable

from caffecompat.layers._base import Layer, Message


def refuse_other_fields(layer: Layer, name: str, message: Message, known: Iterable[str]) -> None:
    """Refuses fields that are set but not supported.

    Args:
        layer: the layer that is set up.
        name: the name of the message in the definition, ``"prior_box_param"``.
        message: the message.
        known: names of the fields that the type supports.

    Raises:
        LayerError: other fields are set; the message names all of them.
    """
    other = [field.name for field, _ in message.ListFields() if field.name not in known]
    layer.check(
        not other,
        f"{name}: {', '.join(other)}: from another Caffe version, not supported by this layer "
        "type; remove it",
    )
