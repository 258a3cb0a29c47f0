"""A classification net that gives class posteriors for crops or for whole images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from caffecompat.errors import DataError, NetError
from caffecompat.export.model import CaffeModel
from caffecompat.export.passes.fully_convolutional import fully_convolutional
from caffecompat.layers.softmax import Softmax
from caffecompat.net import Net
from caffecompat.proto.schema import Message
from caffecompat.reporting.units import format_shape
from caffecompat.solver.setup.compute import ComputeOptions

Average = Literal["scores", "posteriors"]


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


class PosteriorNet:
    """Class posteriors of a batch of images.

    The net's softmax is taken off and applied after the class score map has been averaged, or
    before it, if ``average`` is ``"posteriors"``. The paper says that the class score map is
    averaged, but not whether the softmax comes first.

    Args:
        model: a deploy net with one input and one output, the scores or posteriors of classes.
        dense: make the net fully convolutional, for images of any size.
        average: what is averaged over the map.
        device: where the net runs.
        compute: precision and memory format.

    Attributes:
        size: of the net's input.
        classes: the number of classes.

    Raises:
        NetError: it has several inputs or outputs, or its input has no channels, height and width.
        ExportError: it cannot be made fully convolutional.
    """

    def __init__(
        self,
        model: CaffeModel,
        dense: bool = False,
        average: Average = "scores",
        device: str | torch.device = "cpu",
        compute: ComputeOptions | None = None,
    ) -> None:
        self._compute = compute or ComputeOptions()
        self._average = average
        self.size = input_size(model)
        if dense:
            model = fully_convolutional(model)
        message = without_softmax(model)
        self._net = Net(message, model.weights, device=device)
        self._compute.prepare(self._net, train=False)
        self._net.requires_grad_(False)
        self.classes = self._net.blobs[self._net.outputs[0]].shape[1]

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """The posteriors of a batch.

        Args:
            batch: N x channels x height x width, float32, on any device.

        Returns:
            N x classes, float32.
        """
        device = self._net.device
        with torch.inference_mode(), self._compute.whole_pass(), self._compute.forward(device):
            values, _ = self._net.program()([batch.to(device, non_blocking=True)])
        (scores,) = values.values()
        # N x classes x positions of the map; a fully connected net has one position.
        maps = scores.float().reshape(len(scores), scores.shape[1], -1)
        if self._average == "posteriors":
            return maps.softmax(1).mean(2)
        return maps.mean(2).softmax(1)


def input_size(model: CaffeModel) -> InputSize:
    """The sizes of a net's only input.

    Raises:
        NetError: it has several inputs, or one without channels, height and width.
    """
    net = Net(model.definition, shapes_only=True)
    inputs = net.inputs
    if len(inputs) != 1:
        raise NetError(
            f"{model.path}: the net has {_counted(inputs, 'input')}, expected one for the images; "
            "caffecompat deploy makes a deploy net of a train_val net"
        )
    shape = net.blobs[inputs[0]].shape
    if len(shape) != 4:
        raise NetError(
            f"{model.path}: input {inputs[0]!r} has the shape {format_shape(shape)}, expected "
            "images x channels x height x width"
        )
    return InputSize(*shape[1:])


def without_softmax(model: CaffeModel) -> Message:
    """The definition of a net without the softmax of its only output.

    Raises:
        NetError: it has several outputs.
    """
    net = Net(model.definition, shapes_only=True)
    if len(net.outputs) != 1:
        raise NetError(
            f"{model.path}: the net has {_counted(net.outputs, 'output')}, expected one with the "
            "scores of the classes; remove the layers of the others"
        )
    message = type(model.definition.message)()
    message.CopyFrom(model.definition.message)
    last = [built for built in net.layers if net.outputs[0] in {top.blob for top in built.tops}][-1]
    if isinstance(last.layer, Softmax):
        kept = [layer for layer in message.layer if layer.name != last.name]
        del message.layer[:]
        message.layer.extend(kept)
    return message


def _counted(names: list[str], noun: str) -> str:
    return f"{len(names)} {noun}s ({', '.join(map(repr, names))})" if names else f"no {noun}"
