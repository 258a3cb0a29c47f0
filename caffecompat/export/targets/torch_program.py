"""Torch programs: ``.pt2`` files of torch.export."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from caffecompat.errors import ExportError, first_line
from caffecompat.export.inputs.input_sizes import Freedom, possible_sizes
from caffecompat.export.model import CaffeModel
from caffecompat.export.outputs import check_outputs
from caffecompat.export.targets.base import Target, targets
from caffecompat.net import Net
from caffecompat.output_files import atomic_write

METADATA = "caffecompat.json"


@targets.register("torch-program")
class TorchProgram(Target):
    """``.pt2``: the net's program of torch operators, with its weights.

    It loads with ``torch.export.load`` and needs nothing of this package. It takes the inputs in
    the order of the prototxt and returns a dict of outputs by blob name. The batch size is free
    where the net allows it. The extra file ``caffecompat.json`` has the names and shapes of the
    inputs, and the preprocessing.
    """

    suffixes = (".pt2",)
    engine = "torch"
    holds_preprocessing = True

    def refuse(self, model: CaffeModel) -> None:
        net = Net(model.definition, shapes_only=True)
        check_outputs(net, model.path or net.name)

    def write(self, model: CaffeModel, path: Path) -> None:
        self.refuse(model)
        net = model.net()
        who = model.path or net.name
        _check_state(net, who)
        exported = _exported(net, who)
        _check_randomness(net, exported, who)
        names = [top.blob for top in net.program().feeds]
        inputs = {top.blob: net.shape_of(top) for top in net.program().feeds}
        metadata: dict[str, Any] = {"inputs": names, "shapes": inputs}
        if model.preprocessing is not None:
            metadata["preprocessing"] = json.loads(model.preprocessing.to_json())
        text = json.dumps(metadata, ensure_ascii=False)
        with atomic_write(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(exported, file, extra_files={METADATA: text})

    def loading_lines(self, model: CaffeModel, path: Path) -> list[str]:
        return ["import torch", f"net = torch.export.load({str(path)!r}).module()"]


class _ByBlob(nn.Module):
    """A net's program that returns its outputs by blob name."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        program = net.program()
        self.program = program.module
        self._names = [version.blob for version in program.versions]

    def forward(self, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        values, _ = self.program(*inputs)
        return dict(zip(self._names, values, strict=True))


def _exported(net: Net, who: str) -> torch.export.ExportedProgram:
    """The program, for any batch where the net and torch allow it.

    Raises:
        ExportError: torch cannot export it.
    """
    net.requires_grad_(False)
    shapes = [net.shape_of(top) for top in net.program().feeds]
    phase = net.phase.lower()
    shapes_only = Net(net.definition, phase=phase, shapes_only=True, dialect=net.dialect)
    failure: Exception | None = None
    for freedom in (Freedom.BATCH, Freedom.NONE):
        free = freedom is Freedom.BATCH
        if possible_sizes(shapes_only, freedom) is None:
            continue
        if free and len({shape[0] for shape in shapes if shape}) > 1:
            continue  # it would be one extent for all inputs
        # torch takes a batch of 1 for a fixed size.
        batch = [(max(2, shape[0]), *shape[1:]) if free else shape for shape in shapes]
        inputs = tuple(torch.zeros(shape) for shape in batch)
        dims = {0: torch.export.Dim("batch")} if free else None
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.export.export(
                    _ByBlob(net),
                    inputs,
                    dynamic_shapes=(tuple(dims for _ in inputs),),
                    strict=False,
                )
        except Exception as error:  # of any type, depending on what the trace meets
            failure = error
    assert failure is not None
    raise ExportError(f"{who}: torch cannot export this net: {first_line(failure)}") from failure


def _check_state(net: Net, who: str) -> None:
    """Refuses layers whose state passes from pass to pass.

    Raises:
        ExportError: there is one.
    """
    for built in net.layers:
        if built.layer is not None and built.layer.keeps_state:
            raise ExportError(
                f"{who}: {built.place} keeps state from pass to pass, which a torch program does "
                "not; run the net in Python"
            )


def _check_randomness(net: Net, exported: torch.export.ExportedProgram, who: str) -> None:
    """Refuses a program that reads the number of the pass, which is a constant in it.

    Raises:
        ExportError: a layer draws random numbers, or counts passes.
    """
    read = [name for name, value in exported.constants.items() if value is net.position]
    readers = {name.split(".")[1] for name in read}  # program.<module>.<constant>
    modules = [net.program().module.get_submodule(name) for name in sorted(readers)]
    for built in net.layers:
        if any(module is built.module for module in modules):
            raise ExportError(
                f"{who}: {built.place} computes something else in each pass, from random numbers "
                "or a schedule, and a torch program would repeat the first pass; run the net in "
                "Python"
            )
