"""MatConvNet's files from elsewhere: before beta17, with unknown layers, hostile, damaged."""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import CaffeError, FormatError
from caffecompat.export.matconvnet.meta import input_shape, preprocessing_of
from caffecompat.export.source import read_source
from tests.export.matconvnet.nets import (
    CHAIN,
    run,
    written,
)
from tests.sentences import assert_one_sentence

scipy_io: Any = pytest.importorskip("scipy.io")


def old_file(path: Path, **changes: Any) -> Path:
    """A SimpleNN as before beta17: filters and biases, and no variable meta."""
    random = np.random.default_rng(0)
    conv = {
        "type": "conv",
        "name": "conv1",
        "filters": random.standard_normal((3, 3, 3, 2)).astype(np.float32),
        "biases": np.ones((1, 2), np.float32),
        "pad": 1.0,
        "stride": 1.0,
        **changes,
    }
    pool: dict[str, Any] = {
        "type": "pool",
        "name": "pool1",
        "method": "max",
        "pool": [2.0, 2.0],
        "stride": 2.0,
    }
    layers = np.empty((1, 3), object)
    layers[0, :] = [
        conv,
        {**pool, "pad": [0.0, 1.0, 0.0, 1.0]},
        {"type": "softmax", "name": "prob"},
    ]
    mean = np.full((6, 6, 3), 7.0, np.float32)
    size = {"imageSize": [6.0, 6.0, 3.0], "averageImage": mean, "keepAspect": 0.0}
    content = {"layers": layers, "normalization": {**size, "interpolation": "bicubic"}}
    scipy_io.savemat(path, content, do_compression=True)
    return path


def test_files_before_beta17(tmp_path: Path) -> None:
    source = read_source(old_file(tmp_path / "old.mat"), None)
    assert source.definition is not None
    message = source.definition.message
    assert [layer.type for layer in message.layer] == ["Input", "Convolution", "Pooling", "Softmax"]
    assert source.preprocessing == Preprocessing(
        "BGR", (7, 7, 7), 1, (6, 6), (6, 6), interpolation="bicubic"
    )
    # Padding at the end makes rounding down Caffe's rounding up.
    shapes = Net(source.definition, shapes_only=True).blobs["pool1"].shape
    assert tuple(shapes)[2:] == (3, 3)


def test_layers_that_caffe_has_not_are_all_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = np.empty((1, 3), object)
    layers[0, :] = [{"type": "pdist", "name": "p"}, {"type": "softmax"}, {"type": "custom"}]
    size = {"imageSize": [6.0, 6.0, 3.0]}
    scipy_io.savemat(tmp_path / "x.mat", {"layers": layers, "meta": {"normalization": size}})
    assert run(tmp_path / "x.mat") == 1
    error = capsys.readouterr().err
    assert "layer 'p' (pdist): Caffe has no such layer" in error
    assert "layer 'layer3' (custom): Caffe has no such layer" in error
    assert not (tmp_path / "x.caffemodel").exists()


def test_layers_that_matconvnet_has_not_are_all_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CHAIN.replace('type: "ReLU"', 'type: "TanH"').replace(
        "pool: MAX kernel_size: 3", "pool: AVE kernel_size: 3 pad: 1"
    )
    written(text, tmp_path)
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat") == 1
    error = capsys.readouterr().err
    assert "layer 'relu1' (TanH): MatConvNet has no such layer" in error
    assert "layer 'pool1' (Pooling): Caffe's average counts the padding" in error
    assert not (tmp_path / "net.mat").exists()
    text = CHAIN.replace('type: "Softmax"', 'type: "TanH"')
    written(text, tmp_path)
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat") == 1
    flags = re.findall(r"--output \w+", capsys.readouterr().err)
    assert flags == ["--output fc"]
    assert run(tmp_path / "net.caffemodel", tmp_path / "net.mat", *flags[0].split()) == 0


def test_meta_that_is_no_struct_counts_as_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = np.empty((1, 1), object)
    layers[0, 0] = {"type": "softmax", "name": "prob"}
    meta = np.empty((1, 1), object)
    meta[0, 0] = "text"
    scipy_io.savemat(tmp_path / "x.mat", {"layers": layers, "meta": meta})
    assert run(tmp_path / "x.mat") == 1
    assert "does not say the size of its images" in capsys.readouterr().err


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_count_as_none(value: float) -> None:
    settings = {"imageSize": [6.0, 6.0, 3.0], "averageImage": [1.0, 2.0, 3.0]}
    for field in ("border", "cropSize"):
        meta = {"normalization": [settings | {field: [value, 6.0]}]}
        assert input_shape(meta, [], Path("x.mat")) == (3, 6, 6)
        found = preprocessing_of(meta, swapped=False)
        assert found is not None
        assert found.resize == 6
    meta = {"normalization": [settings | {"imageSize": [value, 6.0, 3.0]}]}
    assert preprocessing_of(meta, swapped=False) is None
    with pytest.raises(FormatError, match="does not say the size of its images"):
        input_shape(meta, [], Path("x.mat"))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "pad": ({"pad": [1.0, 0.0, 1.0, 1.0]}, "its padding differs between two sides"),
    "channels": ({"filters": np.ones((3, 3, 2, 2), np.float32)}, "take 2 channels, but it reads 3"),
    "huge kernel": ({"filters": np.ones((40, 40, 3, 1), np.float32)}, "too small for it"),
    "negative": ({"pad": -1.0}, "not described as MatConvNet does"),
    "text": ({"stride": "two"}, "not described as MatConvNet does"),
    "no filters": ({"filters": np.zeros((0, 0))}, "it has no filters of four axes"),
    "number": ({"type": 3.0}, "Caffe has no such layer"),
}


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_make_no_net(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, expected = WRONG[name]
    assert run(old_file(tmp_path / "old.mat", **changes)) == 1
    assert expected in capsys.readouterr().err


HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def element(kind: int, content: bytes, size: int | None = None) -> bytes:
    length = len(content) if size is None else size
    return struct.pack("<II", kind, length) + content + b"\0" * (-len(content) % 8)


def matrix(kind: int, dims: tuple[int, ...], *parts: bytes) -> bytes:
    head = element(6, struct.pack("<II", kind, 0)) + element(
        5, struct.pack(f"<{len(dims)}i", *dims)
    )
    return element(14, head + element(1, b"layers") + b"".join(parts))


def nested(depth: int) -> bytes:
    inner = matrix(6, (1, 1), element(9, b"\0" * 8))
    for _ in range(depth):
        inner = matrix(1, (1, 1), inner)
    return inner


NAN = struct.pack("<d", math.nan)
HOSTILE = {
    "empty": (b"", "the file is empty|no variable 'layers'"),
    "claims more": (element(14, b"", 1 << 31), "claims 2,147,483,648 bytes"),
    "huge cell": (matrix(1, (1 << 30, 1 << 30)), "a cell or struct claims"),
    "huge array": (matrix(7, (1 << 30, 1 << 30), element(7, b"\0" * 8)), "has 2 values"),
    "negative shape": (matrix(7, (-1, 1), element(7, b"")), "no type or no shape"),
    "deep": (nested(40), "nested more than 32 deep"),
    "bomb": (
        element(15, zlib.compress(b"\0" * (80 << 20), 9)),
        "its unpacked content would take",
    ),
    "not packed": (element(15, b"abcdefgh"), "it cannot be unpacked"),
    "sparse": (matrix(5, (1, 1), element(5, b"\0" * 4)), "not numbers, text, a cell or a struct"),
    "function": (matrix(16, (1, 1), element(5, b"\0" * 4)), "not numbers, text, a cell"),
    "field length": (
        matrix(2, (1, 1), element(5, b"\0" * 4), element(1, b"abc")),
        "field names of a struct have no length",
    ),
    "type that is no number": (
        element(14, element(9, NAN) + element(5, b"\1\0\0\0" * 2) + element(1, b"x")),
        "not in whole numbers",
    ),
    "shape that is no number": (
        element(14, element(6, bytes(8)) + element(9, NAN * 2) + element(1, b"x")),
        "not in whole numbers",
    ),
    "infinite field length": (
        matrix(2, (1, 1), element(9, struct.pack("<d", math.inf)), element(1, b"abc")),
        "not in whole numbers",
    ),
    "no net": (matrix(7, (1, 1), element(7, b"\0" * 4)), "no variable 'layers' of structs"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_gets_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, expected = HOSTILE[name]
    path = tmp_path / "x.mat"
    path.write_bytes(HEADER + content)
    assert run(path) == 1
    error = capsys.readouterr().err
    assert any(part in error for part in expected.split("|"))
    assert len(error.splitlines()) == 1


def test_version_7_3_without_its_hdf5_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    assert run(path) == 1
    assert "damaged" in capsys.readouterr().err


def test_damage_anywhere_is_one_sentence(tmp_path: Path) -> None:
    good = old_file(tmp_path / "good.mat").read_bytes()
    buffer = io.BytesIO()
    scipy_io.savemat(buffer, {"layers": {"name": "a", "type": "b"}, "n": np.ones((2, 3))})
    path = tmp_path / "x.mat"
    refused = 0
    for content in (good, buffer.getvalue()):
        step = max(1, len(content) // 300)
        for at in range(0, len(content), step):
            for damaged in (content[:at], content[:at] + b"\xff" + content[at + 1 :]):
                path.write_bytes(damaged or b"MATLAB ")
                try:
                    read_source(path, None)
                except CaffeError as error:
                    assert_one_sentence(str(error))
                    refused += 1
    assert refused > 300
