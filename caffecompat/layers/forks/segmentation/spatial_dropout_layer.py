"""SpatialDropoutLayer of ENet: drops whole channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape
from caffecompat.layers._python_equivalent import PythonEquivalent, register_python_layer

if TYPE_CHECKING:
    from torch import Tensor


@register_python_layer(("spatial_dropout", "SpatialDropoutLayer"), fork="ENet")
class SpatialDropoutLayer(PythonEquivalent):
    """y = x / (1 - p), with whole channels of a sample set to 0 with probability p in training.

    ``param_str`` has ``p`` and ``phase``, TRAIN or TEST; the phase of the net does not count. In
    TEST nothing is dropped, but y = x / (1 - p) there, too. Bottom and top are (N, C, ...).
    Source: spatial_dropout.py of ENet.
    """

    in_place = False
    options = {"phase": "", "p": ""}

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.read_options(message)
        try:
            self.ratio = float(self.given["p"])
        except ValueError:
            self.refuse(f"param_str: p is {self.given['p']!r}, expected a number in quotes")
        self.check(0 < self.ratio < 1, f"param_str: p is {self.ratio:g}, it must be in (0, 1)")
        self.check(len(bottoms[0]) > 1, "the bottom needs channels along axis 1")
        self.drops = self.given["phase"] == "TRAIN"

    def forward(self, x: Tensor) -> Tensor:
        y = x / (1 - self.ratio)
        if not self.drops:
            return y
        kept = self.noise.keep(x.flatten(2)[..., 0] if x.dim() > 2 else x, 1 - self.ratio)
        return y * kept.to(x.dtype).view(*x.shape[:2], *(1,) * (x.dim() - 2))
