"""Replaying records: what counts as a difference, and records that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.errors import CaffeError, FileProblem, FormatError, NetError
from caffecompat.net.analysis.replay import find_cases, read_case, replay

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
