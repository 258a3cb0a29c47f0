"""safetensors: bytes pinned, metadata, other programs' files, headers that lie."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.errors import FormatError, WeightsError
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.weights import LayerWeights, Weights, load_weights, save_weights

NAMING = torch_naming()


def one_layer() -> Weights:
    blobs = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)]
    weights = Weights([LayerWeights("fc", "InnerProduct", blobs)], "net")
    weights.metadata = {"prototxt": "name: 'ß'", "preprocessing": "{}"}
    return weights


def write(path: Path, header: object, values: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + values)
    return path


def test_bytes_are_those_of_the_specification(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    weights = Weights([LayerWeights("a", "InnerProduct", [np.array([[1.5]], np.float32)])], "n")
    save_weights(weights, path, naming=NAMING)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    assert content[8 + length :] == b"\x00\x00\xc0\x3f"
    header = json.loads(content[8 : 8 + length])
    assert header["a.weight"] == {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}
    assert header["__metadata__"]["format"] == "pt"


def test_metadata_come_back(tmp_path: Path) -> None:
    for suffix in (".safetensors", ".pt"):
        path = tmp_path / f"x{suffix}"
        save_weights(one_layer(), path, naming=NAMING)
        back = load_weights(path, NAMING)
        assert back.metadata == one_layer().metadata
        assert (back.net_name, back["fc"].type) == ("net", "InnerProduct")


def test_arrays_are_views_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_weights(one_layer(), path, naming=NAMING)
    blob = load_weights(path, NAMING)["fc"].blobs[0]
    assert not blob.flags.owndata
    blob[...] = 7
    assert load_weights(path, NAMING)["fc"].blobs[0][0, 1] == 1


def test_the_library_reads_and_writes_the_same(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    save_weights(one_layer(), path, naming=NAMING)
    found = library.load_file(path)
    assert found["fc.weight"].tobytes() == one_layer()["fc"].blobs[0].tobytes()
    arrays: dict[str, Any] = {
        f"x.{kind}": np.array([[1, 0, 3]]).astype(kind)
        for kind in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "bool")
    }
    library.save_file(arrays, path)
    back = load_weights(path, NAMING)["x"]
    assert sorted(back.stored)[:2] == ["bool", "float16"]
    assert all(blob.dtype == np.float32 and blob[0, 0] == 1 for blob in back.blobs)


def test_bfloat16_is_read(tmp_path: Path) -> None:
    values = np.array([1.5, -2.0], np.float32)
    entry = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    content = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    path = write(tmp_path / "x", {"a.weight": entry}, content)
    assert load_weights(path, NAMING)["a"].blobs[0].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("length", [10, 18, 26, 0x2A2])
def test_a_length_that_looks_like_the_key_of_a_caffemodel(length: int, tmp_path: Path) -> None:
    header = b"{}".ljust(length)
    with pytest.raises(FormatError, match="follow the header"):
        load_weights(write(tmp_path / "x", header, b"1234"), NAMING)


def entry(shape: Any = (2,), begin: Any = 0, end: Any = 8, dtype: Any = "F32") -> Any:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HOSTILE = {
    "cut off": ({"a.b": entry()}, b"1234", "its arrays take 8 bytes, but 4 follow"),
    "more than claimed": ({"a.b": entry()}, b"1" * 9, "but 9 follow"),
    "hole": ({"a.b": entry(begin=4, end=12)}, b"1" * 12, "expected 0; arrays follow"),
    "overlap": ({"a.b": entry(), "a.c": entry()}, b"1" * 8, "expected 8; arrays follow"),
    "shape": ({"a.b": entry(shape=[3])}, b"1" * 8, "12 bytes by its shape and 8 by its place"),
    "huge": ({"a.b": entry(shape=[2**62, 2**62])}, b"1" * 8, "bytes by its shape"),
    "negative": ({"a.b": entry(shape=[-2])}, b"1" * 8, "not made of whole numbers"),
    "fraction": ({"a.b": entry(shape=[2.0])}, b"1" * 8, "not made of whole numbers"),
    "bool": ({"a.b": entry(shape=[True])}, b"1" * 4, "not made of whole numbers"),
    "backwards": ({"a.b": entry(begin=8, end=0)}, b"1" * 8, "by its place"),
    "type": ({"a.b": entry(dtype="F8_E4M3")}, b"1" * 8, "holds 'F8_E4M3', expected one of"),
    "type is a list": ({"a.b": entry(dtype=["F32"])}, b"1" * 8, "expected one of"),
    "axes": ({"a.b": entry(shape=[1] * 33 + [2])}, b"1" * 8, "34 axes"),
    "not an entry": ({"a.b": 3}, b"", "not described by"),
    "other keys": ({"a.b": {**entry(), "x": 1}}, b"1" * 8, "not described by"),
    "metadata": ({"__metadata__": {"a": 1}}, b"", "are not all text"),
    "twice": (b'{"a.b":{},"a.b":{}}', b"", "two entries have one name"),
    "NaN": (b'{"a.b":NaN}', b"", "NaN is not a number"),
    "not closed": (b'{"a.b":', b"", "header of this safetensors file is damaged"),
    "deep": (b'{"a":' + b"[" * 100_000, b"", "header of this safetensors file is damaged"),
    "not UTF-8": (b'{"\xff":1}', b"", "header of this safetensors file is damaged"),
    "no dot": ({"a": entry()}, b"1" * 8, "has no layer"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_that_lies_gets_one_sentence(name: str, tmp_path: Path) -> None:
    header, values, expected = HOSTILE[name]
    path = write(tmp_path / "x.safetensors", header, values)
    with pytest.raises(FormatError, match=expected) as caught:
        load_weights(path, NAMING)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [11, 10**9, 2**32 - 1])
def test_a_length_beyond_the_file(length: int, tmp_path: Path) -> None:
    path = write(tmp_path / "x", b'{"a.b": 1}', length=length)
    with pytest.raises(FormatError, match="cut off or damaged"):
        load_weights(path, NAMING)


def test_a_header_that_would_fill_memory_is_not_parsed(tmp_path: Path) -> None:
    path = write(tmp_path / "x", b'{"a":[' + b"0," * 4_000_000 + b"0]}")
    with pytest.raises(FormatError, match="its header would take"):
        load_weights(path, NAMING)


def test_each_truncation_and_each_flipped_bit_is_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_weights(one_layer(), path, naming=NAMING)
    good = path.read_bytes()
    for length in range(1, len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(FormatError):
            load_weights(path, NAMING)
    for bit in range(0, 8 * len(good), 7):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with contextlib.suppress(FormatError):
            load_weights(path, NAMING)


def test_names_that_cannot_be_written(tmp_path: Path) -> None:
    from caffecompat.weights import Naming

    weights = Weights([LayerWeights("a", "T", [np.ones(1, np.float32)])])
    path = tmp_path / "x.safetensors"
    for name, expected in (("__metadata__", "cannot be the name"), ("\udc80.x", "is not text")):
        with pytest.raises(WeightsError, match=expected):
            save_weights(weights, path, naming=Naming(lambda layer, name=name: [name]))  # type: ignore[misc]
    assert not path.exists()
