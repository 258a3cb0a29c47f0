"""DummyData: blobs with the values of fillers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

from caffecompat.layers._base import Message, Shape, format_shape, register
from caffecompat.layers._counter_rng import derive_seed
from caffecompat.layers._source import Source
from caffecompat.layers.fillers import fill
from caffecompat.layers.fillers import fillers as known_fillers
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")


@register("DummyData")
class DummyData(Source):
    """Tops with the values of fillers: constants are filled once, random values in each pass.

    There is one shape and one filler for all tops, or one for each; without a filler the values
    are 0. Shapes are given as ``shape``, or by the old fields ``num``, ``channels``, ``height`` and
    ``width``, each once or once per top. A random top is a pure function of seed, layer name, top
    and pass.
    Source: Caffe's DummyData layer.
    """

    @classmethod
    def batch_size(cls, message: Message) -> int | None:
        """The first extent of the first top."""
        p = message.dummy_data_param
        if p.num:
            return int(p.num[0])
        return int(p.shape[0].dim[0]) if p.shape and p.shape[0].dim else None

    @classmethod
    def scale_batch(cls, message: Message, factor: Fraction) -> None:
        p = message.dummy_data_param
        p.num[:] = [int(rows * factor) for rows in p.num]
        for shape in p.shape:
            shape.dim[:1] = [int(rows * factor) for rows in shape.dim[:1]]

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.dummy_data_param
        self.name = message.name
        tops = len(message.top)
        self.shapes = self._shapes(p, tops)
        for shape in self.shapes:
            self.check(
                all(extent > 0 for extent in shape),
                f"the shape {format_shape(shape)} has an extent below 1",
            )
        fillers = list(p.data_filler) or [new("FillerParameter")]
        self.fillers = self._for_each_top(fillers, "data_filler", tops)
        for filler in self.fillers:
            # Caffe makes all fillers here, also those of tops that it fills in each pass.
            known_fillers.find(filler.type, self.context.place)
        self.constants: dict[int, Tensor] = {}

    def _shapes(self, p: Message, tops: int) -> list[Shape]:
        extents = {name: list(getattr(p, name)) for name in ("num", "channels", "height", "width")}
        if not any(extents.values()):
            shapes = [tuple(shape.dim) for shape in p.shape]
            return self._for_each_top(shapes, "shape", tops)
        self.check(not p.shape, "shape and num, channels, height, width exclude each other")
        columns = [self._for_each_top(values, name, tops) for name, values in extents.items()]
        return list(zip(*columns, strict=True))

    def _for_each_top(self, values: list[Value], name: str, tops: int) -> list[Value]:
        self.check(
            len(values) in (1, tops),
            f"{name} is given {len(values)} times for {tops} tops; give one per top, or one for "
            "all",
        )
        return values * tops if len(values) == 1 else values

    @property
    def constant_tops(self) -> Sequence[int]:
        return [i for i, filler in enumerate(self.fillers) if filler.type == "constant"]

    def read(self, index: int) -> list[Tensor]:
        return [self._top(i, index) for i in range(len(self.shapes))]

    def _top(self, top: int, index: int) -> Tensor:
        import torch

        if top in self.constants:
            return self.constants[top]
        filler = self.fillers[top]
        constant = filler.type == "constant"
        generator = torch.Generator()
        generator.manual_seed(
            derive_seed(self.context.options.seed, "DummyData", self.name, top, index)
        )
        values = fill(filler, self.shapes[top], generator, self.context.place)
        if constant:
            self.constants[top] = values
        return values
