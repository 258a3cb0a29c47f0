"""A Caffe model on its way to another program: definition, weights and preprocessing."""

from __future__ import annotations

from dataclasses import dataclass

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.net import Net
from caffecompat.net.definition import Definition
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
        return Net(self.definition, self.weights)
