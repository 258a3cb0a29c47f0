"""Compares a net of stated shapes with the net that runs its layers on ``meta`` tensors."""

from __future__ import annotations

from typing import Any

from caffecompat.errors import CaffeError
from caffecompat.layers import BuildOptions
from caffecompat.net import Net
from caffecompat.net.definition import read_definition
from caffecompat.net.stated_net import stated_net

SHAPES_ONLY = BuildOptions(shapes_only=True)


def states_what_a_net_finds(
    source: Any, phase: str = "TEST", options: BuildOptions = SHAPES_ONLY
) -> bool:
    """Whether the layers of a definition state their shapes; they must be those of the Net.

    Args:
        source: a path or a NetParameter.
        options: with ``shapes_only``.
    """
    try:
        definition = read_definition(source)
    except CaffeError:
        return False
    stated = stated_net(definition, phase, options)
    if stated is None:
        return False
    net = Net(definition, phase=phase, options=options)
    assert (stated.notes, stated.name, stated.phase) == (net.notes, net.name, net.phase)
    assert (stated.inputs, stated.outputs) == (net.inputs, net.outputs)
    for ours, theirs in zip(stated.layers, net.layers, strict=True):
        assert (ours.name, ours.tops, ours.uses) == (theirs.name, theirs.tops, theirs.uses)
        assert list(map(tuple, ours.shapes)) == list(map(tuple, theirs.shapes)), ours.place
    return True
