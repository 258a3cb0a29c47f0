"""The layers of a net with their values instead of blob names, so that layers can be rewired.

A blob name stands for several values in a net with in-place layers. Here each layer names the
values that it reads and makes; layers are removed, replaced and inserted, and at the end every
value gets a blob name again, in a way that Caffe accepts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from caffecompat.export.free_names import free_name
from caffecompat.graph import Graph, Version
from caffecompat.proto import schema


@dataclass(eq=False)
class Step:
    """One layer.

    Attributes:
        message: a LayerParameter of its own; its bottoms and tops are written by
            :meth:`Wiring.layers`.
        place: where the layer is defined, for messages.
        bottoms, tops: the values that it reads and makes.
        location: ``file:line`` of its definition; empty where it is in no file.
    """

    message: Any
    place: str
    bottoms: list[Version] = field(default_factory=list)
    tops: list[Version] = field(default_factory=list)
    location: str = ""

    @property
    def name(self) -> str:
        return str(self.message.name)

    @property
    def type(self) -> str:
        return str(self.message.type)


class Wiring:
    """The layers of a graph in order, without the Split layers that a net adds by itself.

    Args:
        graph: the graph; it is not changed.

    Attributes:
        steps: the layers.
        outputs: the values that are outputs of the net.
    """

    def __init__(self, graph: Graph) -> None:
        self.steps: list[Step] = []
        self._names: dict[Version, str] = {}
        original: dict[Version, Version] = {}
        for node in graph:
            bottoms = [original.get(bottom, bottom) for bottom in node.bottoms]
            if node.automatic:
                original.update(dict.fromkeys(node.tops, bottoms[0]))
                continue
            message = schema.new("LayerParameter")
            message.CopyFrom(node.message)
            self.steps.append(Step(message, node.place, bottoms, list(node.tops), node.location))
        read = {bottom for step in self.steps for bottom in step.bottoms}
        made = [top for step in self.steps for top in step.tops]
        last = {self.name_of(top): top for top in made}
        self.outputs = [top for top in made if top not in read and last[self.name_of(top)] == top]

    def name_of(self, value: Version) -> str:
        """The blob name that a value has, or should have."""
        return self._names.get(value, value.blob)

    def rename(self, value: Version, name: str) -> None:
        """Gives a value the blob name ``name``, if that is possible in :meth:`layers`."""
        self._names[value] = name

    def producer(self, value: Version) -> Step | None:
        return next((step for step in self.steps if value in step.tops), None)

    def readers(self, value: Version) -> list[Step]:
        return [step for step in self.steps if value in step.bottoms]

    def can_bypass(self, step: Step) -> bool:
        """Whether no output of the net loses its name by :meth:`bypass`."""
        bottom = step.bottoms[0]
        producer = self.producer(bottom)
        named = producer is None or not producer.bottoms or len(self.readers(bottom)) > 1
        return not (named and set(step.tops) & set(self.outputs))

    def bypass(self, step: Step) -> None:
        """Removes a layer: those that read its tops read its first bottom instead.

        If a top was an output of the net, the bottom is one under the same name.
        """
        bottom = step.bottoms[0]
        self.steps.remove(step)
        for top in step.tops:
            for reader in self.steps:
                reader.bottoms = [bottom if value == top else value for value in reader.bottoms]
            if top in self.outputs:
                self.outputs[self.outputs.index(top)] = bottom
                self._names[bottom] = self.name_of(top)

    def layers(self) -> list[Any]:
        """The LayerParameter messages, with a blob name for each value.

        A value keeps its name if no earlier value has it. A layer works in place if its bottom has
        the name and no other reader; Caffe refuses other layers in place.
        """
        readers = Counter(value for step in self.steps for value in step.bottoms)
        wanted = {self.name_of(top) for step in self.steps for top in step.tops}
        names: dict[Version, str] = {}
        used: set[str] = set()
        for step in self.steps:
            bottoms = [names[value] for value in step.bottoms]
            tops = []
            for position, top in enumerate(step.tops):
                name = self.name_of(top)
                in_place = (
                    position < len(bottoms)
                    and bottoms[position] == name
                    and readers[step.bottoms[position]] == 1
                )
                if name in used and not in_place:
                    name = free_name(name, used | wanted)
                names[top] = name
                used.add(name)
                tops.append(name)
            step.message.bottom[:] = bottoms
            step.message.top[:] = tops
        return [step.message for step in self.steps]


def ancestors(values: Iterable[Version], producers: Mapping[Version, Step]) -> set[Version]:
    """The values, and all that they are made from.

    Args:
        producers: the layer that makes each value.
    """
    found: set[Version] = set()
    pending = list(values)
    while pending:
        value = pending.pop()
        if value not in found:
            found.add(value)
            pending += producers[value].bottoms
    return found


def net_of(message: Any, layers: Iterable[Any]) -> Any:
    """A NetParameter with other layers and else the content of ``message``."""
    changed = schema.new("NetParameter")
    changed.CopyFrom(message)
    del changed.layer[:]
    changed.layer.extend(layers)
    return changed


def renamed_places(names: Mapping[str, str], place: Any) -> Any:
    """A definition's ``place`` for layers that have new names: ``names`` is new to old."""
    if place is None:
        return None
    return lambda name, occurrence: place(names.get(name, name), occurrence)
