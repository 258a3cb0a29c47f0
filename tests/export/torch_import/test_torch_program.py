"""A .pt2 program as the source of ``caffecompat convert``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.export.torch_import.traced_program import own_warnings_ignored


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, torch.Tensor]:
    """A file, an input and its output."""
    torch.manual_seed(2)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(60, 5)).eval()
    x = torch.randn(2, 3, 5, 7)
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    with own_warnings_ignored(), torch.no_grad():
        torch.export.save(torch.export.export(module, (x,)), path)
        return path, x, module(x)


Program = tuple[Path, torch.Tensor, torch.Tensor]


def test_it_is_refused_without_consent(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.caffemodel"
    assert main(["convert", str(program[0]), str(target)]) == 1
    said = capsys.readouterr().err
    assert "to load one can run code that is in it; --trust loads it" in said
    assert not list(tmp_path.iterdir())


def test_it_becomes_prototxt_and_caffemodel(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, x, expected = program
    target = tmp_path / "out.caffemodel"
    assert main(["convert", str(path), str(target), "--trust"]) == 0
    assert "output 0 is blob '3'" in capsys.readouterr().out
    net = Net(tmp_path / "out.prototxt", target)
    found = net.forward(x.numpy())
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_a_damaged_one_is_one_sentence(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(program[0].read_bytes())
    at = data.index(b'"graph"')
    data[at : at + 7] = b'"grape"'
    broken = tmp_path / "net.pt2"
    broken.write_bytes(bytes(data))
    assert main(["convert", str(broken), str(tmp_path / "out.caffemodel"), "--trust"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"caffecompat: error: {broken}: torch.export cannot load it: ")
    assert not (tmp_path / "out.caffemodel").exists()


def test_a_limit_of_its_size(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["convert", str(program[0]), "out.caffemodel", "--trust", "--max-bytes", "100"]
    assert main(command) == 1
    assert "--max-bytes" in capsys.readouterr().err
