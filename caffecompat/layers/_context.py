"""What the user of a net chose, and what a layer may know about the net that it is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from caffecompat.data.read_options import ReadOptions

Message: TypeAlias = Any


@dataclass(frozen=True)
class BuildOptions(ReadOptions):
    """Options of a :class:`caffecompat.Net`, which takes each of them as a keyword too.

    Attributes:
        seed: fillers, dropout and data sampling are pure functions of it.
        workers, skip_corrupt, shard: see :class:`caffecompat.data.read_options.ReadOptions`. In a
            net that is one of several, each sample has the crops and the noise that it has in
            one net.
        level, stages: parts of the net state that include/exclude rules look at.
        state: a complete NetState message in place of phase, level and stages.
        shapes_only: parameters stay on torch's ``meta`` device and data sources need not exist;
            for looking at shapes and counting.
        shapes: with ``shapes_only``, shapes of data and input tops by name, in place of what their
            files or definitions say; of images the batch size may be left out.
        strict: refuse nets that Caffe refuses even where a sensible reading exists.
        allow_python: run the code that the net's Python layers name; without it they are refused.
        max_bytes: the largest net, weight file or list to read; None for the limit of each kind.
        lenient: pass over unknown fields, with a note, instead of refusing them; accept weights
            that fit no layer.
    """

    level: int = 0
    stages: Sequence[str] = ()
    state: Message = None
    shapes_only: bool = False
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    strict: bool = False
    allow_python: bool = False
    lenient: bool = False


@dataclass(frozen=True)
class Context:
    """What a layer may know about the net that it is in.

    Attributes:
        phase: ``"TRAIN"`` or ``"TEST"``, the layer's own phase where its definition has one.
        place: where the layer is defined, for messages ("net.prototxt:41: layer 'conv1' (ELU)").
        options: of the net.
        definition: the whole NetParameter, layers of other states included, for messages of data
            layers; None where it is unknown.
    """

    phase: str
    place: str
    options: BuildOptions = field(default_factory=BuildOptions)
    definition: Message | None = None
