"""GenerateAugmentationParameters: random coefficients for FlowNet's augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import BlobCount, Layer, Message, Shape, format_shape, register
from caffecompat.layers.forks.flow.augmentation import _coefficients as coefficients
from caffecompat.layers.forks.flow.augmentation._random_coefficients import (
    COUNT,
    Generator,
    uniforms,
)
from caffecompat.layers.forks.flow.augmentation._schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor

MODES = ("add", "replace", "regenerate")


class _OneOrThree(BlobCount):
    def admits(self, number: int) -> bool:
        return number in (1, 3)

    def __str__(self) -> str:
        return "1 or 3"


@register("GenerateAugmentationParameters", fork="FlowNet")
class GenerateAugmentationParameters(Layer):
    """Coefficients (N, 42, 1, 1) for DataAugmentation and FlowAugmentation.

    The first bottom has the coefficients of another layer (N, 42, 1, 1), and ``mode`` says what
    happens to them: ``add`` adds random ones, ``replace`` replaces those that are drawn and, if any
    of the position is drawn, all of the position; ``regenerate`` starts from neutral ones. If the
    first bottom is wider or higher than 1 it is an image, and the mode is ``regenerate``.

    Nothing is drawn in TEST without ``augment_during_test``. Positions are drawn until the crop
    lies inside the image; after 49 draws outside they stay as they were. The sizes of the image and
    of the crop are those of the second and third bottoms; or those of the first bottom (or
    ``bottomwidth`` and ``bottomheight``) and ``crop_width`` and ``crop_height``.
    ``coeff_schedule_param`` scales the spreads, by the number of the pass.
    There is no gradient. Source: FlowNet 2's GenerateAugmentationParameters layer.
    """

    bottoms = _OneOrThree(1, 3)
    in_place = False
    fork_fields = ("augmentation_param", "coeff_schedule_param")
    param_fields = ("augmentation_param", "coeff_schedule_param")
    differentiable = (False,)
    uses_host = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.augmentation_param
        self.schedule = Schedule.of(message.coeff_schedule_param)
        self.mode, self.crop = p.mode, (p.crop_height, p.crop_width)
        self.image: tuple[int, int] | None = None
        if p.HasField("bottomwidth") and p.HasField("bottomheight"):
            self.image = (p.bottomheight, p.bottomwidth)
        self.generator = Generator(p, self.training or p.augment_during_test)
        unknown = self.generator.unknown_kind()
        self.check(not unknown, f"{unknown}, which FlowNet does not know")
        self.check(p.mode in MODES, f"mode is {p.mode!r}; it is one of {', '.join(MODES)}")
        if len(bottoms) == 1:
            self.check(
                p.HasField("crop_width") and p.HasField("crop_height"),
                "crop_width and crop_height are missing; give both, or three bottoms",
            )

    def forward(self, first: Tensor, *images: Tensor) -> Tensor:
        import torch

        self.check(
            all(b.dim() == 4 for b in (first, *images)), "its bottoms must have 4 axes (N, C, H, W)"
        )
        exact = torch.float64 if first.dtype == torch.float64 else torch.float32
        mode = self.mode
        if not images and max(first.shape[2:]) > 1:
            mode = "regenerate"
        image, crop = self._sizes(first, *images)
        count = len(coefficients.NAMES)
        before = torch.zeros(len(first), count, device=first.device, dtype=exact)
        if mode != "regenerate":
            self.check(
                first.numel() == before.numel(),
                f"the first bottom is {format_shape(first.shape)}, it must have {count} "
                "coefficients for each sample",
            )
            before = first.detach().reshape(before.shape).to(exact)
        rows = before
        generator = self.generator
        if generator.spatial or generator.colours:
            numbers = uniforms(self.noise, before.new_empty(len(first), COUNT))
            part = self.schedule.factor((self.noise.position.to(first.device) + 1).to(exact))
            if generator.spatial:
                if mode == "replace":
                    moves = len(coefficients.SPATIAL)
                    rows = torch.cat([torch.zeros_like(rows[:, :moves]), rows[:, moves:]], 1)
                self._check_sizes(image, crop)
                rows = generator.draw_spatial(numbers, part, rows, crop, image)
            drawn = generator.draw_others(numbers, part)
            changes = coefficients.encode(drawn, rows)
            if mode == "add":
                rows = rows + changes
            else:
                chosen = [name in drawn for name in coefficients.NAMES]
                rows = changes.where(torch.tensor(chosen, device=rows.device), rows)
        return rows.to(first.dtype)[:, :, None, None]

    def _sizes(self, first: Tensor, *images: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of the images, and of their crops."""
        if images:
            image, crop = (b.shape[2:] for b in images)
            return (image[0], image[1]), (crop[0], crop[1])
        if max(first.shape[2:]) > 1:
            return (first.shape[2], first.shape[3]), self.crop
        if self.image is None:
            self.refuse(
                "bottomwidth and bottomheight are missing; give both, or an image as the bottom"
            )
        return self.image, self.crop

    def _check_sizes(self, image: tuple[int, int], crop: tuple[int, int]) -> None:
        self.check(min(image) > 0, "the images need at least one pixel")
        # The original never ends for smaller ones.
        self.check(min(crop) > 1, "a random crop needs at least 2 x 2 pixels")
