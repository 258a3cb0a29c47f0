"""Python source of nets: it computes what the net does, whatever the names are."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from caffecompat.errors import ExportError
from caffecompat.export.model import CaffeModel
from caffecompat.export.targets.python_source import PythonSource
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.weights import save_weights
from tests.export.layer_cases import CASES, ENDLESS, FORK_CASES, IMAGE, sentence
from tests.export.models import assert_close, expected_outputs, layer_net, model_of, random_inputs
from tests.export.python_source.source_net import NET

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


@pytest.mark.parametrize("one", FORK_CASES, ids=sentence)
def test_layer_of_a_fork(one: tuple, tmp_path: Path) -> None:
    layer, shapes, tops, _ = one
    check(model_of(layer_net(layer, *shapes, tops=tops)), tmp_path)


SPECIAL = [
    ('type: "LSTM" recurrent_param { num_output: 1 }', ((4, 2, 1), (4, 2))),
    ('type: "RNN" recurrent_param { num_output: 3 }', ((4, 2, 2, 3), (4, 2), (2, 6))),
]


WHOLE_NETS = {
    "CROP": """layer { name: "down" type: "Convolution" bottom: "data" top: "down"
  convolution_param { num_output: 4 kernel_size: 3 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "down" top: "up"
  convolution_param { num_output: 2 kernel_size: 5 stride: 2 pad: 0 } }
layer { name: "crop" type: "CROP" bottom: "up" bottom: "data" top: "crop" }""",
    "Parameter": """layer { name: "value" type: "Parameter" top: "value"
  parameter_param { shape { dim: 2 dim: 3 dim: 9 dim: 7 } } }
layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "value" top: "sum" }""",
}


@pytest.mark.parametrize("kind", WHOLE_NETS)
def test_layers_that_need_a_net(kind: str, tmp_path: Path) -> None:
    data = """layer { name: "data" type: "Input" top: "data" input_param {
      shape { dim: 2 dim: 3 dim: 9 dim: 7 } } }
    """
    check(model_of(data + WHOLE_NETS[kind]), tmp_path)


@pytest.mark.parametrize("one", SPECIAL, ids=lambda one: one[0].split()[1])
def test_layers_with_a_case_here_alone(one: tuple, tmp_path: Path) -> None:
    layer, shapes = one
    check(model_of(layer_net(layer, *shapes)), tmp_path)


@pytest.mark.parametrize(
    ("layer", "numbers"),
    [
        ('type: "Embed" embed_param { input_dim: 5 num_output: 4 }', [0, 4, 2]),
        ('type: "Embed" embed_param { input_dim: 5 num_output: 4 bias_term: false }', [3, 3, 1]),
    ],
)
def test_rows_of_a_table(layer: str, numbers: list[int], tmp_path: Path) -> None:
    model = model_of(layer_net(layer, (3,)))
    given = torch.tensor(numbers, dtype=torch.float32)
    found = load(model, tmp_path).load(str(tmp_path / "net.pt"))(given)
    assert_close(
        {"y": found["y"].detach().numpy()}, expected_outputs(model.net(), {"a": given.numpy()})
    )


# Windows that begin after the plane, or more padding than half the kernel, which torch's pooling
# does not have.
WITHOUT_CODE = ("kernel_size: 2 stride: 3", "pyramid_height: 3 pool: AVE")


@pytest.mark.parametrize("one", CASES, ids=sentence)
def test_layer(one: tuple, tmp_path: Path) -> None:
    layer, shapes, tops, _ = one
    model = model_of(layer_net(layer, *shapes, tops=tops))
    if any(text in layer for text in WITHOUT_CODE):
        with pytest.raises(ExportError, match="'one'"):
            check(model, tmp_path)
    else:
        check(model, tmp_path)


@pytest.mark.parametrize("layer", ENDLESS)
def test_numbers_that_are_not_finite(layer: str, tmp_path: Path) -> None:
    model = model_of(layer_net(layer, IMAGE))
    inputs = random_inputs(model.net())
    made = load(model, tmp_path).Net()
    found = made(*map(torch.from_numpy, inputs.values()))
    wanted = expected_outputs(model.net(), inputs)
    np.testing.assert_equal({name: value.numpy() for name, value in found.items()}, wanted)


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
    text = NET + 'layer { name: "loss" type: "EuclideanLoss" bottom: "prob" bottom: "fc" top: "l" }'
    with pytest.raises(ExportError, match=r"'loss' \(EuclideanLoss\)"):
        PythonSource().write(model_of(text), tmp_path / "net.py")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_the_windows_of_a_pyramid_are_those_of_the_pass(pool: str, tmp_path: Path) -> None:
    layer = f'type: "SPP" spp_param {{ pyramid_height: 3 pool: {pool} }}'
    model = model_of(layer_net(layer, (2, 3, 12, 7)))
    made, net = load(model, tmp_path).load(str(tmp_path / "net.pt")), model.net()
    for shape in [(2, 3, 12, 7), (1, 3, 16, 23), (3, 3, 15, 8)]:
        inputs = random_inputs(net, shapes={"a": shape})
        with torch.inference_mode():
            found = made(torch.from_numpy(inputs["a"]))
        assert_close({name: v.numpy() for name, v in found.items()}, expected_outputs(net, inputs))


FIXED = [
    ('type: "Interp" interp_param { zoom_factor: 2 }', [(2, 3, 7, 5)], "of 7 x 5"),
    ('type: "Interp" interp_param { height: 9 width: 4 pad_end: -1 }', [(2, 3, 7, 5)], "of 7 x 5"),
    ('type: "Interp" interp_param { height: 9 width: 4 }', [(2, 3, 7, 5)], ""),
    ('type: "PriorBox" prior_box_param { min_size: 2 }', [(2, 3, 7, 5), (2, 3, 14, 10)], "7 x 5"),
    ('type: "PriorBox" prior_box_param { min_size: 2 step: 2 }', [(1, 3, 7, 5), (1, 3, 9, 8)], ""),
    ('type: "Reorg" reorg_param { stride: 2 }', [(2, 8, 4, 6)], "of 4 x 6"),
    ('type: "CTCGreedyDecoder" ctc_decoder_param { }', [(5, 2, 4), (5, 2)], "of 4"),
]


@pytest.mark.parametrize(("layer", "shapes", "sentence"), FIXED)
def test_sizes_that_the_source_is_not_for(
    layer: str, shapes: list[tuple[int, ...]], sentence: str, tmp_path: Path
) -> None:
    model = model_of(layer_net(layer, *shapes))
    made = load(model, tmp_path).load(str(tmp_path / "net.pt"))
    net = model.net()
    larger = [(*shape[:2], *(2 * extent for extent in shape[2:])) for shape in shapes]
    inputs = random_inputs(net, shapes=dict(zip("ab", larger, strict=False)))
    given = [torch.from_numpy(inputs[name]) for name in net.inputs]
    if sentence:
        with pytest.raises(ValueError, match=f"layer 'one'.*{sentence}; for another size convert"):
            made(*given)
        return
    with torch.inference_mode():
        found = made(*given)
    assert_close({name: v.numpy() for name, v in found.items()}, expected_outputs(net, inputs))
