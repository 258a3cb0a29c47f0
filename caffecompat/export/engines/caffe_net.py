"""This package: a weight file with its prototxt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from caffecompat.errors import ExportError
from caffecompat.export.engine import Arrays, Engine, EngineOptions, check_inputs, engines
from caffecompat.export.model import CaffeModel
from caffecompat.export.value_names import value_names
from caffecompat.net.definition import read_definition
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.weights import load_weights


@engines.register("caffecompat")
class CaffeNet(Engine):
    """A net in phase TEST on the CPU."""

    suffixes = (".caffemodel", ".caffemodel.h5", ".h5", ".safetensors", ".pt", ".pth", ".mat")

    def __init__(self, path: Path, options: EngineOptions) -> None:
        self._use(_read(path, options), path)

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

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        values = self.values(inputs)
        names = value_names(self.net)
        last = {top.blob: top for built in self.net.layers for top in built.tops}
        # An output has the blob's name here, also where it replaces an input.
        return {blob: values[names[last[blob]]] for blob in self.net.outputs}

    def values(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        check_inputs(self, inputs, self._path)
        program = self.net.program(observed=True)
        names = value_names(self.net)
        feeds = [torch.from_numpy(inputs[top.blob]) for top in program.feeds]
        with torch.inference_mode():
            values, _ = program(feeds)
        # The last one of a name: copies of a value share one.
        return {names[version]: value.numpy() for version, value in values.items()}


def _read(path: Path, options: EngineOptions) -> CaffeModel:
    if options.model is None:
        raise ExportError(
            f"{path}: a weight file runs with its net definition; give it with --model "
            "deploy.prototxt"
        )
    definition = read_definition(options.model, max_bytes=options.max_bytes)
    weights = load_weights(path, torch_naming(), options.max_bytes)
    return CaffeModel(definition, weights, path=str(path))
