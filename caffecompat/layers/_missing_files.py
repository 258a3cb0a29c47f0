"""Files that the data layers of a net name and that are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._source import source_class

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.layers._base import Message


def refuse_missing(layer: Message, phase: str, definition: Message | None = None) -> None:
    """Raises if a file that a data layer needs is not there.

    Args:
        layer: the LayerParameter.
        phase: ``"TRAIN"`` or ``"TEST"``, the layer's.
        definition: the NetParameter that it is in; what its other data layers miss is named too.

    Raises:
        FileProblem: names the file, and the commands that make it and all others.
    """
    from caffecompat.data.advice import phase_of, raise_missing
    from caffecompat.proto.schema import new

    if definition is None:
        definition = new("NetParameter")
        definition.layer.add().CopyFrom(layer)
    own = _missing_of(layer, phase, definition)
    if not own:
        return
    # Each file once, as its layer in TRAIN wants it.
    wanted = {missing.path: missing for missing in own}
    for other in definition.layer:
        other_phase = phase_of(other)
        for missing in _missing_of(other, other_phase, definition):
            if other_phase == "TRAIN" or missing.path not in wanted:
                wanted[missing.path] = missing
    raise_missing(own[0], list(wanted.values()))


def _missing_of(layer: Message, phase: str, definition: Message) -> list[MissingInput]:
    source = source_class(layer.type)
    return [] if source is None else source.missing_files(layer, phase, definition)
