"""What the paper's nets do where the ImageNet databases are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat import Net
from caffecompat.cli.main import main

PROTOTXT = Path(__file__).resolve().parents[2] / "prototxt"


@pytest.mark.parametrize("name", ["A", "A-LRN", "B", "B_5x5", "C", "D", "E"])
@pytest.mark.parametrize("phase", ["train", "test"])
def test_shapes_need_no_images(name: str, phase: str) -> None:
    net = Net(PROTOTXT / f"{name}_train_val.prototxt", phase=phase, shapes_only=True)
    assert net.blobs["data"].shape[1:] == (3, 224, 224)
    assert net.blobs["fc8"].shape[1:] == (1000,)


def test_training_says_what_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--solver", str(PROTOTXT / "solver_D.prototxt")]) == 1
    error = capsys.readouterr().err
    sentence = next(line for line in error.splitlines() if line.startswith("caffecompat: error"))
    assert "caffecompat convert-imageset" in sentence
    assert "ilsvrc12_train" in sentence
