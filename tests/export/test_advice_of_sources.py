"""Models of other programs that are refused; changed as the message says, they are taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.errors import ExportError
from caffecompat.export import from_torch
from caffecompat.weights import save_weights
from tests.export.models import model_of
from tests.export.verify.verified_model import TEXT, with_onnx

ACTIVE = "dropout is active; export the module after .eval(), and give F.dropout training=self"
EMPTY = (
    "its values are what its memory happens to hold: use torch.zeros(), or another function that "
    "writes them; an active Dropout2d or AlphaDropout makes such a tensor, too: export the module "
    "after .eval(), and give F.dropout2d training=self.training"
)
STATISTICS = (
    "it takes its statistics from the batch; use a BatchNorm with track_running_stats=True, and "
    "export it after .eval()"
)
IMAGES = torch.linspace(-1, 1, 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)


class Dropped(nn.Module):
    """F.dropout or F.dropout2d, which are active by default."""

    def __init__(self, function: Callable[..., Tensor] = nn.functional.dropout) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class DroppedInTraining(Dropped):
    """The same as nn.Dropout and nn.Dropout2d call them."""

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, training=self.training)


class Emptied(nn.Module):
    """Writes into a tensor that it has made without values."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.empty_like(x).copy_(x)


def sequence(last: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 1), last)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (nn.Dropout, ACTIVE),
        (nn.Dropout2d, EMPTY),
        (nn.AlphaDropout, EMPTY),
        (DroppedInTraining, ACTIVE),
        (lambda: nn.BatchNorm2d(2), STATISTICS),
    ],
    ids=["Dropout", "Dropout2d", "AlphaDropout", "F.dropout", "BatchNorm2d"],
)
def test_a_program_that_was_exported_in_training(
    last: Callable[[], nn.Module],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    module = sequence(last())
    command = ["convert", "module.pt2", "net.caffemodel", "--trust", "--force"]
    torch.export.save(torch.export.export(module.train(), (IMAGES,)), "module.pt2")
    assert main(command) == 1
    assert words in capsys.readouterr().err
    torch.export.save(torch.export.export(module.eval(), (IMAGES,)), "module.pt2")
    assert main(command) == 0
    net = Net("net.prototxt", weights="net.caffemodel", phase="test")
    (found,) = net.forward(**{net.inputs[0]: IMAGES.numpy()}).values()
    np.testing.assert_allclose(np.asarray(found), module(IMAGES).detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("bad", "words", "good"),
    [
        (Dropped(), ACTIVE, DroppedInTraining()),
        (
            Dropped(nn.functional.dropout2d),
            EMPTY,
            DroppedInTraining(nn.functional.dropout2d),
        ),
        (nn.InstanceNorm2d(2), STATISTICS, nn.BatchNorm2d(2, track_running_stats=True)),
        (
            nn.BatchNorm2d(2, track_running_stats=False),
            STATISTICS,
            nn.BatchNorm2d(2, track_running_stats=True),
        ),
    ],
    ids=["F.dropout", "F.dropout2d", "InstanceNorm2d", "BatchNorm2d"],
)
def test_a_module_that_computes_as_in_training(bad: nn.Module, words: str, good: nn.Module) -> None:
    with pytest.raises(ExportError) as caught:
        from_torch(sequence(bad).eval(), IMAGES)
    assert words in str(caught.value)
    module = sequence(good).eval()
    net = from_torch(module, IMAGES).net()
    (found,) = net.forward(**{net.inputs[0]: IMAGES.numpy()}).values()
    np.testing.assert_allclose(np.asarray(found), module(IMAGES).detach(), rtol=1e-4, atol=1e-6)


def test_an_empty_tensor_that_is_not_of_dropout() -> None:
    with pytest.raises(ExportError) as caught:
        from_torch(sequence(Emptied()).eval(), IMAGES)
    assert EMPTY in str(caught.value)
    assert "dropout is active" not in str(caught.value)


@pytest.mark.parametrize("good", [torch.zeros, torch.ones])
def test_memory_that_nothing_has_written(good: Callable[..., Tensor]) -> None:
    class Added(nn.Module):
        def __init__(self, function: Callable[..., Tensor]) -> None:
            super().__init__()
            self.function = function

        def forward(self, x: Tensor) -> Tensor:
            return x + self.function(2, 1, 1)

    with pytest.raises(ExportError) as caught:
        from_torch(sequence(Added(torch.empty)).eval(), IMAGES)
    assert f"aten.empty: {EMPTY}" in str(caught.value)
    module = sequence(Added(good)).eval()
    net = from_torch(module, IMAGES).net()
    (found,) = net.forward(**{net.inputs[0]: IMAGES.numpy()}).values()
    np.testing.assert_allclose(np.asarray(found), module(IMAGES).detach(), rtol=1e-4, atol=1e-6)


def test_weights_beside_an_onnx_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    source = with_onnx(tmp_path)
    monkeypatch.chdir(tmp_path)
    save_weights(model_of(TEXT).weights, "net.caffemodel")
    Path("net.prototxt").write_text(TEXT)
    command = ["verify", "net.caffemodel", "split.onnx", "--model", "net.prototxt"]
    onnx.save(onnx.load(source), "split.onnx", save_as_external_data=True, size_threshold=0)
    assert main(command) == 1
    words = "which are not read; save it with its weights inside (onnx.save of onnx.load)"
    assert words in capsys.readouterr().err
    onnx.save(onnx.load("split.onnx"), "split.onnx")
    assert main(command) == 0


def test_more_inputs_than_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffecompat.export.verify.inputs.MOST_VALUES", 50)
    text = """
    layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 4 dim: 20 } } }
    layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
      inner_product_param { num_output: 3 } }
    """
    Path("net.prototxt").write_text(text)
    Net("net.prototxt").save("net.caffemodel")
    command = ["verify", "net.caffemodel", "net.caffemodel", "--model", "net.prototxt"]
    assert main(command) == 1
    words = "the inputs have 80 values, more than the 50 that are drawn; verify the model with a "
    assert f"{words}smaller batch" in capsys.readouterr().err
    Path("net.prototxt").write_text(text.replace("dim: 4", "dim: 2"))
    assert main(command) == 0
