"""Whole nets against values recorded from BVLC Caffe 1.0 (forward, gradients, statistics)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import read_net
from caffecompat.errors import CaffeError, FileProblem, FormatError, NetError
from caffecompat.layers import catalogue
from caffecompat.net.analysis.replay import find_cases, read_case, replay

HERE = Path(__file__).resolve()
LAYERS = HERE.parents[3] / "shared" / "golden" / "layers"
COPIES = HERE.parent / "copies" / "layers"

FORWARD, GRADIENT, MOVED = 1e-4, 2e-4, 1e-6

# Types whose results are moved or counted, not computed.
EXACT = {
    "ArgMax",
    "Accuracy",
    "BatchReindex",
    "Concat",
    "Crop",
    "Filter",
    "Flatten",
    "Im2col",
    "Reshape",
    "Slice",
    "Split",
    "Threshold",
    "Tile",
}

# Recorded behaviour that we do not follow, each with its reason; docs/deviations.md has them all.
_OVERWRITTEN = (
    "Caffe takes the gradient of this in-place layer from data that its forward pass has already "
    "overwritten; here it is that of the value it computed"
)
NOT_FOLLOWED = {
    "BNLL/quirk_inplace_gradient": _OVERWRITTEN,
    "Clip/quirk_inplace_gradient": _OVERWRITTEN,
    "Power/inplace": (
        "in place at power 1 Caffe's backward pass overwrites the incoming gradient with the scale "
        "before it multiplies by it, and so squares the scale; here the derivative is right"
    ),
    "Power/quirk_cube_at_zero_nan": (
        "Caffe divides by the bottom, so that x = 0 gives NaN; here it gives the derivative, 0"
    ),
    "LSTMUnit/quirk_fractional_cont": (
        "for cont between 0 and 1 Caffe uses cont * sigmoid in the sigmoid's derivative; here the "
        "derivative is right, and equal for cont 0 and 1, the only values with a meaning"
    ),
    "Net/quirk_inplace_after_flatten_changes_source": (
        "Caffe's Flatten shares memory with its bottom, so that a later in-place layer changes the "
        "source blob too; here every layer is a function and leaves its bottoms alone"
    ),
}


def cases() -> Iterator[Path]:
    for path in find_cases(LAYERS if LAYERS.is_dir() else COPIES):
        if path.parent.name != "errors":
            yield path


@pytest.mark.parametrize("path", list(cases()), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_recorded_case(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Paths inside a recorded prototxt are relative to the folder of all cases.
    monkeypatch.chdir(path.parents[1])
    missing = sorted({layer.type for layer in read_net(path).layer} - set(catalogue))
    if missing:
        pytest.skip(f"layer types that come later: {', '.join(missing)}")
    differences = replay(path)
    assert differences
    forward = MOVED if path.parent.name in EXACT else FORWARD
    far = [d for d in differences if d.relative > (GRADIENT if d.gradient else forward)]
    if f"{path.parent.name}/{path.stem}" in NOT_FOLLOWED:
        assert far, "it agrees by now; take it from the table and from docs/deviations.md"
    else:
        assert not far


def test_every_excluded_case_exists() -> None:
    if LAYERS.is_dir():
        assert {f"{p.parent.name}/{p.stem}" for p in cases()} >= set(NOT_FOLLOWED)


NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 4 } }
"""


def record(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "case.prototxt"
    path.write_text(NET)
    named: dict[str, Any] = {k.replace("__", "/"): v for k, v in arrays.items()}
    np.savez(path.with_suffix(".npz"), **named)
    return path


def test_a_difference_is_seen(tmp_path: Path) -> None:
    wrong = np.zeros((2, 4), np.float32)
    wrong[1, 2] = 0.25
    path = record(tmp_path, in__x=np.ones((2, 3), np.float32), out__y=wrong)
    (difference,) = replay(path)
    assert (difference.key, difference.absolute, difference.relative) == ("out/y", 0.25, 0.25)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_differences(tmp_path: Path, value: float) -> None:
    path = record(tmp_path, out__y=np.full((2, 4), value, np.float32))
    assert replay(path)[0].relative == np.inf


def test_damaged_records(tmp_path: Path) -> None:
    path = record(tmp_path, out__y=np.zeros((2, 4, 1), np.float32))
    assert "shape (2, 4), recorded (2, 4, 1)" in replay(path)[0].note
    with pytest.raises(FormatError, match=r"'param/fc/2', but layer 'fc' has 2 blobs"):
        replay(record(tmp_path, param__fc__2=np.zeros(4)))
    with pytest.raises(FormatError, match=r"'param/fc/0' of \(5,\)"):
        replay(record(tmp_path, param__fc__0=np.zeros(5)))
    path.with_suffix(".npz").write_bytes(b"PK not really")
    with pytest.raises(FormatError, match=r"case\.npz: this is an? .* damaged or cut off"):
        replay(path)
    with pytest.raises(FileProblem, match="no recorded case here"):
        find_cases(tmp_path / "nowhere")
    with pytest.raises(NetError, match="precision is 'fp8'"):
        replay(record(tmp_path), precision="fp8")


def test_a_record_of_packed_zeros_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "case.npz"
    zeros: dict[str, Any] = {"blob/x": np.zeros(9 << 20), "blob/y": np.zeros(9 << 20)}
    np.savez_compressed(path, **zeros)
    with pytest.raises(FormatError, match=r"case\.npz: its unpacked content would take .* --max"):
        read_case(path)
    assert read_case(path, max_bytes=1 << 30)["blob/x"].size == 9 << 20


def test_other_precisions(tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    w = np.arange(12, dtype=np.float32).reshape(4, 3) / 13
    path = record(tmp_path, in__x=x, param__fc__0=w, out__y=x @ w.T)
    assert replay(path, precision="fp64")[0].relative < 1e-6
    assert 1e-4 < replay(path, precision="bf16")[0].relative < 2e-2


def test_unbuildable_net_is_an_error(tmp_path: Path) -> None:
    path = record(tmp_path)
    path.write_text(NET.replace('bottom: "x"', 'bottom: "z"'))
    with pytest.raises(CaffeError, match="unknown bottom blob 'z'"):
        replay(path)
