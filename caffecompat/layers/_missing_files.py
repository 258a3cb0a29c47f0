"""Missing files of a net's data layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._source import source_class

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.layers._base import Message


def refuse_missing(
    layer: Message, phase: str, definition: Message | None = None, path: str | None = None
) -> None:
    """Raises if a file that a data layer needs is missing.

    Args:
        layer: the LayerParameter.
        phase: the layer's phase, ``"TRAIN"`` or ``"TEST"``.
        definition: the layer's NetParameter; the message covers the missing files of its other
            data layers too.
        path: the prototxt that the net was read from; a folder that has the file is looked for
            among its own and those above it.

    Raises:
        FileProblem: a file is missing; the message has the commands that create all of them.
    """
    from caffecompat.data.advice import phase_of, raise_missing
    from caffecompat.proto.schema import new

    if definition is None:
        definition = new("NetParameter")
        definition.layer.add().CopyFrom(layer)
    own = _missing_of(layer, phase, definition)
    if not own:
        return
    # Each file once, as its TRAIN layer needs it.
    wanted = {missing.path: missing for missing in own}
    for other in definition.layer:
        other_phase = phase_of(other)
        for missing in _missing_of(other, other_phase, definition):
            if other_phase == "TRAIN" or missing.path not in wanted:
                wanted[missing.path] = missing
    raise_missing(own[0], list(wanted.values()), path)


def _missing_of(layer: Message, phase: str, definition: Message) -> list[MissingInput]:
    source = source_class(layer)
    return [] if source is None else source.missing_files(layer, phase, definition)
