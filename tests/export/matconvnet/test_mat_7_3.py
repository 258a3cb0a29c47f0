"""MAT files of version 7.3: nets in them, and what else such a file may hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.errors import CaffeError, FormatError
from caffecompat.export.matconvnet.mat_file import read_mat
from caffecompat.export.source import read_source
from tests.export.matconvnet.mat_7_3 import StructArray, finish, marked, put, save_mat
from tests.sentences import assert_one_sentence

RANDOM = np.random.default_rng(0)
FILTERS = RANDOM.standard_normal((3, 2, 3, 4)).astype(np.float32)
BIASES = RANDOM.standard_normal((4, 1)).astype(np.float32)
LAST = RANDOM.standard_normal((4, 4, 4, 2)).astype(np.float32)
META = {
    "normalization": {
        "imageSize": np.array([8.0, 9.0, 3.0]),
        "averageImage": np.array([3.0, 2.0, 1.0], np.float32).reshape(1, 1, 3),
        "keepAspect": True,
        "interpolation": "bilinear",
    },
    "classes": {"description": ["cat", "dög"]},
}
SIMPLE = [
    {
        "type": "conv",
        "name": "conv1",
        "weights": [FILTERS, BIASES],
        "pad": 0.0,
        "stride": np.array([2.0, 2.0]),
    },
    {"type": "relu", "name": "relu1", "leak": 0.0},
    {
        "type": "conv",
        "name": "fc",
        "weights": [LAST[:3], np.zeros((0, 0), np.float32)],
        "pad": np.zeros((1, 4)),
        "stride": 1.0,
    },
    {"type": "softmax", "name": "prob"},
]
DAG = {
    "vars": StructArray([{"name": n, "precious": False} for n in ("data", "a", "b")]),
    "params": StructArray(
        [
            {"name": "conv1f", "value": FILTERS, "learningRate": 1.0},
            {"name": "conv1b", "value": BIASES, "learningRate": 2.0},
        ]
    ),
    "layers": StructArray(
        [
            {
                "name": "conv1",
                "type": "dagnn.Conv",
                "inputs": ["data"],
                "outputs": ["a"],
                "params": ["conv1f", "conv1b"],
                "block": {"stride": 2.0, "pad": 0.0, "hasBias": True},
            },
            {
                "name": "twice",
                "type": "dagnn.Sum",
                "inputs": ["a", "a"],
                "outputs": ["b"],
                "params": [],
                "block": {"numInputs": np.zeros((0, 0))},
            },
        ]
    ),
    "meta": META,
}


def run(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


def convolved(x: np.ndarray) -> np.ndarray:
    """conv1 of an R, G, B image (C, H, W), as vl_nnconv does."""
    out = np.zeros((4, 3, 4))
    for row in range(3):
        for column in range(4):
            part = x[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 2]
            out[:, row, column] = np.einsum("hwck,chw->k", FILTERS, part)
    return out + BIASES[:, :, None]


@pytest.mark.parametrize("inside", [False, True], ids=["variables", "net"])
def test_simple_nets(inside: bool, tmp_path: Path) -> None:
    variables: dict[str, Any] = {"layers": SIMPLE, "meta": META}
    path = save_mat(tmp_path / "x.mat", {"net": variables} if inside else variables)
    assert run(path) == 0
    net = Net(tmp_path / "x.prototxt", weights=tmp_path / "x.caffemodel")
    x = RANDOM.standard_normal((1, 3, 8, 9)).astype(np.float32)
    net.forward(data=x)
    wanted = np.maximum(convolved(x[0, ::-1]), 0)
    np.testing.assert_allclose(net.blobs["conv1"].data.numpy()[0], wanted, rtol=1e-4, atol=1e-5)
    scores = np.einsum("hwck,chw->k", LAST[:3], wanted)
    found = net.blobs["fc"].data.numpy().reshape(-1)
    np.testing.assert_allclose(found, scores, rtol=1e-4, atol=1e-4)
    how = read_source(path, None).preprocessing
    assert how is not None
    assert (how.mean, how.crop, how.labels) == ((1, 2, 3), (8, 9), ("cat", "dög"))


@pytest.mark.parametrize("inside", [False, True], ids=["variables", "net"])
def test_dag_nets(inside: bool, tmp_path: Path) -> None:
    path = save_mat(tmp_path / "x.mat", {"net": DAG} if inside else DAG)
    assert run(path) == 0
    net = Net(tmp_path / "x.prototxt", weights=tmp_path / "x.caffemodel")
    x = RANDOM.standard_normal((1, 3, 8, 9)).astype(np.float32)
    (found,) = net.forward(data=x).values()
    np.testing.assert_allclose(found[0], 2 * convolved(x[0, ::-1]), rtol=1e-4, atol=1e-5)


def test_values_are_those_of_version_5(tmp_path: Path) -> None:
    scipy_io: Any = pytest.importorskip("scipy.io")
    cell = np.empty((1, 2), object)
    cell[0, :] = ["text", np.arange(6.0).reshape(2, 3)]
    scipy_io.savemat(tmp_path / "5.mat", {"c": cell, "s": {"f": 2.0, "t": "ä"}, "n": np.eye(3)})
    save_mat(
        tmp_path / "7.mat",
        {"c": ["text", np.arange(6.0).reshape(2, 3)], "s": {"f": 2.0, "t": "ä"}, "n": np.eye(3)},
    )
    old, new = read_mat(tmp_path / "5.mat"), read_mat(tmp_path / "7.mat")
    assert old["c"][0] == new["c"][0]
    np.testing.assert_array_equal(old["c"][1], new["c"][1])
    np.testing.assert_array_equal(old["n"], new["n"])
    assert [*old["s"][0]] == [*new["s"][0]]
    assert old["s"][0]["t"] == new["s"][0]["t"]


def damaged(change: Callable[[Any], None], folder: Path) -> Path:
    path = folder / "x.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        put(file, file, "layers", SIMPLE)
        put(file, file, "meta", META)
        change(file)
    finish(path)
    return path


def linked(file: Any) -> None:
    del file["meta"]
    file["meta"] = h5py.ExternalLink("/etc/passwd", "/x")


def softly(file: Any) -> None:
    del file["meta"]
    file["meta"] = h5py.SoftLink("/layers")


def outside(file: Any) -> None:
    other = file.create_dataset("other", data=np.eye(2))
    marked(other, "double")
    file["layers"][0, 0] = other.ref


def around(file: Any) -> None:
    cell = file["#refs#"].create_dataset("loop", (1, 1), h5py.ref_dtype)
    marked(cell, "cell")
    cell[0, 0] = cell.ref
    file["layers"][0, 0] = cell.ref


def unequal(file: Any) -> None:
    group = file.create_group("struct")
    for name, count in (("a", 1), ("b", 2)):
        values = np.empty((count, 1), h5py.ref_dtype)
        values[...] = file["layers"][0, 0]
        group.create_dataset(name, data=values)
    marked(group, "struct")


def deep(file: Any) -> None:
    inner = file["layers"][0, 0]
    for index in range(40):
        cell = file["#refs#"].create_dataset(f"deep{index}", (1, 1), h5py.ref_dtype)
        cell[0, 0] = inner
        inner = marked(cell, "cell").ref
    file["layers"][0, 0] = inner


def huge(file: Any) -> None:
    made = file.create_dataset("n", (1 << 20, 1 << 12), "f8", chunks=(1 << 10, 1 << 10))
    marked(made, "double")


def complex_numbers(file: Any) -> None:
    marked(file.create_dataset("n", data=np.ones(2, [("real", "f8"), ("imag", "f8")])), "double")


def vague(file: Any) -> None:
    file["meta"].attrs["MATLAB_class"] = "struct"


def several(file: Any) -> None:
    file["meta"].attrs["MATLAB_class"] = np.array([b"struct", b"cell"])


def packed(file: Any) -> None:
    marked(file.create_dataset("n", data=np.ones(500), compression="lzf"), "double")


HOSTILE: dict[str, tuple[Callable[[Any], None], str]] = {
    "external link": (linked, "soft or external link"),
    "soft link": (softly, "soft or external link"),
    "reference outside": (outside, "refers to something that is not beside the other values"),
    "reference in a circle": (around, "contains itself"),
    "columns": (unequal, "fields differ in length"),
    "deep": (deep, "more than 32 cells and structs deep"),
    "huge": (huge, "claims"),
    "complex": (complex_numbers, "expected numbers"),
    "class of any length": (vague, "attribute MATLAB_class of an unusual kind"),
    "several classes": (several, "attribute MATLAB_class of an unusual kind"),
    "other filter": (packed, "filter number"),
    "function": (
        lambda file: marked(file.create_group("f"), "function_handle"),
        "is of class 'function_handle'",
    ),
    "object": (lambda file: marked(file.create_dataset("f", data=[1]), "string"), "class 'string'"),
    "no class": (lambda file: file.create_dataset("f", data=[1]), "is of class None"),
    "sparse": (
        lambda file: marked(file.create_group("f"), "double", MATLAB_sparse=np.uint64(3)),
        "is of class 'sparse'",
    ),
    "struct of nothing": (
        lambda file: marked(file.create_dataset("f", data=[1]), "struct"),
        "is a struct without fields",
    ),
    "cell of numbers": (
        lambda file: marked(file.create_dataset("f", data=[1]), "cell"),
        "holds no references",
    ),
    "text of fractions": (
        lambda file: marked(file.create_dataset("f", data=[1.5]), "char"),
        "expected an integer",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_get_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, sentence = HOSTILE[name]
    assert run(damaged(change, tmp_path)) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "x.caffemodel").exists()


def test_a_value_that_many_refer_to_is_read_once(tmp_path: Path) -> None:
    def shared(file: Any) -> None:
        inner = file["layers"][0, 0]
        for index in range(20):
            cell = file["#refs#"].create_dataset(f"wide{index}", (100, 1), h5py.ref_dtype)
            cell[...] = inner
            inner = marked(cell, "cell").ref
        file["layers"][0, 0] = inner

    with pytest.raises(FormatError, match="not described as MatConvNet does"):
        read_source(damaged(shared, tmp_path), None)


def test_a_file_without_a_net(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(save_mat(tmp_path / "x.mat", {"n": np.eye(2), "t": ""})) == 1
    assert "no variable 'layers'" in capsys.readouterr().err


def test_damage_anywhere_is_one_sentence(tmp_path: Path) -> None:
    good = save_mat(tmp_path / "good.mat", {"layers": SIMPLE[:2], "meta": META}).read_bytes()
    path = tmp_path / "x.mat"
    refused = 0
    for at in range(512, len(good), len(good) // 25):
        for content in (good[:at], good[:at] + b"\xff" * 8 + good[at + 8 :]):
            path.write_bytes(content)
            try:
                read_source(path, None)
            except CaffeError as error:
                assert_one_sentence(str(error))
                refused += 1
    assert refused > 25
