"""Torch programs (.pt2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat.errors import ExportError, FileProblem, FormatError
from caffecompat.export.engines.base import EngineOptions, open_engine
from caffecompat.export.targets.torch_program import TorchProgram
from caffecompat.export.verify.verification import compare_conversion
from tests.export.models import assert_close, expected_outputs, layer_net, model_of, random_inputs

TEXT = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param {
  shape { dim: 1 dim: 3 dim: 9 dim: 7 } } }
layer { name: "conv.1" type: "Convolution" bottom: "data" top: "conv.1"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "norm" type: "BatchNorm" bottom: "conv.1" top: "conv.1" }
layer { name: "relu" type: "ReLU" bottom: "conv.1" top: "conv.1" }
layer { name: "lrn" type: "LRN" bottom: "conv.1" top: "lrn" }
layer { name: "pool" type: "Pooling" bottom: "lrn" top: "pool"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 5 } }
layer { name: "'];1/0" type: "Softmax" bottom: "fc" top: "'];1/0" }
layer { name: "max" type: "Eltwise" bottom: "conv.1" bottom: "lrn" top: "max"
  eltwise_param { operation: MAX } }
"""

SMALL = layer_net('type: "Reshape" reshape_param { shape { dim: 2 dim: 12 } }', (2, 3, 4))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of TEXT, alone in a folder."""
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    TorchProgram().write(model_of(TEXT), path)
    assert list(path.parent.iterdir()) == [path]
    return path


def test_a_program_needs_torch_alone(program: Path) -> None:
    loaded = torch.export.load(program)
    targets = {node.target for node in loaded.graph.nodes if node.op == "call_function"}
    assert targets
    assert all(target.__module__.startswith(("torch.", "_operator")) for target in targets)
    net = model_of(TEXT).net()
    inputs = random_inputs(net, shapes={"data": (3, 3, 9, 7)})
    found = loaded.module()(torch.from_numpy(inputs["data"]))
    wanted = expected_outputs(net, inputs)
    assert_close({name: value.numpy() for name, value in found.items()}, wanted)


def test_the_engine_compares_it(program: Path) -> None:
    assert compare_conversion(model_of(TEXT), program).agrees
    engine = open_engine(str(program), EngineOptions(trust=True))
    assert engine.inputs == {"data": (0, 3, 9, 7)}


def test_a_batch_that_the_net_fixes_stays(tmp_path: Path) -> None:
    model = model_of(SMALL)
    TorchProgram().write(model, tmp_path / "net.pt2")
    engine = open_engine(str(tmp_path / "net.pt2"), EngineOptions(trust=True))
    assert engine.inputs == {"a": (2, 3, 4)}


def test_code_in_a_file_does_not_run_unless_trusted(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, ("open('ran', 'w')",))

    torch.save(Attack(), tmp_path / "net.pt2")
    with pytest.raises(ExportError, match="--trust"):
        open_engine(str(tmp_path / "net.pt2"), EngineOptions())
    assert not Path("ran").exists()


def test_damaged_files_get_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"PK\x03\x04")
    with pytest.raises(FormatError, match="no torch program"):
        open_engine(str(tmp_path / "net.pt2"), EngineOptions(trust=True))
    with pytest.raises(FileProblem):
        open_engine(str(tmp_path / "other.pt2"), EngineOptions(trust=True))
    with pytest.raises(FileProblem):
        TorchProgram().write(model_of(SMALL), tmp_path / "missing" / "net.pt2")


RANDOM = """type: "ConvolutionRistretto" convolution_param { num_output: 3 kernel_size: 2 }
  quantization_param { precision: DYNAMIC_FIXED_POINT rounding_scheme: STOCHASTIC }"""


def test_a_layer_with_random_numbers_is_refused(tmp_path: Path) -> None:
    """Its passes differ; those of a program would not."""
    path = tmp_path / "net.pt2"
    with pytest.raises(ExportError, match=r"layer 'one' .* computes something else in each pass"):
        TorchProgram().write(model_of(layer_net(RANDOM, (2, 3, 4, 5))), path)
    assert not path.exists()
    nearest = RANDOM.replace("STOCHASTIC", "NEAREST")
    TorchProgram().write(model_of(layer_net(nearest, (2, 3, 4, 5))), path)


STATE = [
    ('type: "LSTM" recurrent_param { num_output: 3 }', (5, 2, 4), (5, 2)),
    ('type: "SegAccuracy" seg_accuracy_param { reset: false }', (2, 3, 4, 5), (2, 1, 4, 5)),
]


@pytest.mark.parametrize(("layer", "first", "second"), STATE)
def test_a_layer_with_state_is_refused(
    layer: str, first: tuple[int, ...], second: tuple[int, ...], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"layer 'one' .* keeps state from pass to pass"):
        TorchProgram().write(model_of(layer_net(layer, first, second)), tmp_path / "net.pt2")


def test_inputs_of_different_extents_keep_them(tmp_path: Path) -> None:
    """One image and two regions: 1 is exported as 2, which must not tie it to the regions."""
    layer = 'type: "ROIPooling" roi_pooling_param { pooled_h: 2 pooled_w: 2 }'
    model = model_of(layer_net(layer, (1, 3, 6, 7), (2, 5)))
    path = tmp_path / "net.pt2"
    TorchProgram().write(model, path)
    inputs = {
        "a": random_inputs(model.net())["a"],
        "b": np.array([[0, 1, 1, 4, 5], [0, 0, 2, 3, 3]], np.float32),
    }
    found = torch.export.load(path).module()(*map(torch.from_numpy, inputs.values()))
    wanted = expected_outputs(model.net(), inputs)
    assert_close({name: value.numpy() for name, value in found.items()}, wanted)
