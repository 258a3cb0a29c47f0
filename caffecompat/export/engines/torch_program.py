"""Torch programs: ``.pt2`` files of torch.export."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caffecompat.errors import ExportError, FormatError, first_line
from caffecompat.export.engines.base import Arrays, Engine, EngineOptions, check_inputs, engines
from caffecompat.export.targets.torch_program import METADATA
from caffecompat.input_files import open_input


@engines.register("torch")
class TorchProgramEngine(Engine):
    """A program of torch.export, on the CPU.

    ``torch.export.load`` unpickles parts of the file without limits, so that a file can run any
    code. Files are loaded only if the user trusts them.
    """

    suffixes = (".pt2",)

    def __init__(self, path: Path, options: EngineOptions) -> None:
        self._path = path
        open_input(path, options.max_bytes).close()
        if not options.trust:
            raise ExportError(
                f"{path}: torch runs code that such a file may contain; if you know where it comes "
                "from, give --trust"
            )
        extra = {METADATA: ""}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program = torch.export.load(path, extra_files=extra)
            self._module = program.module()
        except Exception as error:  # torch's readers raise exceptions of nearly every type
            raise FormatError(
                f"{path}: is no torch program, or is damaged: {first_line(error)}"
            ) from error
        self.inputs = _inputs(program, extra[METADATA])

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        check_inputs(self, inputs, self._path)
        given = [torch.from_numpy(inputs[name]) for name in self.inputs]
        try:
            with torch.inference_mode():
                found = self._module(*given)
        except Exception as error:
            raise ExportError(f"{self._path}: torch fails: {first_line(error)}") from error
        return outputs_by_name(found)


def _inputs(program: Any, metadata: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by the names that this package wrote, or by torch's own names; 0 for free extents."""
    names = list(program.graph_signature.user_inputs)
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    shapes = [
        tuple(extent if isinstance(extent, int) else 0 for extent in values[name].shape)
        for name in names
    ]
    if metadata:
        # A file of somebody else may have another text there.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            names = [str(name) for name in json.loads(metadata)["inputs"]]
    return dict(zip(names, shapes, strict=True))


def outputs_by_name(found: Any) -> Arrays:
    """What a module returned, by name; tensors without names are called output, output0 ..."""
    if isinstance(found, torch.Tensor):
        found = {"output": found}
    elif isinstance(found, (tuple, list)):
        found = {f"output{index}": value for index, value in enumerate(found)}
    return {name: value.numpy() for name, value in found.items()}
