"""A classification net that gives class posteriors for crops or for whole images."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from caffecompat.errors import NetError
from caffecompat.evaluate.images.inference_net import InferenceNet, input_size, named
from caffecompat.export.model import CaffeModel
from caffecompat.export.passes.fully_convolutional import fully_convolutional
from caffecompat.layers.sigmoid import Sigmoid
from caffecompat.layers.softmax import Softmax
from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.definition import Definition
from caffecompat.reporting.units import format_shape
from caffecompat.solver.setup.compute import ComputeOptions

Average = Literal["scores", "posteriors"]


class PosteriorNet:
    """Class posteriors of a batch of images.

    The net's softmax is removed and applied after the class score map has been averaged, or
    before it, if ``average`` is ``"posteriors"``. The paper says that the class score map is
    averaged, but not whether the softmax comes first. A net that ends in a Sigmoid, whose classes
    do not exclude each other, keeps it and gets no softmax.

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
        NetError: it has several inputs or outputs, its input has no channels, height and width, or
            its output has no classes.
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
        self._average = average
        self.size = input_size(model)
        if dense:
            model = fully_convolutional(model)
        self._net = InferenceNet(without_softmax(model), model.weights, device, compute)
        last = last_layer(self._net.net)
        self._has_sigmoid = isinstance(last.layer, Sigmoid)
        output = self._net.net.outputs[0]
        shape = self._net.net.blobs[output].shape
        self.classes = shape[1] if len(shape) > 1 else 0
        if self.classes < 2 and not self._has_sigmoid:
            raise NetError(
                f"{model.path}: the net's output {output!r} ({last.type}) is "
                f"{format_shape(shape)}, expected the scores of two or more classes along axis 1; "
                "the objects that a detection net finds are the result of caffecompat detect"
            )

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """The posteriors of a batch.

        Args:
            batch: N x channels x height x width, float32, on any device.

        Returns:
            N x classes, float32.
        """
        (scores,) = self._net(batch).values()
        # N x classes x positions of the map; a fully connected net has one position.
        maps = scores.float().reshape(len(scores), scores.shape[1], -1)
        if self._has_sigmoid:
            return maps.mean(2)
        if self._average == "posteriors":
            return maps.softmax(1).mean(2)
        return maps.mean(2).softmax(1)


def without_softmax(model: CaffeModel) -> Definition:
    """The definition of a net without the softmax of its only output.

    Raises:
        NetError: it has several outputs.
    """
    net = Net(model.definition, shapes_only=True)
    if len(net.outputs) != 1:
        raise NetError(
            f"{model.path}: the net has {named(net.outputs, 'output')}, expected one with the "
            "scores of the classes; remove the layers of the others"
        )
    message = type(model.definition.message)()
    message.CopyFrom(model.definition.message)
    last = last_layer(net)
    if isinstance(last.layer, Softmax):
        kept = [layer for layer in message.layer if layer.name != last.name]
        del message.layer[:]
        message.layer.extend(kept)
    return replace(model.definition, message=message)


def last_layer(net: Net) -> BuiltLayer:
    """The layer that gives the first output its final value."""
    return [built for built in net.layers if net.outputs[0] in {top.blob for top in built.tops}][-1]
