"""What programs read of an error about a net: its attributes, not its words."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from caffecompat import Net
from caffecompat.errors import (
    AbsentBottom,
    CaffeError,
    CodeNotAllowed,
    LayerError,
    ShapesUnknown,
    UnknownName,
    WiringError,
)

ONE_PHASE = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 5 } } }
layer { name: "label" type: "Input" top: "label" include { phase: TRAIN }
        input_param { shape { dim: 2 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "data" bottom: "label" top: "loss" }
"""
FILES_MISSING = """layer { name: "in" type: "%s" top: "data" top: "label" %s }"""


def error_of(tmp_path: Path, text: str, **options: object) -> CaffeError:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    with pytest.raises(CaffeError) as caught:
        Net(path, phase="TEST", **options)  # type: ignore[arg-type]
    copy = pickle.loads(pickle.dumps(caught.value))
    assert vars(copy) == vars(caught.value)
    assert str(copy) == str(caught.value)
    return caught.value


def test_a_bottom_of_the_other_phase(tmp_path: Path) -> None:
    error = error_of(tmp_path, ONE_PHASE)
    assert isinstance(error, WiringError)
    assert error.absent == (AbsentBottom("loss", "label", ("TRAIN",)),)
    excluded = ONE_PHASE.replace("include", "exclude").replace("TRAIN", "TEST")
    error = error_of(tmp_path, excluded)
    assert isinstance(error, WiringError)
    assert error.absent == (AbsentBottom("loss", "label", ("TRAIN",)),)
    staged = ONE_PHASE.replace("phase: TRAIN", 'stage: "labelled"')
    error = error_of(tmp_path, staged)
    assert isinstance(error, WiringError)
    assert error.absent == (AbsentBottom("loss", "label", ("TRAIN", "TEST")),)


def test_a_bottom_that_nothing_makes(tmp_path: Path) -> None:
    error = error_of(tmp_path, ONE_PHASE.replace('bottom: "label"', 'bottom: "labels"'))
    assert isinstance(error, WiringError)
    assert error.absent == ()


@pytest.mark.parametrize(
    ("kind", "settings", "image", "problem"),
    [
        (
            "Data",
            'data_param { source: "no_db" batch_size: 3 }',
            "data",
            "the shape of its images is unknown",
        ),
        (
            "HDF5Data",
            'hdf5_data_param { source: "no_list" batch_size: 3 }',
            "",
            "the shapes of its tops are unknown",
        ),
    ],
)
def test_shapes_that_only_missing_files_tell(
    tmp_path: Path, kind: str, settings: str, image: str, problem: str
) -> None:
    error = error_of(tmp_path, FILES_MISSING % (kind, settings), shapes_only=True)
    assert isinstance(error, ShapesUnknown)
    assert error.image == image
    assert error.problem == f"{tmp_path / 'net.prototxt'}:1: layer 'in' ({kind}): {problem}"
    assert str(error).startswith(error.problem)


def test_code_that_is_not_allowed(tmp_path: Path) -> None:
    text = """layer { name: "own" type: "Python" top: "x"
                      python_param { module: "numpy" layer: "Own" } }"""
    error = error_of(tmp_path, text)
    assert isinstance(error, CodeNotAllowed)
    assert error.place == f"{tmp_path / 'net.prototxt'}:1: layer 'own' (Python)"


def test_the_layer_that_is_wrong(tmp_path: Path) -> None:
    text = ONE_PHASE.replace("dim: 2 dim: 5", "dim: 2 dim: -5")
    error = error_of(tmp_path, text)
    assert isinstance(error, WiringError)
    text = text.replace("phase: TRAIN", "phase: TEST")
    error = error_of(tmp_path, text)
    assert isinstance(error, LayerError)
    assert error.place == f"{tmp_path / 'net.prototxt'}:2: layer 'data' (Input)"


def test_a_name_without_the_list_of_all_names() -> None:
    assert UnknownName("filler", "qqqqq", ["xavier", "msra"]).brief == "unknown filler 'qqqqq'"
    near = UnknownName("filler", "xavir", ["xavier", "msra"])
    assert near.brief == str(near) == "unknown filler 'xavir'; did you mean 'xavier'?"
