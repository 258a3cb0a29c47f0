"""The layers and weights of a model that is being built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffecompat.export.free_names import free_name
from caffecompat.export.wiring import Wiring
from caffecompat.graph import Version, build_graph, net_state
from caffecompat.proto import schema
from caffecompat.weights import LayerWeights, Weights

# Types that Caffe runs in place; with two bottoms none of them does.
IN_PLACE = frozenset(
    {
        *("BatchNorm", "Bias", "Clip", "Dropout", "ELU", "PReLU", "Power", "ReLU", "Scale"),
        *("Sigmoid", "TanH"),
    }
)


class Layers:
    """Collects layers; one with a single top gives it the layer's name."""

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._weights: list[LayerWeights] = []
        self._names: set[str] = set()
        self._users: dict[str, list[tuple[Any, int]]] = {}

    def add(
        self,
        kind: str,
        name: str,
        bottoms: Sequence[str],
        blobs: Sequence[np.ndarray] = (),
        parameters: Sequence[str] = (),
        tops: int = 1,
    ) -> Any:
        message = schema.new("LayerParameter")
        message.name, message.type = self._free(name), kind
        message.bottom.extend(bottoms)
        if tops == 1:
            message.top.append(message.name)
        else:
            message.top.extend(self._free(f"{message.name}_{i}") for i in range(tops))
        self._messages.append(message)
        if blobs:
            self._weights.append(LayerWeights(message.name, kind, list(blobs)))
        for index, parameter in enumerate(parameters):
            self._users.setdefault(parameter, []).append((message, index))
        return message

    def silence_pieces(self, outputs: Sequence[str]) -> None:
        """Lets Silence read the tops of layers with several that are no outputs of the module."""
        several = [top for m in self._messages if len(m.top) > 1 for top in m.top]
        unread = [top for top in several if not self.is_read(top) and top not in outputs]
        if unread:
            self.add("Silence", "unused", unread, tops=0)

    def is_read(self, blob: str) -> bool:
        return any(blob in message.bottom for message in self._messages)

    def is_input(self, blob: str) -> bool:
        return any(not m.bottom and blob in m.top for m in self._messages)

    def _free(self, name: str) -> str:
        """The name, or with a number where there is such a layer."""
        candidate = free_name(name, self._names)
        self._names.add(candidate)
        return candidate

    def finish(self, name: str) -> tuple[Any, Weights, dict[str, str]]:
        """Runs layers in place where Caffe can.

        Returns:
            The NetParameter, the weights, and the blob name that each top has now.
        """
        self._share()
        message = schema.new("NetParameter")
        message.name = name
        message.layer.extend(self._messages)
        wiring = Wiring(build_graph(message, net_state(message, "test")))
        inputs = {top for step in wiring.steps if not step.bottoms for top in step.tops}
        for step in wiring.steps:
            if step.type in IN_PLACE and len(step.bottoms) == 1:
                bottom: Version = step.bottoms[0]
                if bottom not in inputs and len(wiring.readers(bottom)) == 1:
                    wiring.rename(step.tops[0], wiring.name_of(bottom))
        del message.layer[:]
        message.layer.extend(wiring.layers())
        names = {
            before.blob: now
            for step in wiring.steps
            for before, now in zip(step.tops, step.message.top, strict=True)
        }
        return message, Weights(self._weights, name), names

    def _share(self) -> None:
        """Gives a name to each parameter that several layers use, as Caffe shares them."""
        for parameter, users in self._users.items():
            if len(users) < 2:
                continue
            for message, index in users:
                while len(message.param) <= index:
                    message.param.add()
                message.param[index].name = parameter
