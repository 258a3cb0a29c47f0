"""DataAugmentation of FlowNet: random crops and colours of images, and mean subtraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register
from caffecompat.layers.forks.flow.augmentation import _coefficients as coefficients
from caffecompat.layers.forks.flow.augmentation import _colour as colour
from caffecompat.layers.forks.flow.augmentation._random_coefficients import (
    COUNT,
    Generator,
    normal,
    uniforms,
)
from caffecompat.layers.forks.flow.augmentation._schedule import Schedule
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor

# How far the last sampled position is from the end of an axis.
_MARGIN = 1.05


@register("DataAugmentation", fork="FlowNet")
class DataAugmentation(Layer):
    """The images (N, C, H, W), cut to ``crop_width`` x ``crop_height`` and changed at random.

    Without a crop size the images are only copied, and the mean is subtracted. Otherwise a sample
    of row n is (rows of coefficients are those of GenerateAugmentationParameters)::

        1. the crop, from the positions of its pixels in the image by bilinear interpolation; the
           positions are cut to [0, size - 1.05], so that the last row and column are mixed
        2. changes along the three directions of ``chromatic_eigvec``
        3. colour factors, gamma, brightness and contrast, for values in [0, 1]
        4. shadow and noise

    2 to 4 apply to 3 channels only, to all samples if to any, and cut values to [0,
    ``max_multiplier``]. The coefficients (N, 42, 1, 1) are those of a second bottom; or they are
    drawn, in TRAIN or with ``augment_during_test``; or they are neutral, which is a crop from the
    middle. A second top has them. ``coeff_schedule_param`` scales the spreads.

    With ``recompute_mean: n`` the mean of the first n passes is computed, in TEST too, and
    subtracted: the mean image, or with ``mean_per_pixel: false`` the mean of each channel. Without
    it, 3 values of ``mean`` are subtracted if ``mean_per_pixel`` is false. Weight files of another
    crop size are accepted; a mean image then is the mean of each channel.
    There is no gradient. Source: FlowNet 2's DataAugmentation layer.
    """

    bottoms = between(1, 2)
    tops = between(1, 2)
    in_place = False
    parameters = ("iteration", "mean_image", "mean")
    fork_fields = ("augmentation_param", "coeff_schedule_param")
    param_fields = ("augmentation_param", "coeff_schedule_param")
    differentiable = (False,)
    uses_host = True
    counts_passes = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.augmentation_param
        self.schedule = Schedule.of(message.coeff_schedule_param)
        self.limit, self.directions = p.max_multiplier, list(p.chromatic_eigvec)
        self.passes, self.per_pixel = p.recompute_mean, p.mean_per_pixel
        self.has_second_top = len(message.top) > 1
        self.reads_rows = len(bottoms) == 2
        self.check(
            len(bottoms[0]) == 4,
            f"the bottom is {format_shape(bottoms[0])}, it must have 4 axes (N, C, H, W)",
        )
        self.crop: tuple[int, int] | None = None
        if p.HasField("crop_width") and p.HasField("crop_height"):
            self.crop = (p.crop_height, p.crop_width)
            self.check(min(self.crop) > 0, "crop_width and crop_height must be at least 1")
        active = self.crop is not None and not self.reads_rows
        self.generator = Generator(p, active and (self.training or p.augment_during_test))
        self._check_settings(bottoms)
        zero = new("FillerParameter")
        self.parameter("iteration", (1, 1, 1, 1), zero, learned=False)
        channels = bottoms[0][1]
        self.mean: list[float] = []
        if p.recompute_mean:
            size = self.crop or bottoms[0][2:]
            self.parameter("mean_image", (1, channels, *size), zero, learned=False)
            self.parameter("mean", (1, channels, 1, 1), zero, learned=False)
            self.batch_coupling = "computes a mean over the whole batch"
        elif len(p.mean) == 3 and not p.mean_per_pixel:
            self.check(channels == 3, f"mean has 3 values, the bottom has {channels} channels")
            self.mean = list(p.mean)
        if self.generator.eigen or self.reads_rows:
            self.batch_coupling = "takes its colour statistics from the whole batch"

    def _check_settings(self, bottoms: Sequence[Shape]) -> None:
        generator = self.generator
        unknown = generator.unknown_kind()
        self.check(not unknown, f"{unknown}, which FlowNet does not know")
        if generator.spatial:
            # The original never ends for such a crop.
            self.check(min(self.crop or (2,)) > 1, "a random crop needs at least 2 x 2 pixels")
        if generator.colours:
            self._check_channels(bottoms[0])
        if generator.eigen:
            self._check_directions()

    def _check_channels(self, shape: Sequence[int]) -> None:
        self.check(
            shape[1] == 3, f"changes of colour need 3 channels, the bottom is {format_shape(shape)}"
        )

    def _check_directions(self) -> None:
        count = len(self.directions)
        self.check(count == 9, f"chromatic_eigvec has {count} values, it must have 9")

    def adapt(self, blobs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """A mean image of another size becomes the mean of each channel."""
        blobs = list(blobs)
        if len(self.specs) == 3 and len(blobs) == 3 and blobs[1].ndim == 4 and blobs[2].ndim == 4:
            shape = self.specs[1].shape
            if blobs[1].shape != shape and blobs[1].shape[:2] == shape[:2]:
                if self.per_pixel and blobs[1].size:
                    blobs[2] = blobs[1].mean((2, 3), keepdims=True, dtype=np.float64)
                    blobs[2] = blobs[2].astype(blobs[1].dtype)
                if blobs[2].shape == self.specs[2].shape:
                    blobs[1] = np.ascontiguousarray(np.broadcast_to(blobs[2], shape))
        return blobs

    def forward(
        self,
        x: Tensor,
        *rows: Tensor,
        iteration: Tensor,
        mean_image: Tensor | None = None,
        mean: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        import torch

        self.check(
            x.dim() == 4, f"the bottom is {format_shape(x.shape)}, it must have 4 axes (N, C, H, W)"
        )
        kind, x = x.dtype, x.detach()
        if kind in (torch.float16, torch.bfloat16):
            x = x.float()
        with torch.no_grad():
            iteration.copy_(iteration.trunc() + 1)
        given = self._given(x, *rows) if rows else x.new_zeros(len(x), len(coefficients.NAMES))
        y = x
        if self.crop is not None:
            y, given = self._changed(x, given, iteration)
        if mean_image is not None and mean is not None:
            y = self._less_mean(y, iteration, mean_image, mean)
        elif self.mean:
            y = y - y.new_tensor(self.mean).view(1, 3, 1, 1)
        if y is x:
            y = x.clone()
        y, given = y.to(kind), given.to(kind)
        return (y, given[:, :, None, None]) if self.has_second_top else y

    def _given(self, x: Tensor, rows: Tensor) -> Tensor:
        count = len(coefficients.NAMES)
        self.check(
            rows.numel() == len(x) * count,
            f"the bottoms are {format_shape(x.shape)} and {format_shape(rows.shape)}; the second "
            f"must have {count} coefficients for each image",
        )
        return rows.detach().reshape(len(x), count).to(x.dtype)

    def _changed(self, x: Tensor, given: Tensor, iteration: Tensor) -> tuple[Tensor, Tensor]:
        """The crops with all changes, and their coefficients (N, 42)."""
        assert self.crop is not None
        image = (x.shape[2], x.shape[3])
        self.check(
            self.crop[0] <= image[0] and self.crop[1] <= image[1],
            f"the crop is {self.crop[0]}x{self.crop[1]}, but the bottom is {format_shape(x.shape)}",
        )
        generator, grain = self.generator, None
        grainy = self.reads_rows or "noise" in self.generator.given
        if generator.spatial or generator.colours or self.reads_rows:
            pixels = x.shape[1] * self.crop[0] * self.crop[1] if grainy else 0
            numbers = uniforms(self.noise, x.new_empty(len(x), COUNT + 2 * pixels))
            part = self.schedule.factor(iteration.view(()).to(x.dtype))
            if generator.spatial:
                given = generator.draw_spatial(numbers[:, :COUNT], part, given, self.crop, image)
            if generator.colours:
                drawn = generator.draw_others(numbers[:, :COUNT], part)
                given = given + coefficients.encode(drawn, given)
            if grainy:
                shape = (len(x), 2, x.shape[1], *self.crop)
                grain = normal(*numbers[:, COUNT:].reshape(shape).unbind(1))
        values = coefficients.without_traces(coefficients.decode(given))
        y = self._crops(x, values)
        return self._coloured(x, y, values, grain), given

    def _crops(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        assert self.crop is not None
        height, width = x.shape[2:]
        matrix = coefficients.matrices(values, self.crop, (height, width))
        across, down = coefficients.apply(matrix, *coefficients.grid(x, self.crop))
        across = across.clamp(max=width - _MARGIN).clamp(min=0)
        down = down.clamp(max=height - _MARGIN).clamp(min=0)
        left, top = across.floor(), down.floor()
        flat = x.flatten(2)

        def at(i: Tensor, j: Tensor) -> Tensor:
            index = i.clamp(max=height - 1).long() * width + j.clamp(max=width - 1).long()
            index = index.flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
            return flat.gather(2, index).view(*x.shape[:2], *across.shape[1:])

        dx, dy = (across - left).unsqueeze(1), (down - top).unsqueeze(1)
        above = at(top, left) * (1 - dx) + at(top, left + 1) * dx
        below = at(top + 1, left) * (1 - dx) + at(top + 1, left + 1) * dx
        return above * (1 - dy) + below * dy

    def _coloured(
        self, x: Tensor, y: Tensor, values: dict[str, Tensor], grain: Tensor | None
    ) -> Tensor:
        generator, limit = self.generator, self.limit
        changes = colour.changes_eigen(values)
        if self._wants(x, generator.eigen, changes, len(self.directions) == 9):
            space = colour.EigenSpace.of(x, self.directions)
            y = colour.eigen(y, values, space, limit).where(changes, y)
        changes = colour.changes_contrast(values)
        if self._wants(x, generator.colour, changes):
            y = colour.contrast(y, values, limit).where(changes, y)
        changes = colour.changes_effects(values)
        if self._wants(x, generator.effects, changes):
            y = colour.effects(y, values, grain, limit).where(changes, y)
        return y

    def _wants(self, x: Tensor, drawn: bool, changes: Tensor, possible: bool = True) -> bool:
        """Whether to compute a kind of change; refuses what rows of a second bottom may not ask."""
        if drawn or not self.reads_rows:
            return drawn
        if x.shape[1] == 3 and possible:
            return True
        if not x.is_meta and bool(changes):
            self._check_channels(x.shape)
            self._check_directions()
        return False

    def _less_mean(self, y: Tensor, iteration: Tensor, image: Tensor, mean: Tensor) -> Tensor:
        import torch

        self.check(
            y.shape[1:] == image.shape[1:],
            f"the images are {format_shape(y.shape)}, but the mean is for images of "
            f"{format_shape(image.shape[1:])}",
        )
        with torch.no_grad():
            count = iteration.view(()).to(image.dtype)
            recomputed = (image * (count - 1) + y.mean(0, keepdim=True)) / count
            open_ = count <= self.passes
            image.copy_(recomputed.where(open_, image))
            mean.copy_(image.mean((2, 3), keepdim=True).where(open_, mean))
        return y - (image if self.per_pixel else mean).detach()
