"""``caffe.io`` against the values of pycaffe of BVLC Caffe 1.0 with scikit-image 0.19.

Resizing in scikit-image 0.14 and older differs where an image shrinks: it does not smooth. 0.26
gives the same as 0.19 (tests/pycaffe/images/test_io.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.pycaffe import io
from caffecompat.pycaffe.proto import caffe_pb2

# A resized value may differ in its last bit: skimage sums in another order.
CLOSE = 1e-6


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "pycaffe"


@pytest.fixture(scope="module")
def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "pycaffe.npz") as file:
        return {name: file[name] for name in file.files if not name.startswith("solver/")}


@pytest.fixture(scope="module")
def transformers(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "pycaffe.json").read_text())["transformer"]
    return found


def transformer(case: dict[str, Any], arrays: dict[str, np.ndarray]) -> io.Transformer:
    config, made = case["config"], io.Transformer({"data": (1, 3, 7, 9)})
    for name, value in config.items():
        setter = getattr(made, f"set_{name}")
        setter("data", arrays[f"{case['key']}/mean"] if name == "mean" else value)
    return made


def test_preprocess(transformers: list[dict[str, Any]], arrays: dict[str, np.ndarray]) -> None:
    for case in transformers:
        key, config = case["key"], case["config"]
        image, expected = arrays[f"{key}/in"], arrays[f"{key}/preprocess"]
        made = transformer(case, arrays)
        # Where nothing makes a copy, the array itself is changed; it is recorded after the call.
        changes = image.shape[:2] == (7, 9) and "channel_swap" not in config
        if changes:
            image = made.deprocess("data", expected)
        before = image.copy()
        found = made.preprocess("data", image)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=key)
        if changes:
            np.testing.assert_allclose(image, arrays[f"{key}/in"], rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(image, before)
        np.testing.assert_allclose(
            made.deprocess("data", expected),
            arrays[f"{key}/deprocess"],
            rtol=CLOSE,
            atol=CLOSE,
            err_msg=key,
        )


@pytest.mark.parametrize(
    ("number", "size", "order"), [(0, (8, 4), 1), (1, (9, 9), 1), (2, (3, 7), 1), (3, (7, 8), 0)]
)
def test_resize(number: int, size: Any, order: int, arrays: dict[str, np.ndarray]) -> None:
    found = io.resize_image(arrays[f"resize/{number}/in"], size, order)
    expected = arrays[f"resize/{number}/out"]
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=CLOSE, atol=CLOSE)


def test_resize_of_a_constant(arrays: dict[str, np.ndarray]) -> None:
    found = io.resize_image(np.full((4, 4, 3), 0.3, np.float32), (6, 5))
    np.testing.assert_array_equal(found, arrays["resize/const/out"])


def test_names(folder: Path) -> None:
    names = json.loads((folder / "pycaffe.json").read_text())["surface"]["io"]
    assert set(names) <= set(dir(io))


def test_oversample(arrays: dict[str, np.ndarray]) -> None:
    found = io.oversample(arrays["oversample/in"], (5, 6))
    np.testing.assert_array_equal(found, arrays["oversample/out"])


@pytest.mark.parametrize(
    ("kind", "color"), [("rgb", True), ("gray", True), ("gray", False), ("rgba", True)]
)
def test_load_image(kind: str, color: bool, folder: Path, arrays: dict[str, np.ndarray]) -> None:
    pytest.importorskip("cv2")
    found = io.load_image(str(folder / f"{kind}.png"), color)
    expected = arrays[f"load_image/{kind}/{'color' if color else 'gray'}"]
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=0)


def test_datums(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    for name, label in (("u8", 7), ("f", 3)):
        recorded = (folder / f"datum_{name}.bin").read_bytes()
        made = io.array_to_datum(arrays[f"datum/{name}"], label)
        assert made.SerializeToString() == recorded
        datum = caffe_pb2.Datum()
        datum.ParseFromString(recorded)
        expected = arrays["datum/u8" if name == "u8" else "datum/f_back"]
        found = io.datum_to_array(datum)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_blobs(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    blobs = [arrays["blobvector/0"], arrays["blobvector/1"]]
    recorded = (folder / "blobvector.bin").read_bytes()
    assert io.arraylist_to_blobprotovector_str(blobs) == recorded
    for found, expected in zip(io.blobprotovector_str_to_arraylist(recorded), blobs, strict=True):
        np.testing.assert_array_equal(found, expected)
    recorded = (folder / "blobproto.bin").read_bytes()
    assert io.array_to_blobproto(blobs[0], diff=blobs[0] * 2).SerializeToString() == recorded
    blob = caffe_pb2.BlobProto()
    blob.ParseFromString(recorded)
    for diff, name in ((False, "data"), (True, "diff")):
        found = io.blobproto_to_array(blob, diff)
        assert found.dtype == arrays[f"blobproto/{name}"].dtype
        np.testing.assert_array_equal(found, arrays[f"blobproto/{name}"])
