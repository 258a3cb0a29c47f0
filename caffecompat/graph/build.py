"""Construction of a graph: filtering by state, numbering of blob versions, insertion of splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from caffecompat.errors import AbsentBottom, NetError, WiringError, suggestion
from caffecompat.graph.graph import Graph, LayerNode, Version
from caffecompat.graph.splits import insert_splits
from caffecompat.graph.state import (
    PHASES,
    TEST,
    TRAIN,
    describe_rules,
    describe_state,
    fits_phase,
    layer_is_included,
    phase_name,
    phases_with,
)

Place = Callable[[str, int], str]

# Of the layers that would make a missing blob in other states, so many are named.
_MOST_PRODUCERS = 3
# So many mistakes are reported, as of a text; a suggestion for each would take for ever.
MOST_MISTAKES = 100


def build_graph(net: Any, state: Any, place: Place | None = None, strict: bool = False) -> Graph:
    """The graph of a net definition in one state.

    Args:
        net: an upgraded NetParameter message (``layer`` entries only).
        state: the NetState for the include and exclude rules.
        place: gives ``file:line`` for the n-th layer of a name.
        strict: refuse nets that Caffe refuses, even if they have a sensible meaning.

    Raises:
        WiringError: with one sentence per mistake.
        NetError: the net has no such state, or a mistake that only Caffe refuses, with ``strict``.
    """
    if state.phase not in (TRAIN, TEST):
        raise NetError(
            f"the state of net {net.name!r} has phase {phase_name(state.phase)}, which comes from "
            "another Caffe version; give TRAIN or TEST"
        )
    wiring = wire_layers(net, state, place)
    if wiring.problems:
        raise WiringError("\n".join(_most(wiring.problems)), wiring.absent)
    problems: list[str] = []
    notes = wiring.notes
    layers = insert_splits(wiring.nodes, notes, PHASES[state.phase])
    _check_in_place(layers, notes, problems if strict else None)
    if problems:
        raise NetError("\n".join(_most(problems)))
    return Graph(
        name=net.name,
        state=state,
        layers=layers,
        outputs=_net_outputs(layers, wiring.last),
        force_backward=net.force_backward,
        notes=notes,
    )


def _most(problems: list[str]) -> list[str]:
    """The first mistakes, and how many more there are."""
    more = len(problems) - MOST_MISTAKES
    if more <= 0:
        return problems
    return [*problems[:MOST_MISTAKES], f"and {more:,} more mistakes in the wiring"]


@dataclass(frozen=True)
class Wiring:
    """The layers of a net as they are written, without splits, mistakes included.

    Attributes:
        nodes: in file order. A bottom that no layer makes is a version that is no node's top.
        last: the last version of each blob.
        notes: sentences about layers that are left out by their rules.
        problems: one sentence per mistake.
        absent: those of them that are about bottoms that layers of other states make.
    """

    nodes: list[LayerNode]
    last: dict[str, Version]
    notes: list[str]
    problems: list[str]
    absent: list[AbsentBottom]


def wire_layers(net: Any, state: Any | None, place: Place | None = None) -> Wiring:
    """The layers of a net definition and their connections, also of one with mistakes.

    Args:
        net: an upgraded NetParameter message.
        state: the NetState for the include and exclude rules; None for the layers of every state.
        place: gives ``file:line`` for the n-th layer of a name.
    """
    problems: list[str] = []
    nodes, left_out = _included_layers(net, state, place, problems)
    kept = {node.name for node in nodes}
    notes = [layer.note(state) for layer in left_out if layer.message.name not in kept]
    made = _Connections(nodes, left_out, state)
    return Wiring(nodes, made.last, notes, problems + made.problems, made.absent)


@dataclass(frozen=True)
class _LeftOut:
    """A layer that its include and exclude rules leave out in this state."""

    message: Any
    place: str

    def note(self, state: Any) -> str:
        return (
            f"{self.place}: left out by its rules: it exists {describe_rules(self.message)}; this "
            f"net has {describe_state(state)}"
        )


_Entry = TypeVar("_Entry", LayerNode, _LeftOut)


def _included_layers(
    net: Any, state: Any | None, place: Place | None, problems: list[str]
) -> tuple[list[LayerNode], list[_LeftOut]]:
    seen: Counter[str] = Counter()
    nodes: list[LayerNode] = []
    left_out: list[_LeftOut] = []
    for message in net.layer:
        location = place(message.name, seen[message.name]) if place else ""
        where = _place(location, message)
        seen[message.name] += 1
        try:
            included = state is None or layer_is_included(message, state, where)
        except NetError as error:
            problems.append(str(error))
            continue
        if not included:
            left_out.append(_LeftOut(message, where))
            continue
        if message.phase not in (TRAIN, TEST):
            problems.append(
                f"{where}: phase {phase_name(message.phase)} comes from another Caffe version; "
                "give TRAIN or TEST, or remove it"
            )
        nodes.append(_unconnected(message, len(nodes), where, location, state))
    return nodes, left_out


def _unconnected(
    message: Any, index: int, where: str, location: str, state: Any | None
) -> LayerNode:
    """The node of a layer, without bottoms and tops."""
    return LayerNode(
        index=index,
        name=message.name,
        type=message.type,
        message=message,
        phase=_phase(message, state),
        place=where,
        bottoms=(),
        tops=(),
        loss_weights=tuple(message.loss_weight),
        location=location,
    )


def _phase(message: Any, state: Any | None) -> str:
    """The layer's own phase, else that of the state; of all states the first that has it."""
    if message.HasField("phase") and message.phase in (TRAIN, TEST):
        return PHASES[message.phase]
    if state is not None:
        return PHASES[state.phase]
    rules = [
        rule.phase
        for rule in message.include
        if rule.HasField("phase") and rule.phase in (TRAIN, TEST)
    ]
    return PHASES[rules[0]] if rules else PHASES[0]


def _place(location: str, message: Any) -> str:
    who = f"layer {message.name!r} ({message.type})"
    return f"{location}: {who}" if location else who


class _Connections:
    """Sets the versions of all bottoms and tops, layer by layer.

    Attributes:
        last: the last version of each blob so far.
        problems: one sentence per mistake.
        absent: those of them that are about bottoms that layers of other states make.
    """

    def __init__(self, nodes: list[LayerNode], left_out: list[_LeftOut], state: Any) -> None:
        self.last: dict[str, Version] = {}
        self.problems: list[str] = []
        self.absent: list[AbsentBottom] = []
        self._state = state
        self._producer: dict[str, str] = {}
        self._missing: set[str] = set()
        self._makers, self._left_out_makers = _by_top(nodes), _by_top(left_out)
        for node in nodes:
            self._set_bottoms(node)
            self._set_tops(node)

    def _set_bottoms(self, node: LayerNode) -> None:
        bottoms = list(node.message.bottom)
        for name in bottoms:
            if name not in self.last and name not in self._missing:
                self._missing.add(name)
                self.problems.append(self._missing_bottom(node, name))
        node.bottoms = tuple(self.last.get(name, Version(name)) for name in bottoms)

    def _missing_bottom(self, node: LayerNode, name: str) -> str:
        """The sentence about a bottom that no layer above makes."""
        elsewhere = self._left_out_makers.get(name)
        if elsewhere is not None:
            phases = phases_with([layer.message for layer in elsewhere])
            self.absent.append(AbsentBottom(node.name, name, phases))
            return _absent_bottom(node, name, elsewhere, self._state)
        later = [maker for maker in self._makers.get(name, ()) if maker is not node]
        if later:
            return _late_bottom(node, name, later[0])
        near = suggestion(name, self.last) if len(self.problems) < MOST_MISTAKES else ""
        return f"{node.place}: unknown bottom blob {name!r}{near}"

    def _set_tops(self, node: LayerNode) -> None:
        bottoms = list(node.message.bottom)
        tops: list[Version] = []
        for position, name in enumerate(node.message.top):
            in_place = position < len(bottoms) and bottoms[position] == name
            previous = self.last.get(name)
            if previous is not None and not in_place:
                self.problems.append(
                    f"{node.place}: top {name!r} is already the top of layer "
                    f"{self._producer[name]!r}; give it another name, or make the layer in-place "
                    "(same name at the same position of bottom and top)"
                )
            self.last[name] = Version(name, previous.number + 1 if previous else 0)
            self._producer[name] = node.name
            tops.append(self.last[name])
        node.tops = tuple(tops)


def _by_top(entries: Sequence[_Entry]) -> dict[str, list[_Entry]]:
    """The layers that make each blob."""
    found: dict[str, list[_Entry]] = {}
    for entry in entries:
        for top in entry.message.top:
            found.setdefault(top, []).append(entry)
    return found


def _absent_bottom(node: LayerNode, name: str, producers: list[_LeftOut], state: Any) -> str:
    # Layers of the net's own phase first: a stage or a level is what they lack.
    producers = sorted(producers, key=lambda layer: not fits_phase(layer.message, state.phase))
    made = [
        f"{describe_rules(layer.message)} (it is made by {layer.place})"
        for layer in producers[:_MOST_PRODUCERS]
    ]
    made += ["..."] * (len(producers) > _MOST_PRODUCERS)
    return (
        f"{node.place}: bottom {name!r} exists {', or '.join(made)}; this net has "
        f"{describe_state(state)}"
    )


def _late_bottom(node: LayerNode, name: str, maker: LayerNode) -> str:
    return (
        f"{node.place}: bottom {name!r} is made only later, by {maker.place}; "
        "layers run in file order, so move it up"
    )


def _check_in_place(layers: list[LayerNode], notes: list[str], problems: list[str] | None) -> None:
    """Reports in-place layers on blobs with other readers, which Caffe refuses.

    Without ``strict`` both values exist: the other readers get the value from before.
    """
    for node in layers:
        for position, top in enumerate(node.tops):
            original = node.message.bottom[position : position + 1]
            if list(original) != [top.blob] or node.bottoms[position].blob == top.blob:
                continue
            sentence = (
                f"{node.place}: works in place on {top.blob!r}, which another layer reads, too; "
                "Caffe refuses such nets, give the top another name"
            )
            if problems is None:
                notes.append(sentence + " (the other reader keeps the value from before)")
            else:
                problems.append(sentence)


def _net_outputs(layers: list[LayerNode], last: dict[str, Version]) -> list[str]:
    read = {bottom for node in layers for bottom in node.bottoms}
    made = {top for node in layers for top in node.tops}
    return sorted(top.blob for top in made - read if top.blob not in last or last[top.blob] == top)
