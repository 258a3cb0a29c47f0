"""A net that computes its outputs for batches of images, without gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from caffecompat.errors import DataError, NetError
from caffecompat.export.model import CaffeModel
from caffecompat.graph import Version
from caffecompat.net import Net
from caffecompat.reporting.units import format_shape
from caffecompat.solver.setup.compute import ComputeOptions


@dataclass(frozen=True)
class InputSize:
    """Sizes of a net's input: channels, height and width in pixels."""

    channels: int
    height: int
    width: int

    @property
    def crop(self) -> tuple[int, int]:
        return self.height, self.width

    def check_scales(self, scales: Sequence[int]) -> None:
        """Refuses test scales (smallest sides, in pixels) at which an image may not fill the input.

        Raises:
            DataError: names the first of them.
        """
        for scale in scales:
            if scale < max(self.crop):
                raise DataError(
                    f"--scales: {scale} is smaller than the {self.height}x{self.width} of the "
                    "net's input, which an image of that scale cannot fill"
                )


def input_size(model: CaffeModel) -> InputSize:
    """The sizes of a net's only input.

    Raises:
        NetError: it has several inputs, or one without channels, height and width.
    """
    net = Net(model.definition, shapes_only=True)
    inputs = net.inputs
    if len(inputs) != 1:
        advice = "" if inputs else "; caffecompat deploy makes a deploy net of a train_val net"
        raise NetError(
            f"{model.path}: the net has {named(inputs, 'input')}, expected one for the images"
            + advice
        )
    shape = net.blobs[inputs[0]].shape
    if len(shape) != 4:
        raise NetError(
            f"{model.path}: input {inputs[0]!r} has the shape {format_shape(shape)}, expected "
            "images x channels x height x width"
        )
    return InputSize(*shape[1:])


def named(names: Sequence[str], noun: str) -> str:
    """``"2 inputs ('a', 'b')"``."""
    return f"{len(names)} {noun}s ({', '.join(map(repr, names))})" if names else f"no {noun}"


class InferenceNet:
    """A net of one input under a precision.

    Args:
        definition: the net, as :class:`caffecompat.Net` takes it.
        weights: its weights.
        device: where it runs.
        compute: precision and memory format; by default single precision.

    Attributes:
        net: the net itself.
    """

    def __init__(
        self,
        definition: Any,
        weights: Any,
        device: str | torch.device = "cpu",
        compute: ComputeOptions | None = None,
    ) -> None:
        self._compute = compute or ComputeOptions()
        self.net = Net(definition, weights, device=device)
        self._compute.prepare(self.net, train=False)
        self.net.requires_grad_(False)

    def __call__(self, batch: torch.Tensor) -> Mapping[Version, torch.Tensor]:
        """The outputs of the net.

        Args:
            batch: N x channels x height x width, float32, on any device; other sizes than those of
                the definition are allowed.
        """
        device = self.net.device
        with torch.inference_mode(), self._compute.whole_pass(), self._compute.forward(device):
            values, _ = self.net.inference_program()([batch.to(device, non_blocking=True)])
        return values
