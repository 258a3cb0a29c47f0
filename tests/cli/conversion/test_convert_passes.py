"""Graph passes as flags of convert: both files are written, and say the same as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from tests.net.nets import CLASSIFIER, saved


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    prototxt = saved(tmp_path, CLASSIFIER)
    Net(prototxt).save(tmp_path / "net.caffemodel")
    return prototxt, tmp_path / "net.caffemodel"


def test_a_fully_convolutional_net(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prototxt, weights = files
    target = tmp_path / "any.caffemodel"
    command = ["convert", str(weights), str(target), "--model", str(prototxt)]
    assert main([*command, "--fully-convolutional"]) == 0
    said = capsys.readouterr().out
    assert "layer 'fc' (InnerProduct): now a Convolution with a kernel of 4x3" in said
    assert str(prototxt) not in said.split("applied --fully-convolutional")[1]
    x = np.random.default_rng(1).standard_normal((3, 2, 7, 5)).astype(np.float32)
    old = Net(prototxt, weights).forward(data=x)["prob"]
    new = Net(tmp_path / "any.prototxt", target)
    np.testing.assert_allclose(new.forward(data=x)["prob"].reshape(old.shape), old, atol=1e-6)
    larger = np.zeros((1, 2, 11, 9), np.float32)
    assert new.forward(data=larger)["prob"].shape == (1, 6, 3, 3)


def test_a_pass_without_anything_to_do_and_one_that_refuses(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prototxt, weights = files
    target = tmp_path / "same.caffemodel"
    command = ["convert", str(weights), str(target), "--model", str(prototxt)]
    assert main([*command, "--fold-batch-norm"]) == 0
    assert "--fold-batch-norm: nothing to change" in capsys.readouterr().out
    assert not target.with_suffix(".prototxt").exists()
    prototxt.write_text(
        CLASSIFIER
        + 'layer { name: "r" type: "Reduction" bottom: "fc" top: "r" include { phase: TEST } }'
    )
    target = tmp_path / "none.caffemodel"
    command[2] = str(target)
    assert main([*command, "--fully-convolutional"]) == 1
    said = capsys.readouterr().err
    assert "layer 'r' (Reduction): it cannot work on maps: 'fc' would be 3x6x1x1" in said
    assert not target.exists()
