"""An optimization that is refused, and the same one changed as its message says: it runs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.errors import NetError
from tests.cli.inference.optimized_commands import CLASSIFY, DEPLOY, TEST_NET
from tests.inference.engine_nets import LAYERS, SHAPE, built, outputs
from tests.net.nets import saved

REMEDY = (
    "give calibration=[{'data': array}, ...] in Python, or --calibration train_val.prototxt, "
    "whose data layer gives images"
)
ENGINE = "engine torch has no int8; use engine onnxruntime or openvino"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deploy net, its weights, a net with data, and two images."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, DEPLOY, "deploy.prototxt")
    saved(tmp_path, TEST_NET, "train_val.prototxt")
    Net("deploy.prototxt", seed=3).save("net.caffemodel")
    for i, name in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 45, 3), np.uint8)
        assert cv2.imwrite(name, pixels)
    return tmp_path


def images() -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(2)
    return [{"data": random.standard_normal((1, 3, 32, 32)).astype(np.float32)} for _ in range(2)]


def test_int8_with_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    net = Net("deploy.prototxt", weights="net.caffemodel", phase="test")
    for calibration in (None, 2):
        with pytest.raises(NetError) as caught:
            net.optimize("onnxruntime", precision="int8", calibration=calibration)
        assert REMEDY in str(caught.value)
    made = net.optimize("onnxruntime", precision="int8", calibration=images())
    assert made is not None
    assert made.precision == "int8"
    assert np.isfinite(np.asarray(net.forward(**images()[0])["prob"])).all()
    flags = ["--precision", "int8", "--engine", "onnxruntime"]
    assert main([*CLASSIFY, *flags]) == 1
    assert REMEDY in capsys.readouterr().err
    assert main([*CLASSIFY, *flags, "--calibration", "deploy.prototxt"]) == 1
    assert REMEDY in capsys.readouterr().err
    assert main([*CLASSIFY, *flags, "--calibration", "train_val.prototxt"]) == 0


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_int8_in_another_engine(
    engine: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(engine)
    net = Net("deploy.prototxt", weights="net.caffemodel", phase="test")
    with pytest.raises(NetError) as caught:
        net.optimize("torch", precision="int8", calibration=images())
    assert ENGINE in str(caught.value)
    made = net.optimize(engine, precision="int8", calibration=images())
    assert made is not None
    assert (made.engine, made.precision) == (engine, "int8")
    flags = ["--precision", "int8", "--calibration", "train_val.prototxt", "--engine"]
    assert main([*CLASSIFY, *flags, "torch"]) == 1
    assert ENGINE in capsys.readouterr().err
    assert main([*CLASSIFY, *flags, engine]) == 0


def test_shapes_of_other_weights() -> None:
    subject = built(LAYERS["groups"])
    with pytest.raises(NetError) as caught:
        subject.optimize("torch", shapes={"data": (2, 6, 9, 7)})
    assert "would be" in str(caught.value)
    assert str(caught.value).endswith("give shapes that the net can run with")
    wider = (SHAPE[0], SHAPE[1], SHAPE[2] + 2, SHAPE[3] + 1)
    assert subject.optimize("torch", shapes={"data": wider}) is not None
    assert all(value.isfinite().all() for value in outputs(subject, wider).values())
