"""This package: a weight file with its net definition, or another program's model file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from caffecompat.export.engines.base import Arrays, Engine, EngineOptions, check_inputs, engines
from caffecompat.export.inputs.region_inputs import (
    fact_inputs,
    flag_inputs,
    loose_values,
    region_inputs,
)
from caffecompat.export.model import CaffeModel
from caffecompat.export.source import read_source
from caffecompat.export.value_names import value_names
from caffecompat.graph import Version
from caffecompat.layers._recurrent import Recurrent
from caffecompat.layers.embed import Embed
from caffecompat.layers.forks.sequence._lstm import FlatLSTM
from caffecompat.net.fx_program import Program


@engines.register("caffecompat")
class CaffeNet(Engine):
    """A net in phase TEST on the CPU."""

    suffixes: ClassVar[tuple[str, ...]] = (
        *(".caffemodel", ".caffemodel.h5", ".h5", ".safetensors", ".pt", ".pth", ".mat"),
    )

    def __init__(self, path: Path, options: EngineOptions) -> None:
        source = read_source(path, options.model, options.max_bytes).of_dialect(options.dialect)
        self._use(source.model("running it"), path)

    @classmethod
    def of(cls, model: CaffeModel) -> CaffeNet:
        """The engine for a model in memory."""
        engine = cls.__new__(cls)
        engine._use(model, Path(model.path))
        return engine

    def _use(self, model: CaffeModel, path: Path) -> None:
        self._path = path
        self.model = model
        self.net = model.net()
        feeds = self.net.program().feeds
        self.inputs = {top.blob: self.net.shape_of(top) for top in feeds}
        self.regions, self.facts = region_inputs(self.net), fact_inputs(self.net)
        names = value_names(self.net)
        self.loose = {names[version] for version in loose_values(self.net)}
        self.indices = dict.fromkeys(flag_inputs(self.net), 2) | {
            bottom.blob: built.layer.rows
            for built in self.net.layers
            if isinstance(built.layer, Embed)
            for bottom in built.bottoms
        }

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        values = self._run(self.net.program(), inputs)
        # An output has the blob's name here, also where it replaces an input.
        return {version.blob: value for version, value in values.items()}

    def values(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        names = value_names(self.net)
        values = self._run(self.net.program(observed=True), inputs)
        # The last one of a name: copies of a value share one.
        return {names[version]: value for version, value in values.items()}

    def _run(self, program: Program, inputs: Mapping[str, np.ndarray]) -> dict[Version, np.ndarray]:
        check_inputs(self, inputs, self._path)
        for built in self.net.layers:
            if isinstance(built.layer, (Recurrent, FlatLSTM)):
                built.layer.state = None  # else it continues from the last run
        feeds = [torch.from_numpy(inputs[top.blob]) for top in program.feeds]
        with torch.inference_mode():
            values, _ = program(feeds)
        return {version: value.numpy() for version, value in values.items()}
