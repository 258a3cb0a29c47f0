"""Modules for these tests, and the comparison of a module with its Caffe model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from caffecompat import Net
from caffecompat.export import from_torch
from caffecompat.export.model import CaffeModel
from caffecompat.proto.files import write_text
from caffecompat.weights import save_weights


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in evaluation mode, with values that show every mistake."""
    torch.manual_seed(seed)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.is_floating_point():
            with torch.no_grad():
                # Filters keep the size of values, also in deep nets.
                if value.dim() < 2:
                    value.uniform_(0.5, 1.5)
                else:
                    value.normal_(0, (1 / value[0].numel()) ** 0.5)
                if name.endswith(("bias", "running_mean")):
                    value.sub_(1)
    return module.eval()


def read_back(model: CaffeModel, folder: Path) -> Net:
    """The model after it was written as prototxt and caffemodel."""
    write_text(model.definition.message, folder / "net.prototxt")
    save_weights(model.weights, folder / "net.caffemodel")
    weights = folder / "net.caffemodel" if model.weights.layers else None
    return Net(folder / "net.prototxt", weights, strict=True)


def assert_same(module: nn.Module, shape: tuple[int, ...], folder: Path) -> CaffeModel:
    module = randomised(module)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    model = from_torch(module, x)
    net = read_back(model, folder)
    with torch.no_grad():
        expected = module(x.clone())
    expected = [expected] if isinstance(expected, Tensor) else list(expected)
    found = net.forward(**{net.inputs[0]: x.numpy()})
    assert len(found) == len(expected)
    notes = [re.fullmatch(r"output \d+ is blob '(.*)'", n) for n in model.definition.notes]
    names = [note[1] for note in notes if note]
    for name, value in zip(names, expected, strict=True):
        np.testing.assert_allclose(found[name], value.numpy(), atol=1e-5, rtol=1e-5)
    return model


class Each(nn.Module):
    """Several modules on one input."""

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.each = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(module(x) for module in self.each)


class Function(nn.Module):
    def __init__(self, function: Any, parameter: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.function = function
        self.p = nn.Parameter(torch.ones(parameter))

    def forward(self, x: Tensor) -> Any:
        return self.function(x, self.p)
