"""Descriptions of files: kinds, generations, values; published files, intact or altered."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import CaffeError
from caffecompat.weights import (
    LayerWeights,
    Weights,
    known_files,
    load_weights,
    save_weights,
    write_mean,
)
from caffecompat.weights.compare import compare_weights, same_bits
from caffecompat.weights.description import describe_file, file_kind, value_statistics
from caffecompat.weights.known_files import PublishedFile, file_hash, recognise
from tests.places import COPIES

DATA = COPIES / "files"


@pytest.mark.parametrize(
    ("file", "kind", "title"),
    [
        ("convnet/v2.caffemodel", "weights", "caffemodel, generation V2"),
        ("convnet/v1.caffemodel", "weights", "caffemodel, generation V1"),
        ("convnet/v0.caffemodel", "weights", "caffemodel, generation V0"),
        ("convnet/v2.caffemodel.h5", "weights", "HDF5 weights"),
        ("convnet/io.npz", "weights", None),
        ("solverstate/adam_bin_iter_5.solverstate", "solver state", "solver state"),
        ("solverstate/adam_h5_iter_5.solverstate.h5", "solver state", "solver state"),
        ("mean/legacy.binaryproto", "mean", "mean image"),
        ("mean/shape4.binaryproto", "mean", "mean image"),
    ],
)
def test_kinds(file: str, kind: str, title: str | None) -> None:
    if title is None:
        with pytest.raises(CaffeError, match="expected keys of the form layer/index"):
            describe_file(DATA / file)
        return
    assert file_kind(DATA / file) == kind
    description = describe_file(DATA / file, values=True)
    assert (description.kind, description.title) == (kind, title)


def test_layers_shapes_and_types() -> None:
    old = describe_file(DATA / "convnet" / "v1.caffemodel")
    new = describe_file(DATA / "convnet" / "v2.caffemodel")
    shapes = {layer.name: [b.shape for b in layer.blobs] for layer in new.layers if layer.blobs}
    assert {e.name: [b.shape for b in e.blobs] for e in old.layers if e.blobs} == shapes
    assert all(len(b.legacy or ()) == 4 for layer in old.layers for b in layer.blobs)
    assert old.parameters == new.parameters > 0
    double = describe_file(DATA / "convnet" / "double.caffemodel")
    assert {b.stored for layer in double.layers for b in layer.blobs} == {"float64"}


def test_types_of_numbers_in_other_formats(tmp_path: Path) -> None:
    import torch

    with open(tmp_path / "x.npz", "wb") as file:
        np.savez(file, **{"fc/0": np.ones(3, ">f8"), "fc/1": np.ones(2, np.float16)})  # type: ignore[arg-type]
    torch.save({"fc.weight": torch.ones(3).bfloat16()}, tmp_path / "x.pt")
    found = {
        name: [b.stored for layer in describe_file(tmp_path / name).layers for b in layer.blobs]
        for name in ("x.npz", "x.pt")
    }
    assert found == {"x.npz": ["float64", "float16"], "x.pt": ["bfloat16"]}


def test_state_and_mean_tell_their_numbers(tmp_path: Path) -> None:
    state = describe_file(DATA / "solverstate" / "adam_bin_iter_5.solverstate")
    assert dict(state.facts)["iteration"] == "5"
    assert dict(state.facts)["weights"] == "adam_bin_iter_5.caffemodel"
    assert dict(state.facts)["history"] == "8 arrays, 52 values"
    image = np.stack([np.full((2, 5), value, np.float32) for value in (104, 117.5, 123)])
    write_mean(image, tmp_path / "mean.binaryproto")
    mean = dict(describe_file(tmp_path / "mean.binaryproto").facts)
    assert mean["image"] == "3 channels, 2 high, 5 wide"
    assert mean["channel means"].startswith("104, 117.5, 123 ")
    write_mean(image[:1], tmp_path / "gray.binaryproto")
    gray = dict(describe_file(tmp_path / "gray.binaryproto").facts)
    assert (gray["image"], gray["channel means"]) == ("1 channel, 2 high, 5 wide", "104")


def test_numbers_with_nans_and_infinities() -> None:
    values = value_statistics(np.array([[1, np.nan, -3], [np.nan, 5, 0]], np.float32))
    assert (values.minimum, values.maximum, values.nans) == (-3, 5, 2)
    assert values.mean == pytest.approx(0.75)
    assert value_statistics(np.array([np.inf, 1], np.float32)).maximum == np.inf
    empty, all_nan = (
        value_statistics(np.empty(0, np.float32)),
        value_statistics(np.full(4, np.nan, np.float32)),
    )
    assert (empty.nans, all_nan.nans) == (0, 4)
    assert np.isnan(all_nan.mean)


def test_table_of_published_files_is_well_formed() -> None:
    lengths = {"sha256": 64, "sha384": 96, "md5": 32}
    for known in known_files.PUBLISHED:
        assert len(known.digest) == lengths[known.algorithm]
        assert known.digest == known.digest.lower()
        assert hashlib.new(known.algorithm).name == known.algorithm
        assert known.preparation
    sizes = [known.size for known in known_files.PUBLISHED if known.size]
    assert len(set(sizes)) == len(sizes) == 4


def test_published_altered_and_unknown_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"the published bytes"
    digest = hashlib.sha384(content).hexdigest()
    table = (
        PublishedFile("net.caffemodel", "a net", "sha384", digest, len(content), ("BGR",)),
        PublishedFile("old.mat", "a copy", "md5", hashlib.md5(content).hexdigest()),
    )
    monkeypatch.setattr(known_files, "PUBLISHED", table)
    path = tmp_path / "whatever.name"
    path.write_bytes(content)
    found = recognise(path)
    assert found is not None
    assert found.exact
    assert found.sentence() == "this is the published net.caffemodel: a net (sha384 agrees)"
    path.write_bytes(content[::-1])
    altered = recognise(path)
    assert altered is not None
    assert not altered.exact
    assert "has the size of the published net.caffemodel" in altered.sentence()
    assert "altered or damaged" in altered.sentence()
    path.write_bytes(content + b"!")
    assert recognise(path) is None
    (tmp_path / "old.mat").write_bytes(content + b"!")
    by_name = recognise(tmp_path / "old.mat")
    assert by_name is not None
    assert "has the name of the published old.mat" in by_name.sentence()


def test_hashes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "x").write_bytes(data)
    assert file_hash(tmp_path / "x") == hashlib.sha256(data).hexdigest()
    assert file_hash(tmp_path / "x", "md5") == hashlib.md5(data).hexdigest()
    with pytest.raises(CaffeError, match="cannot be read"):
        file_hash(tmp_path / "none")


class TestComparison:
    def weights(
        self, folder: Path, name: str, scale: float = 1.0, kind: str | None = None
    ) -> Weights:
        layers = [
            LayerWeights(
                "conv",
                "Convolution",
                [np.arange(12, dtype=np.float32).reshape(2, 3, 2, 1) * np.float32(scale)],
            ),
            LayerWeights("fc", "InnerProduct", [np.ones((2, 5), np.float32)]),
            LayerWeights("relu", "ReLU"),
        ]
        save_weights(Weights(layers), folder / name, format=kind)
        return load_weights(folder / name)

    def test_generations_and_formats_are_equal(self, tmp_path: Path) -> None:
        first = self.weights(tmp_path, "a.caffemodel")
        for name, kind in (("b.caffemodel", "caffemodel-v1"), ("b.npz", None), ("b.h5", None)):
            other = self.weights(tmp_path, name, kind=kind)
            for comparison in (compare_weights(first, other), compare_weights(other, first)):
                assert not comparison.differs(), name
                assert len(comparison.distances) == 2

    def test_distances(self, tmp_path: Path) -> None:
        first = self.weights(tmp_path, "a.caffemodel")
        other = self.weights(tmp_path, "b.caffemodel", scale=2)
        comparison = compare_weights(first, other)
        conv, fc = comparison.distances
        assert (conv.layer, conv.index, conv.largest, conv.relative) == ("conv", 0, 11, 0.5)
        assert fc.largest == 0
        assert comparison.differs()
        assert comparison.differs(10.5)
        assert not comparison.differs(11)

    def test_nans_and_infinities(self) -> None:
        def one(*values: float) -> Weights:
            return Weights([LayerWeights("a", "T", [np.array(values, np.float32)])])

        same = compare_weights(one(np.nan, np.inf, 1), one(np.nan, np.inf, 1))
        assert not same.differs()
        apart = compare_weights(one(np.nan, 1, 2), one(1, 1, np.nan))
        assert apart.distances[0].nans == 2
        assert apart.differs(1e9)
        assert compare_weights(one(np.inf), one(-np.inf)).distances[0].largest == np.inf

    def test_structure(self) -> None:
        blob = np.ones((2, 3), np.float32)
        first = Weights(
            [
                LayerWeights("a", "Convolution", [blob]),
                LayerWeights("b", "Scale", [blob, blob]),
                LayerWeights("c", "Scale", [blob]),
                LayerWeights("only", "Scale", [blob]),
            ]
        )
        other = Weights(
            [
                LayerWeights("a", "Deconvolution", [blob]),
                LayerWeights("b", "Scale", [blob]),
                LayerWeights("c", "Scale", [blob.T]),
                LayerWeights("new", "", [blob]),
            ]
        )
        assert compare_weights(first, other).structure == [
            "layer 'only' (Scale) is in the first only",
            "layer 'new' is in the second only",
            "layer 'a' is Convolution here, Deconvolution there",
            "layer 'b' (Scale) has 2 blobs here, 1 there",
            "layer 'c' (Scale): blob 0 is 2x3 here, 3x2 there",
        ]

    def test_bits(self) -> None:
        a = np.array([0.0, np.nan], np.float32)
        assert same_bits(a, a.copy().reshape(2, 1))
        assert not same_bits(a, np.array([-0.0, np.nan], np.float32))
        assert not same_bits(a, a[:1])
