"""Torch modules as Caffe models: the outputs are equal after writing and reading."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize, pad, rrelu
from torch.nn.functional import scaled_dot_product_attention as attention

from caffecompat.export import from_torch
from caffecompat.export.model import CaffeModel
from caffecompat.export.torch_import.traced_program import from_program
from tests.export.torch_import.converted import (
    Each,
    Function,
    assert_same,
    randomised,
    read_back,
)
from tests.export.torch_import.modules import NETS


def types(model: CaffeModel) -> list[str]:
    return [m.type for m in model.definition.message.layer]


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.__name__)
def test_nets_with_the_structure_of_torchvisions(net: type[nn.Module], tmp_path: Path) -> None:
    model = assert_same(net(), NETS[net], tmp_path)
    keys = {name.rpartition(".")[0] for name, _ in net().named_parameters()}
    layers = {layer.name.removesuffix("_scale") for layer in model.weights.layers}
    assert keys <= layers


MODULES = [
    (nn.Conv2d(4, 6, (3, 2), (1, 2), (0, 1), (2, 1), groups=2), ["Convolution"]),
    (nn.Conv2d(4, 6, 3, padding="same"), ["Convolution"]),
    (nn.ConvTranspose2d(4, 6, (3, 2), (2, 1), (1, 0), 0, 2, True, (1, 2)), ["Deconvolution"]),
    (nn.Linear(7, 3), ["InnerProduct"]),
    (nn.Linear(7, 3, bias=False), ["InnerProduct"]),
    (nn.BatchNorm2d(4, eps=0.1), ["BatchNorm", "Scale"]),
    (nn.ReLU(), ["ReLU"]),
    (nn.ReLU6(), ["Clip"]),
    (nn.LeakyReLU(0.3), ["ReLU"]),
    (nn.PReLU(), ["PReLU"]),
    (nn.PReLU(4), ["PReLU"]),
    (nn.ELU(0.7), ["ELU"]),
    (nn.Sigmoid(), ["Sigmoid"]),
    (nn.Tanh(), ["TanH"]),
    (nn.Softplus(), ["BNLL"]),
    (nn.SiLU(), ["Sigmoid", "Eltwise"]),
    (nn.Hardswish(), ["Power", "Clip", "Eltwise"]),
    (nn.Hardsigmoid(), ["Power", "Clip"]),
    (nn.Hardtanh(-0.4, 0.8), ["Clip"]),
    (nn.MaxPool2d(3, 2), ["Pooling"]),
    (nn.MaxPool2d(2, 3, 1), ["Pooling"]),
    (nn.MaxPool2d((2, 3), (2, 1), ceil_mode=True), ["Pooling"]),
    (nn.AvgPool2d(3, 2), ["Pooling"]),
    (nn.AvgPool2d(3, 2, 1), ["Pooling"]),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True), ["Pooling"]),
    (nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False), ["Pooling"]),
    (nn.AdaptiveAvgPool2d(1), ["Pooling"]),
    (nn.AdaptiveAvgPool2d((3, 1)), ["Pooling"]),
    (nn.LocalResponseNorm(3, 0.5, 0.7, 1.5), ["LRN"]),
    (nn.Softmax(1), ["Softmax"]),
    (nn.Softmax(-1), ["Softmax"]),
    (nn.Flatten(), ["Flatten"]),
    (nn.Flatten(2), ["Reshape"]),
    (nn.GELU(), ["Gelu"]),
    (nn.GELU("tanh"), ["Gelu"]),
    (nn.LayerNorm((4, 6, 7), 0.1), ["LayerNorm"]),
    (nn.LayerNorm(7), ["Reshape", "LayerNorm", "Reshape"]),
    (nn.LayerNorm((6, 7), bias=False), ["Reshape", "LayerNorm", "Reshape"]),
    (nn.LayerNorm(7, elementwise_affine=False), ["Reshape", "LayerNorm", "Reshape"]),
    (nn.ZeroPad2d((1, 2, 0, 3)), ["Pad"]),
]  # fmt: skip


def test_each_module(tmp_path: Path) -> None:
    """One program for all of them: a trace takes longer than everything else."""
    model = assert_same(Each([module for module, _ in MODULES]), (2, 4, 6, 7), tmp_path)
    made = [(m.name, m.type) for m in model.definition.message.layer]
    for index, (module, expected) in enumerate(MODULES):
        own = [kind for name, kind in made if re.fullmatch(rf"each\.{index}(_.*)?", name)]
        assert own == expected, module


def filled(x: Tensor, p: Tensor) -> Tensor:
    """Memory that is written before it is read, and functions that draw in training alone."""
    shift = torch.empty(4, 1, 1).fill_(0.5) + torch.empty(4, 1, 1).zero_()
    shift = shift + torch.empty(4, 1, 1).copy_(p) + dropout(p, 0.5, training=False)
    return x + (shift + rrelu(-p, training=False))


def half(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x * 0.5
    return y, y + x


def in_place(x: Tensor) -> Tensor:
    y = x * 2
    z = y.view(y.shape[0], -1)
    z.relu_()
    return y + x


FUNCTIONS = [
    (lambda x, p: x + x * 2, ()),
    (lambda x, p: x - torch.sigmoid(x), ()),
    (lambda x, p: 3 - x, ()),
    (lambda x, p: torch.add(x, x, alpha=-0.3), ()),
    (lambda x, p: -x / 4 + 1, ()),
    (lambda x, p: x * p, (1, 4, 1, 1)),
    (lambda x, p: p + x * torch.tensor(0.25), (4, 1, 1)),
    (lambda x, p: x - p.exp(), (4, 1, 1)),
    (lambda x, p: x * x.mean((2, 3), keepdim=True), ()),
    (lambda x, p: x.mean([2, 3]), ()),
    (lambda x, p: x.mean((1, 2, 3)), ()),
    (lambda x, p: x.sum(-1), ()),
    (lambda x, p: x.sum((2, 3), keepdim=True) * 0.1, ()),
    (lambda x, p: x**2 + (x.abs() + 1).sqrt(), ()),
    (lambda x, p: (x.abs() + 1).rsqrt() - 1 / (2 + x.abs()), ()),
    (lambda x, p: (x.exp() + 1).log(), ()),
    (lambda x, p: torch.maximum(x, 0.5 - x).clamp_max(0.9), ()),
    (lambda x, p: (x - p) / (p + 2), (4, 1, 1)),
    (lambda x, p: p - 2 * x, (4, 1, 1)),
    (lambda x, p: x * p.chunk(2)[1], (8, 1, 1)),
    (lambda x, p: torch.cat([x, x * 2], 2), ()),
    (lambda x, p: x.clamp(min=0).clamp(max=0.7).abs(), ()),
    (lambda x, p: half(x), ()),
    (lambda x, p: in_place(x), ()),
    (filled, (4, 1, 1)),
    (lambda x, p: (x.tanh(), x.tanh().flatten(1)), ()),
    (lambda x, p: x[:, 1:3] * 2, ()),
    (lambda x, p: x[:, :, -2:].narrow(3, 0, 4), ()),
    (lambda x, p: x.select(2, -1), ()),
    (lambda x, p: x[:, 0] + x[:, 3], ()),
    (lambda x, p: x.split(3, 3), ()),
    (lambda x, p: x.split((1, 4, 1), 2)[1], ()),
    (lambda x, p: torch.cat(x.chunk(2, 1)[::-1], 1), ()),
    (lambda x, p: x.unbind(1)[2].relu(), ()),
    (lambda x, p: x.transpose(1, 2), ()),
    (lambda x, p: x.permute(0, 1, 3, 2), ()),
    (lambda x, p: x.view(2, 2, 2, 6, 7).transpose(1, 2).reshape(2, 4, 6, 7), ()),
    (lambda x, p: x.mean((2, 3), keepdim=True).transpose(2, 1), ()),
    (lambda x, p: x.permute(0, 2, 3, 1), ()),
    (lambda x, p: x.permute(0, 3, 1, 2).flatten(1), ()),
    (lambda x, p: x.unsqueeze(1).permute(0, 2, 3, 1, 4), ()),
    (lambda x, p: x.reshape(-1, 7).sigmoid().view(2, 4, 6, 7), ()),
    (lambda x, p: x[:, ::2], ()),
    (lambda x, p: x[:, 1::2], ()),
    (lambda x, p: x[:, :, ::4], ()),
    (lambda x, p: x[:, :, :, ::2], ()),
    (lambda x, p: x[:, :, 1:6:3, 1::5], ()),
    (lambda x, p: x[:, :, 5::2], ()),
    (lambda x, p: pad(x, (1, 2)), ()),
    (lambda x, p: pad(x, (0, 0)) + 1, ()),
    (lambda x, p: x @ x.transpose(2, 3), ()),
    (lambda x, p: x.flatten(0, 1).bmm(x.flatten(0, 1).mT), ()),
    (lambda x, p: torch.einsum("nchw, ncvw -> nchv", x, x * 2), ()),
    (lambda x, p: torch.einsum("nchw,nchv->ncvw", x, x.sigmoid()), ()),
    (lambda x, p: torch.einsum("ncij,ncjd->ncid", x @ x.mT, x), ()),
    (lambda x, p: attention(x, x * 0.5, x.relu()), ()),
    (lambda x, p: attention(x, x[:, :, 1:], x[:, :, :-1], scale=0.3), ()),
    (lambda x, p: x.roll((1, -2), (2, 3)), ()),
    (lambda x, p: x.roll(-1, 1), ()),
    (lambda x, p: x + p, (4, 6, 7)),
    (lambda x, p: x * p - p, (6, 1)),
    (lambda x, p: x * p, (1, 7)),
    (lambda x, p: torch.cat([p.expand(2, -1, -1, -1), x], 1), (1, 2, 6, 7)),
    (lambda x, p: x / x.abs().clamp_min(0.1), ()),
    (lambda x, p: normalize(x, dim=-1), ()),
    (lambda x, p: x.norm(dim=3), ()),
    (lambda x, p: x[:, :1].expand(-1, 3, -1, -1), ()),
    (lambda x, p: x + x.new_zeros(6, 7).fill_(0.5), ()),
    (lambda x, p: pad(x, (0, 1, 2, 0, 1, 1), value=-0.5), ()),
]


class Flat(nn.Module):
    def __init__(self, functions: list[Function]) -> None:
        super().__init__()
        self.functions = nn.ModuleList(functions)

    def forward(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for function in self.functions:
            value = function(x)
            found += [value] if isinstance(value, Tensor) else value
        return found


def test_functions(tmp_path: Path) -> None:
    functions = [Function(function, parameter) for function, parameter in FUNCTIONS]
    assert_same(Flat(functions), (2, 4, 6, 7), tmp_path)


def test_parts_become_slices(tmp_path: Path) -> None:
    """What nothing reads goes to Silence, so that the net has the module's outputs alone."""
    parts = Function(lambda x, p: (x[:, 1:3].relu(), x.unbind(2)[4]))
    model = assert_same(parts, (2, 4, 6, 7), tmp_path)
    assert types(model) == ["Input", "Slice", "ReLU", "Slice", "Reshape", "Silence"]
    message = model.definition.message
    assert list(message.layer[1].slice_param.slice_point) == [1, 3]
    assert len(message.layer[-1].bottom) == 2 + 5


def test_a_channel_shuffle_cuts_the_shorter_axis(tmp_path: Path) -> None:
    shuffled = Function(lambda x, p: x.view(2, 6, 2, 5).transpose(1, 2).reshape(2, 12, 5))
    model = assert_same(shuffled, (2, 12, 5), tmp_path)
    assert types(model).count("Slice") == 1
    (pieces,) = [len(m.top) for m in model.definition.message.layer if m.type == "Slice"]
    assert pieces == 2
    wide = Function(lambda x, p: x.transpose(1, 2))
    model = assert_same(wide, (2, 65, 66), tmp_path)
    assert types(model) == ["Input", "Permute"]


def test_types_of_forks_are_noted(tmp_path: Path) -> None:
    model = assert_same(nn.Sequential(nn.LayerNorm(7), nn.GELU()), (2, 7), tmp_path)
    assert model.definition.notes[-1] == (
        "layer types of forks, which BVLC Caffe lacks: LayerNorm (Synopsys), Gelu (MyCaffe)"
    )


class Encoder(nn.Module):
    """Positions, a first token and an encoder layer, as in ViT; shifted windows, as in Swin."""

    def __init__(self, positions: int = 6, size: int = 4) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.ones(1, 1, size))
        self.places = nn.Parameter(torch.ones(1, positions + 1, size))
        self.layer = nn.MultiheadAttention(size, 2, batch_first=True)
        self.bias = nn.Parameter(torch.ones(2, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.places
        read, _ = self.layer(tokens, tokens, tokens, need_weights=False)
        windows = x.roll(1, 1).view(len(x), 2, 3, 2, 2).permute(0, 1, 3, 2, 4)
        parts = windows.reshape(len(x) * 2, 2, 3, 2) + self.bias.unsqueeze(-1)
        return read[:, 0], parts.reshape(len(x), -1, 2).softmax(1)


@pytest.mark.parametrize("items", [1, 3])
def test_attention_in_any_batch(items: int, tmp_path: Path) -> None:
    """The items are on the second axis in between, and in one axis with heads and positions."""
    module = randomised(Encoder())
    model = from_torch(module, torch.zeros(items, 6, 4))
    net = read_back(model, tmp_path)
    for batch in (items, 2, 5):
        x = torch.randn(batch, 6, 4, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected = module(x)
        names = [note.split("'")[1] for note in model.definition.notes if " is blob " in note]
        found = net.forward(**{net.inputs[0]: x.numpy()})
        for name, value in zip(names, expected, strict=True):
            np.testing.assert_allclose(found[name], value.numpy(), atol=1e-5)


def test_a_program_tells_that_its_shapes_are_those_of_the_example(tmp_path: Path) -> None:
    module, x = randomised(Encoder()), torch.randn(1, 6, 4)
    words = "shapes are for 1 item at a time, as in the example; from_torch of the module finds"
    model = from_program(torch.export.export(module, (x,)), "encoder")
    assert model.definition.notes[-1].startswith(words)
    assert not any("at a time" in note for note in from_torch(module, x).definition.notes)
    net = read_back(model, tmp_path)
    with torch.no_grad():
        first, _ = module(x)
    found = net.forward(**{net.inputs[0]: x.numpy()})
    assert any(v.shape == first.shape and np.allclose(v, first, atol=1e-5) for v in found.values())


def test_items_of_items_in_any_batch(tmp_path: Path) -> None:
    """The shapes do not hold the number of items of the example."""
    module = nn.Sequential(nn.LayerNorm(7), Function(lambda x, p: x.reshape(-1, 7).relu()))
    model = from_torch(randomised(module), torch.zeros(3, 4, 6, 7))
    x = torch.randn(2, 4, 6, 7, generator=torch.Generator().manual_seed(3))
    net = read_back(model, tmp_path)
    (found,) = net.forward(**{net.inputs[0]: x.numpy()}).values()
    with torch.no_grad():
        np.testing.assert_allclose(found, module(x).numpy(), atol=1e-5)


class Twins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


def test_a_module_that_is_used_twice_shares_its_parameters(tmp_path: Path) -> None:
    model = assert_same(Twins(), (2, 4, 6, 7), tmp_path)
    names = [[p.name for p in m.param] for m in model.definition.message.layer]
    assert names == [[], ["conv.weight", "conv.bias"], ["conv.weight", "conv.bias"]]


def test_the_module_is_not_changed() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Dropout()).train()
    module[0].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    from_torch(module, torch.zeros(1, 3, 4, 5))
    assert [part.training for part in module.modules()] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    "name",
    [
        "vgg11",
        "alexnet",
        "resnet18",
        "squeezenet1_1",
        "googlenet",
        "mobilenet_v2",
        "shufflenet_v2_x0_5",
        "convnext_tiny",
        "vit_b_32",
    ],
)
def test_torchvision(name: str, tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    shape = (1, 3, 224, 224) if name in ("vgg11", "alexnet", "vit_b_32") else (1, 3, 97, 130)
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    assert_same(getattr(models, name)(weights=None, **options), shape, tmp_path)
