"""BatchNorm layers that give learning rates for their statistics (until 2016)."""

from __future__ import annotations

from caffecompat.proto.schema import Message
from caffecompat.proto.upgrades import upgrade

# Mean, variance and scale factor: the blobs of a BatchNorm layer.
_BLOBS = 3


def has_batch_norm_rates(net: Message) -> bool:
    """Whether a BatchNorm layer with three params would let the solver touch one of them."""
    return any(_needed(layer) for layer in net.layer)


@upgrade(
    "batch norm rates",
    message="NetParameter",
    order=50,
    note="set the learning rates of BatchNorm statistics to 0",
    needed=has_batch_norm_rates,
)
def clear_batch_norm_rates(net: Message) -> list[str]:
    """The statistics are not learnt: lr_mult and decay_mult become 0, names and sharing stay.

    Layers with fewer params are left alone, as in Caffe, which refuses them later.
    """
    for layer in net.layer:
        if _needed(layer):
            for param in layer.param:
                param.lr_mult = 0
                param.decay_mult = 0
    return []


def _needed(layer: Message) -> bool:
    return (
        layer.type == "BatchNorm"
        and len(layer.param) == _BLOBS
        and any(param.lr_mult != 0 or param.decay_mult != 0 for param in layer.param)
    )
