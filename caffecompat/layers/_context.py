"""The options of a net and the context in which a layer is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypedDict

from caffecompat.data.read_options import ReadOptions
from caffecompat.data.shard import Shard

Message: TypeAlias = Any


@dataclass(frozen=True)
class BuildOptions(ReadOptions):
    """Options of a :class:`caffecompat.Net`, which takes each of them as a keyword too.

    Attributes:
        seed: fillers, dropout and data sampling are pure functions of it.
        workers, skip_corrupt, shard: see :class:`caffecompat.data.read_options.ReadOptions`. On
            several ranks, each sample has the same crops and the same noise as on one rank.
        level, stages: the parts of the net state that include and exclude rules test.
        state: a complete NetState message that replaces phase, level and stages.
        shapes_only: parameters stay on torch's ``meta`` device and data sources need not exist;
            for computing shapes and counts.
        shapes: with ``shapes_only``, the shapes of data and input tops by name, which replace
            those of their files or definitions; for images the batch size may be omitted.
        strict: refuse all nets that Caffe refuses, including those with a clear meaning.
        allow_python: run the code that the net's Python layers name; without it they are refused.
        max_bytes: the largest net, weight file or list to read; None for each kind's own limit.
        lenient: ignore unknown fields with a note, instead of refusing them; accept weights that
            match no layer.
        dialect: the fork of Caffe whose layer types are meant where several forks define a type
            differently and the definition does not tell, e.g. ``"segnet"``.
    """

    level: int = 0
    stages: Sequence[str] = ()
    state: Message = None
    shapes_only: bool = False
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    strict: bool = False
    allow_python: bool = False
    lenient: bool = False
    dialect: str = ""


class BuildKeywords(TypedDict, total=False):
    """The fields of :class:`BuildOptions` as keywords, for type checkers."""

    seed: int
    workers: int | None
    skip_corrupt: bool
    shard: Shard
    max_bytes: int | None
    level: int
    stages: Sequence[str]
    state: Message
    shapes_only: bool
    shapes: Mapping[str, Sequence[int]]
    strict: bool
    allow_python: bool
    lenient: bool
    dialect: str


@dataclass(frozen=True)
class Context:
    """The part of a net's settings that its layers see.

    Attributes:
        phase: ``"TRAIN"`` or ``"TEST"``; the layer's own phase if its definition has one.
        place: where the layer is defined, for messages ("net.prototxt:41: layer 'conv1' (ELU)").
        options: the net's options.
        definition: the whole NetParameter, including layers of other states, for messages of data
            layers; None if it is unknown.
        path: the prototxt that the net was read from; None for a net in memory.
    """

    phase: str
    place: str
    options: BuildOptions = field(default_factory=BuildOptions)
    definition: Message | None = None
    path: str | None = None
