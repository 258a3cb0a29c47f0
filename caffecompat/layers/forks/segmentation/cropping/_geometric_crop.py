"""A crop whose offset follows from the layers between its bottoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.graph.state import layer_is_included, net_state
from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape
from caffecompat.layers.forks.segmentation.cropping._coordinates import BlobPaths, alignment

if TYPE_CHECKING:
    from torch import Tensor


class GeometricCrop(Layer):
    """The part of the first bottom (N, C, H, W) that lies where the plane of the second one lies.

    The top is (N, C, H', W') with the height and width of the second bottom, whose values are not
    used. The offset follows from the strides, kernels and pads of the convolutions, deconvolutions
    and pooling layers between each bottom and their nearest common ancestor, as the centres of
    windows; both planes must have the same scale, and the offset must be a whole number, 0 or more.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (True, False)
    reads_definition = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        definition, options = self.context.definition, self.context.options
        if definition is None:
            self.refuse("it needs the whole net, since its offset follows from the other layers")
        state = options.state
        if state is None:
            state = net_state(definition, self.context.phase, options.level, options.stages)
        included = [
            layer
            for layer in definition.layer
            if layer_is_included(layer, state, self.context.place)
        ]
        self.offsets = self.offsets_by(self, BlobPaths(included), message)

    @staticmethod
    def offsets_by(asker: Layer, paths: BlobPaths, message: Message) -> tuple[int, int]:
        """Rows and columns before the part that the layer ``message`` takes."""
        across = alignment(asker, paths, message.bottom[0], message.bottom[1])
        names = f"{message.bottom[0]!r} and {message.bottom[1]!r}"
        asker.check(
            all(factor == 1 for factor in across.scale),
            f"the planes of {names} have different scales, "
            f"{float(across.scale[0]):g} and {float(across.scale[1]):g}; resize one of them first, "
            "with a Deconvolution layer",
        )
        offsets = [-shift for shift in across.shift]
        remedy = "use a Crop layer with offset"
        if min(offsets) < 0:
            remedy = "give the convolutions between them more pad"
        asker.check(
            all(offset >= 0 and offset.denominator == 1 for offset in offsets),
            f"the offset between the planes of {names} is {float(offsets[0]):g}, "
            f"{float(offsets[1]):g}; it must be a whole number, 0 or more; {remedy}",
        )
        return int(offsets[0]), int(offsets[1])

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        self.check(
            x.dim() == 4
            and reference.dim() == 4
            and all(
                offset + wanted <= extent
                for offset, wanted, extent in zip(
                    self.offsets, reference.shape[2:], x.shape[2:], strict=True
                )
            ),
            f"the bottom {format_shape(x.shape)} cannot be cropped to the plane of the second "
            f"{format_shape(reference.shape)} at offset {format_shape(self.offsets)}",
        )
        for axis, offset in enumerate(self.offsets, 2):
            x = x.narrow(axis, offset, reference.shape[axis])
        return x
