"""A prototxt, for comparisons with Python source, which has no weights either."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from caffecompat.export.engines.base import EngineOptions, engines
from caffecompat.export.engines.caffe_net import CaffeNet
from caffecompat.export.model import CaffeModel
from caffecompat.export.random_weights import random_weights
from caffecompat.net import Net
from caffecompat.net.definition import read_definition


@engines.register("definition")
class DefinitionEngine(CaffeNet):
    """A net in this package with random weights."""

    suffixes: ClassVar[tuple[str, ...]] = (".prototxt",)
    has_weights = False

    def __init__(self, path: Path, options: EngineOptions) -> None:
        definition = read_definition(path, max_bytes=options.max_bytes)
        definition = replace(definition, dialect=options.dialect)
        weights = random_weights(Net(definition))
        self._use(CaffeModel(definition, weights, path=str(path)), path)
