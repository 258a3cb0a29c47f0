"""What nets of R-FCN ask of the Python layers that they share with py-faster-rcnn by name.

R-FCN's own versions of these layers give blobs of four axes and, by its configurations, targets
for any object in the place of class 1 (AGNOSTIC), and all regions where a BoxAnnotatorOHEM picks
the hard ones (BATCH_SIZE -1). Source: lib and experiments/cfgs of py-R-FCN.
"""

from __future__ import annotations

from caffecompat.layers._base import Message

_TYPES = {"PSROIPooling", "SoftmaxWithLossOHEM", "SmoothL1LossOHEM", "BoxAnnotatorOHEM"}
ALL_REGIONS = -1


def is_of_rfcn(definition: Message | None) -> bool:
    """Whether a net has a layer type of R-FCN."""
    return definition is not None and any(layer.type in _TYPES for layer in definition.layer)


def mines_hard_examples(definition: Message | None) -> bool:
    """Whether a net picks the regions with the largest losses itself."""
    return definition is not None and any(
        layer.type == "BoxAnnotatorOHEM" for layer in definition.layer
    )
