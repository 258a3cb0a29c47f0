"""A Caffe model that is converted: definition, weights and preprocessing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.net import Net
from caffecompat.net.definition import Definition
from caffecompat.proto import schema
from caffecompat.proto.schema import Message
from caffecompat.weights import Weights


@dataclass(frozen=True)
class CaffeModel:
    """A net definition with its weights.

    Attributes:
        definition: the upgraded definition.
        weights: by layer, as read from a file or taken from a net.
        preprocessing: what happens to an image before it is the net's input; None if unknown.
        path: the weight file, or the prototxt where there is none, for messages.
    """

    definition: Definition
    weights: Weights
    preprocessing: Preprocessing | None = None
    path: str = ""

    def net(self) -> Net:
        """A new net in phase TEST with these weights, on the CPU.

        Raises:
            NetError, UnknownName: the net cannot be built.
            WeightsError: the weights do not fit.
        """
        return Net(self.without_fillers(), self.weights)

    def without_fillers(self) -> Definition:
        """The definition without initial values for the layers that have weights.

        Drawing them takes longer than reading the weights that replace them.
        """
        message = schema.new("NetParameter")
        message.CopyFrom(self.definition.message)
        for layer in message.layer:
            if layer.name in self.weights and self.weights[layer.name].blobs:
                _clear_fillers(layer)
        return replace(self.definition, message=message)


def _clear_fillers(layer: Message) -> None:
    """Clears all fillers in the settings of a layer."""
    for field, settings in layer.ListFields():
        if not field.name.endswith("_param"):
            continue
        for inner in settings.DESCRIPTOR.fields:
            if inner.message_type is not None and inner.message_type.name == "FillerParameter":
                settings.ClearField(inner.name)
