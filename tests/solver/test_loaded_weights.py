"""Weights that match no layer are an error; loaded layers are always logged."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.errors import WeightsError
from caffecompat.net import Net
from caffecompat.solver import Solver
from caffecompat.weights import LayerWeights, Weights, save_weights
from tests.solver.log.caffe_log import Lines
from tests.solver.small import write_training


def stranger(folder: Path) -> Path:
    """The weights of a net that has no layer in common with the small one."""
    path = folder / "stranger.caffemodel"
    layer = LayerWeights("fc_of_another_net", "InnerProduct", [np.ones((2, 3), np.float32)])
    save_weights(Weights([layer]), path)
    return path


def own(folder: Path) -> Path:
    path = folder / "own.caffemodel"
    save_weights(Net(folder / "net.prototxt").to_weights(), path)
    return path


def commands(solver: Path, weights: Path) -> list[list[str]]:
    net = solver.with_name("net.prototxt")
    return [
        ["train", f"--solver={solver}", f"--weights={weights}"],
        ["test", f"--model={net}", f"--weights={weights}", "--iterations=1"],
        ["time", f"--model={net}", f"--weights={weights}", "--iterations=1"],
    ]


def test_weights_that_match_no_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solver = write_training(tmp_path)
    for command in commands(solver, stranger(tmp_path)):
        assert main(command) == 1
        (error,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        for words in ("none of the net's 3 layers", "'conv'", "'fc_of_another_net'", "--lenient"):
            assert words in error
        assert main([*command, "--lenient"]) == 0
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert "error" not in line


def test_lenience_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solver = write_training(tmp_path)
    command = commands(solver, stranger(tmp_path))[1]
    assert main([*command, "--lenient"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("W") and "loaded 0 of 3 layers" in line for line in lines)


def test_loaded_layers_are_always_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solver = write_training(tmp_path)
    for command in commands(solver, own(tmp_path)):
        assert main(command) == 0
        assert "loaded 3 of 3 layers with parameters" in capsys.readouterr().err


def test_a_net_from_python(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_training(tmp_path)
    path = tmp_path / "net.prototxt"
    with pytest.raises(WeightsError, match="none of the net's 3 layers with parameters"):
        Net(path, stranger(tmp_path))
    weights = Net(path).to_weights()
    del weights.layers[[layer.name for layer in weights.layers].index("score")]
    with caplog.at_level(logging.INFO, "caffecompat"):
        net = Net(path, weights)
    assert "loaded 2 of 3 layers with parameters" in net.notes
    assert any("layer 'score' is not in the file" in note for note in net.notes)
    found = [(entry.levelno, entry.message) for entry in caplog.records]
    assert (logging.WARNING, "loaded 2 of 3 layers with parameters") in found
    assert Net(path, stranger(tmp_path), lenient=True).notes[-2].startswith("layer 'score'")


def test_layers_that_are_all_passed_over(tmp_path: Path) -> None:
    """Skipping every layer leaves a net that has learned nothing."""
    write_training(tmp_path)
    net = Net(tmp_path / "net.prototxt")
    weights = net.to_weights()
    for layer in weights.layers:
        layer.blobs = [np.zeros((5, 5), np.float32) for _ in layer.blobs]
        layer.legacy = [False] * len(layer.blobs)
    with pytest.raises(
        WeightsError, match=r"the net's 3 layers .*\(--lenient accepts it\)"
    ) as said:
        net.load_weights(weights, on_mismatch="skip")
    assert "on_mismatch" not in str(said.value)
    assert net.load_weights(weights, on_mismatch="skip", lenient=True).nothing_loaded


def test_weights_without_values(tmp_path: Path) -> None:
    write_training(tmp_path)
    with pytest.raises(WeightsError, match="a definition without values"):
        Net(tmp_path / "net.prototxt", Weights([LayerWeights("elsewhere", "Convolution", [])]))


@pytest.mark.parametrize("extension", ["", ".h5"])
def test_resuming_names_the_layers_that_the_net_lacks(
    tmp_path: Path, extension: str, lines: Lines
) -> None:
    written = "HDF5" if extension else "BINARYPROTO"
    solver = write_training(tmp_path, f"random_seed: 7 snapshot_format: {written}")
    net = tmp_path / "net.prototxt"
    alone = net.read_text()
    shown = 'layer { name: "shown" type: "Power" bottom: "score" top: "shown" }'
    net.write_text(alone + shown)
    Solver(solver).step(5)
    net.write_text(alone)
    lines.text.clear()
    Solver(solver, snapshot=tmp_path / f"snap_iter_5.solverstate{extension}")
    ignored = lines.containing("Ignoring source layer")
    # With one reader more "score" had a split.
    names = ("score_score_0_split", "shown")
    assert ignored == [f"Ignoring source layer {name}" for name in names]
