"""``--optimize``, ``--engine`` and int8 on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from tests.cli.inference.optimized_commands import CLASSIFY, DEPLOY, TEST_NET
from tests.net.nets import saved


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nets, weights and two images."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, DEPLOY, "deploy.prototxt")
    saved(tmp_path, TEST_NET, "test.prototxt")
    Net("deploy.prototxt", seed=3).save("net.caffemodel")
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        assert cv2.imwrite(name, generator.integers(0, 255, (40, 45, 3), np.uint8))
    return tmp_path


def probabilities(text: str) -> list[float]:
    images = json.loads(text)
    return [one["probability"] for image in images for one in image["classes"]]


def test_classify(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(CLASSIFY) == 0
    plain = capsys.readouterr()
    assert "engine" not in plain.err
    assert main([*CLASSIFY, "--optimize"]) == 0
    chosen = capsys.readouterr()
    np.testing.assert_allclose(
        probabilities(chosen.out), probabilities(plain.out), rtol=1e-4, atol=2e-6
    )
    assert "is the fastest here" in chosen.err or "torch alone runs it" in chosen.err
    assert main([*CLASSIFY, "--engine", "torch"]) == 0
    optimized = capsys.readouterr()
    np.testing.assert_allclose(
        probabilities(optimized.out), probabilities(plain.out), rtol=1e-4, atol=2e-6
    )
    assert "engine torch, fp32" in optimized.err
    assert "fused 1 activations" in optimized.err


def test_test(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["test", "--model", "test.prototxt", "--weights", "net.caffemodel"]
    assert main([*command, "--iterations", "2"]) == 0
    plain = capsys.readouterr().err
    assert main([*command, "--iterations", "2", "--engine", "torch"]) == 0
    optimized = capsys.readouterr().err
    assert "packed the weights of 1 convolutions" in optimized
    found = [float(text.rpartition("Loss: ")[2].split()[0]) for text in (plain, optimized)]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--precision", "int8"], "add --optimize"),
        (["--precision", "tf32", "--optimize"], "precision is 'tf32'; it must be one of fp32,"),
        (["--precision", "int8", "--engine", "torch"], "engine torch has no int8"),
        (
            ["--precision", "int8", "--engine", "onnxruntime", "--calibration", "deploy.prototxt"],
            "deploy.prototxt has no data layer to read images for int8 from",
        ),
        (
            ["--precision", "int8", "--engine", "onnxruntime", "--calibration", "none.prototxt"],
            "none.prototxt",
        ),
    ],
)
def test_bad_flags(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    assert main([*CLASSIFY, *flags]) == 1
    assert sentence in capsys.readouterr().err


def test_int8(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    assert main(CLASSIFY) == 0
    plain = probabilities(capsys.readouterr().out)
    flags = ["--precision", "int8", "--engine", "onnxruntime", "--calibration", "test.prototxt"]
    assert main([*CLASSIFY, *flags, "--calibration-batches", "2"]) == 0
    optimized = capsys.readouterr()
    assert "int8: calibrated with 2 batches" in optimized.err
    assert "int8: top-1 agrees with fp32 in" in optimized.err
    np.testing.assert_allclose(probabilities(optimized.out), plain, atol=0.2)
