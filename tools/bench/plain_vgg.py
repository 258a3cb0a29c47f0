"""One of the paper's nets in plain PyTorch, and the loop that trains it; no script."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from caffecompat.solver import Solver

CLASSES = 1000
# Output channels of the convolutions of the paper's Table 1; 0 is a pooling.
COLUMNS = {
    "A": [64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0],
    "B": [64, 64, 0, 128, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0],
    "D": [64, 64, 0, 128, 128, 0, *[256] * 3, 0, *[512] * 3, 0, *[512] * 3, 0],
    "E": [64, 64, 0, 128, 128, 0, *[256] * 4, 0, *[512] * 4, 0, *[512] * 4, 0],
}
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Plain:
    """The loop that a careful user of PyTorch would write."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        device: torch.device,
        images: torch.Tensor,
        labels: torch.Tensor,
    ) -> None:
        form = torch.channels_last
        self.model: Any = vgg(COLUMNS[arguments.net], arguments.size).to(device, memory_format=form)  # type: ignore
        self._whole = self.model
        self.images = images.to(device, memory_format=form)
        self.labels = labels.to(device)
        self.half = HALVES.get(arguments.precision)
        self.device = device
        self.optimiser = torch.optim.SGD(
            self.model.parameters(),
            1e-4,
            momentum=0.9,
            weight_decay=5e-4,
            fused=True,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=arguments.precision == "fp16")
        if arguments.compile:
            self.compile()

    def compile(self, mode: str | None = None) -> None:
        """With torch.compile; ``mode`` is one of its own."""
        self.model = torch.compile(self._whole, mode=mode)

    @torch.no_grad()
    def give_weights(self, solver: Solver) -> None:
        """Gives a solver's net of the same column these weights."""
        for entry, own in zip(solver.net.learnable, self.model.parameters(), strict=True):
            entry.tensor.copy_(own.view(entry.tensor.shape))

    def forward_backward(self) -> None:
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            loss = F.cross_entropy(self.model(self.images), self.labels)
        self.scaler.scale(loss).backward()

    def step(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        self.forward_backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()


def vgg(column: list[int], size: int = 224) -> nn.Module:
    layers: list[nn.Module] = []
    channels, side = 3, size // 32
    for outputs in column:
        if outputs == 0:
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(inplace=True)]
        channels = outputs
    layers += [nn.Flatten(), nn.Linear(512 * side**2, 4096), nn.ReLU(inplace=True), nn.Dropout()]
    layers += [nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(4096, CLASSES))
