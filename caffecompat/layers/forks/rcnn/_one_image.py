"""What layers of region-based detectors have in common that take one image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer

if TYPE_CHECKING:
    from torch import Tensor


class OneImage(Layer):
    """A layer without gradients that takes one image, not a batch."""

    in_place = False
    differentiable = (False,)
    batch_coupling = "takes one image, not a batch"


def before_the_first_pass(objects: Tensor) -> Tensor:
    """Objects (G, 5) in place of the (1, 4) that py-faster-rcnn's RoIDataLayer begins with.

    Its first pass gives five columns. Other shapes, and those of a pass, are left alone.
    """
    if objects.is_meta and tuple(objects.shape) == (1, 4):
        return objects.new_empty(1, 5)
    return objects
