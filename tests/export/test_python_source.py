"""Python source of nets: it computes what the net does, whatever the names are."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest
import torch

from caffecompat.errors import ExportError
from caffecompat.export.model import CaffeModel
from caffecompat.export.targets.python_source import PythonSource
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.weights import save_weights
from tests.export.models import assert_close, expected_outputs, layer_net, model_of, random_inputs
from tests.export.test_onnx_layers import CASES, FORK_CASES, sentence

NET = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param {
  shape { dim: 2 dim: 3 dim: 9 dim: 7 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "inception/1x1" type: "Convolution" bottom: "conv1" top: "inception/1x1"
  convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "conv1" bottom: "inception/1x1" top: "sum" }
layer { name: "pool" type: "Pooling" bottom: "sum" top: "pool"
  pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""

HOSTILE = [
    "x = __import__('os').system('false')",
    "'); open('ran', 'w'); ('",
    '\\"\\"\\" + 1/0 + \\"\\"\\"',
    "\\n    raise SystemExit  #",
    "{x.__class__}",
    "self",
    "torch",
    "forward",
    "__init__",
    "load_state_dict",
    "class",
    "F.relu",
    "Scale",
    "1/0",
    "é",
    "%s%(a)s",
]


def load(model: CaffeModel, folder: Path) -> ModuleType:
    """The module that was written from a model, with its weights beside it in net.pt."""
    PythonSource().write(model, folder / "net.py")
    save_weights(model.weights, folder / "net.pt", naming=torch_naming())
    module = ModuleType("net")
    exec(compile((folder / "net.py").read_text(), "net.py", "exec"), module.__dict__)
    return module


def check(model: CaffeModel, folder: Path) -> None:
    net = model.net()
    inputs = random_inputs(net)
    made = load(model, folder).load(str(folder / "net.pt"))
    with torch.inference_mode():
        found = made(*(torch.from_numpy(inputs[name]) for name in net.inputs))
    assert_close({name: v.numpy() for name, v in found.items()}, expected_outputs(net, inputs))


# Layers of forks, and settings of theirs, that are written in ONNX alone.
WITHOUT_CODE = (
    *('"BN"', '"BatchNorm"', '"CTCGreedyDecoder"', '"Lstm"', '"LSTM"', '"InnerDistance"'),
    *('"Extend"', '"ORPooling"', '"MergeCrop"', '"FeatureExtrapolating"', '"Pooling3D"'),
    *("normalize: true", "orn_param", "kernel_size: [2, 3, 2]", "dilation: 2"),
)


@pytest.mark.parametrize("one", FORK_CASES, ids=sentence)
def test_layer_of_a_fork(one: tuple, tmp_path: Path) -> None:
    layer, shapes, tops, _ = one
    model = model_of(layer_net(layer, *shapes, tops=tops))
    if any(text in layer for text in WITHOUT_CODE):
        with pytest.raises(ExportError, match="has no code for 'one'"):
            check(model, tmp_path)
    else:
        check(model, tmp_path)


@pytest.mark.parametrize("one", CASES, ids=sentence)
def test_layer(one: tuple, tmp_path: Path) -> None:
    layer, shapes, tops, _ = one
    model = model_of(layer_net(layer, *shapes, tops=tops))
    try:
        check(model, tmp_path)
    except ExportError:
        refused = (
            "LSTM",
            "RNN",
            "SPP",
            "Normalize",
            "PriorBox",
            "ArgMax",
            "Im2col",
            "use_global_stats: false",
            "stride: 3",
            "stride: 5",
        )
        assert tops == 2 or any(text in layer for text in refused), "this layer can be written"


def test_source_is_as_one_would_write_it(tmp_path: Path) -> None:
    module = load(model_of(NET), tmp_path)
    lines = [line.strip() for line in (tmp_path / "net.py").read_text().splitlines()]
    for line in (
        "self.conv1 = nn.Conv2d(3, 4, 3, padding=1)",
        "self.add_module('inception/1x1', nn.Conv2d(4, 4, 1))",
        "self.fc = nn.Linear(48, 5)",
        "def forward(self, data):",
        "conv1 = self.conv1(data)",
        "conv1 = F.relu(conv1)",
        "inception_1x1 = self.get_submodule('inception/1x1')(conv1)",
        "blob_sum = conv1 + inception_1x1",
        "pool = F.max_pool2d(blob_sum, 3, stride=2, ceil_mode=True)",
        "fc = self.fc(pool.flatten(1))",
        "prob = fc.softmax(1)",
        "return {'prob': prob}",
    ):
        assert line in lines
    assert set(module.Net().state_dict()) == {
        *("conv1.weight", "conv1.bias", "fc.weight", "fc.bias"),
        *("inception/1x1.weight", "inception/1x1.bias"),
    }
    assert "caffecompat" not in {
        name.split(".")[0]
        for node in ast.walk(ast.parse((tmp_path / "net.py").read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in [getattr(node, "module", None) or node.names[0].name]
    }


def test_a_net_works(tmp_path: Path) -> None:
    check(model_of(NET), tmp_path)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_files_do_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = NET.replace('"conv1"', f'"{name}"').replace('"data"', f'"{name} in"')
    text = text.replace('"small"', f'"{name}"').replace('"prob"', f'"{name} out"')
    check(model_of(text), tmp_path)
    assert not Path("ran").exists()


def test_a_copied_blob_keeps_its_value(tmp_path: Path) -> None:
    text = NET + (
        'layer { name: "copy" type: "Dropout" bottom: "fc" top: "copy" }\n'
        'layer { name: "square" type: "Power" bottom: "copy" top: "copy" '
        "power_param { power: 2 } }\n"
        'layer { name: "both" type: "Eltwise" bottom: "fc" bottom: "copy" top: "both" }\n'
    )
    check(model_of(text), tmp_path)


def test_layers_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    text = NET + 'layer { name: "best" type: "ArgMax" bottom: "prob" top: "best" }'
    with pytest.raises(ExportError, match=r"'best' \(ArgMax\)"):
        PythonSource().write(model_of(text), tmp_path / "net.py")
    assert not list(tmp_path.iterdir())
