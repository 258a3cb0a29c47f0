"""Labels, settings and random numbers of DetectNet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

GRID = "stride: 4 image_size_x: 32 image_size_y: 24 scale_cvg: 0.5 "


NOTHING = (
    "crop_prob: 0 scale_prob: 0 flip_prob: 0 rotation_prob: 0 hue_rotation_prob: 0 "
    "desaturation_prob: 0 "
)


def labels(boxes: list[Any], room: int = 5) -> Tensor:
    """(N, 1, room, 16) of boxes (x, y, width, height, class)."""
    made = torch.zeros(len(boxes), 1, room, 16)
    for image, own in enumerate(boxes):
        made[image, 0, 0, :2] = torch.tensor([len(own), 16])
        for row, (x, y, width, height, kind) in enumerate(own, 1):
            made[image, 0, row, :6] = torch.tensor([x, y, width, height, 0, kind])
    return made


def noise(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator).float()


def settings(grid: str = GRID, more: str = NOTHING, transform: str = "") -> str:
    return (
        f"detectnet_groundtruth_param {{ {grid} }} detectnet_augmentation_param {{ {more} }} "
        f"transform_param {{ {transform} }}"
    )
