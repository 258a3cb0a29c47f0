"""What Synopsys' two resizing layers share: the settings, and the resizing axis by axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, format_shape

if TYPE_CHECKING:
    from torch import Tensor

# For each data_format: the axes that are resized, in the order height, width.
_AXES = {"NHWC": (1, 2), "NCHW": (2, 3)}


class AxisResizing(Layer):
    """A bottom of 4 axes, resized to output_height x output_width, one axis after the other.

    Without ``output_height`` the height is floor(H scale_height), and so with the width.
    ``data_format`` is NHWC (the default) or NCHW.
    """

    in_place = False

    def read(self, settings: Message, modes: tuple[str, str, str]) -> tuple[bool, bool, bool]:
        """Reads axes and sizes; returns which of three exclusive modes is true."""
        # The original takes every other word for NCHW.
        self.check(
            settings.data_format in _AXES,
            f'data_format is "{settings.data_format}"; supported are {" and ".join(_AXES)}',
        )
        first, second, third = (bool(getattr(settings, mode)) for mode in modes)
        self.check(
            first + second + third <= 1,
            f"only one of {modes[0]}, {modes[1]} and {modes[2]} may be true",
        )
        self.axes = _AXES[settings.data_format]
        self.sizes = [
            int(settings.output_height) if settings.HasField("output_height") else None,
            int(settings.output_width) if settings.HasField("output_width") else None,
        ]
        self.scales = (float(settings.scale_height), float(settings.scale_width))
        return first, second, third

    def forward(self, x: Tensor) -> Tensor:
        self.check(x.dim() == 4, f"the bottom is {format_shape(x.shape)}, it must have 4 axes")
        for axis, size, scale in zip(self.axes, self.sizes, self.scales, strict=True):
            count = int(x.shape[axis] * scale) if size is None else size
            self.check(
                count > 0, f"the top's extent would be {count}; give output_height and output_width"
            )
            x = self.resized(x, axis, count)
        return x

    def resized(self, x: Tensor, axis: int, count: int) -> Tensor:
        """``x`` with ``count`` elements along ``axis``."""
        raise NotImplementedError
