"""What the definitions of BN check alike; each has settings of its own in ``bn_param``."""

from __future__ import annotations

from collections.abc import Set

from caffecompat.layers._base import Layer, Message, Shape, format_shape
from caffecompat.layers.forks._other_fields import refuse_other_fields


def check_bn(layer: Layer, p: Message, settings: Set[str], bottom: Shape) -> None:
    """Refuses settings of another definition, and a bottom without channels.

    Args:
        p: the BNParameter.
        settings: the fields of it that the definition of ``layer`` has.
        bottom: the shape of the bottom.
    """
    refuse_other_fields(layer, "bn_param", p, settings)
    layer.check(
        len(bottom) > 1, f"the bottom is {format_shape(bottom)}, it needs channels along axis 1"
    )
