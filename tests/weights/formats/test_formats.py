"""npz and HDF5 files, and what holds for all formats: round trips, suffixes, damage."""

from __future__ import annotations

import contextlib
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.errors import CaffeError, FormatError, UnknownName, WeightsError
from caffecompat.weights import LayerWeights, Weights, load_weights, save_weights
from caffecompat.weights import formats as formats_folder
from caffecompat.weights.format import formats
from tests.weights.naming import NAMING

SUFFIXES = [".caffemodel", ".caffemodel.h5", ".npz", ".pt", ".pth", ".safetensors"]


def bits(weights: Weights) -> dict[str, list[tuple[tuple[int, ...], bytes]]]:
    return {
        name: [(blob.shape, blob.tobytes()) for blob in weights[name].blobs]
        for name in sorted(weights)
        if weights[name].blobs
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_is_exact_and_the_same_bytes_each_time(
    suffix: str, weights: Weights, tmp_path: Path
) -> None:
    path = tmp_path / f"x{suffix}"
    save_weights(weights, path, naming=NAMING)
    first = path.read_bytes()
    back = load_weights(path, naming=NAMING)
    assert back.path == str(path)
    assert bits(back) == bits(weights)
    assert all(blob.dtype == np.float32 for name in back for blob in back[name].blobs)
    save_weights(weights, path, naming=NAMING)
    assert path.read_bytes() == first


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_can_be_saved_onto_itself_and_arrays_written_to(
    suffix: str, weights: Weights, tmp_path: Path
) -> None:
    path = tmp_path / f"x{suffix}"
    save_weights(weights, path, naming=NAMING)
    loaded = load_weights(path, naming=NAMING)
    loaded["conv.1"].blobs[0][...] = 3
    save_weights(loaded, path, naming=NAMING)
    assert (load_weights(path, naming=NAMING)["conv.1"].blobs[0] == 3).all()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_files_are_only_ever_caffe_errors(
    suffix: str, weights: Weights, tmp_path: Path
) -> None:
    path = tmp_path / f"x{suffix}"
    save_weights(weights, path, naming=NAMING)
    data = path.read_bytes()
    for length in range(1, len(data), 1 + len(data) // 40):
        path.write_bytes(data[:length])
        if suffix == ".caffemodel":
            continue  # every length is tried in test_caffemodel.py
        with pytest.raises(FormatError):
            load_weights(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flipped_bytes_are_only_ever_caffe_errors(
    suffix: str, weights: Weights, tmp_path: Path
) -> None:
    path = tmp_path / f"x{suffix}"
    save_weights(weights, path, naming=NAMING)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(11)
    for place in rng.integers(0, len(data), 150):
        old, data[place] = data[place], data[place] ^ 0xFF
        path.write_bytes(data)
        with contextlib.suppress(CaffeError):
            load_weights(path)
        data[place] = old


def test_suffixes_choose_formats_and_unknown_ones_are_answered(
    weights: Weights, tmp_path: Path
) -> None:
    with pytest.raises(UnknownName, match=r"'\.npy' in .*x\.npy; did you mean '\.npz'\?"):
        save_weights(weights, tmp_path / "x.npy")
    with pytest.raises(UnknownName, match="unknown weight format 'zip'"):
        save_weights(weights, tmp_path / "x.npz", format="zip")
    save_weights(weights, tmp_path / "X.NPZ")
    assert zipfile.is_zipfile(tmp_path / "X.NPZ")


class TestNpz:
    def test_keys_and_order(self, weights: Weights, tmp_path: Path) -> None:
        weights.layers.append(LayerWeights("block/conv", "T", [np.ones((2, 3), np.float32)]))
        save_weights(weights, tmp_path / "x.npz")
        with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
            assert arrays.files[:2] == ["conv.1/0", "conv.1/1"]
            assert arrays["block/conv/0"].shape == (2, 3)
        assert list(load_weights(tmp_path / "x.npz"))[-1] == "block/conv"

    def test_what_numpy_writes(self, tmp_path: Path) -> None:
        arrays: dict[str, Any] = {
            "fc/0": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "fc/1": np.arange(2, dtype=">i2"),
        }
        for save in (np.savez, np.savez_compressed):
            save(tmp_path / "x.npz", **arrays)
            layer = load_weights(tmp_path / "x.npz")["fc"]
            np.testing.assert_array_equal(layer.blobs[0], [[0, 1, 2], [3, 4, 5]])
            np.testing.assert_array_equal(layer.blobs[1], [0, 1])

    @pytest.mark.parametrize(
        ("arrays", "sentence"),
        [
            ({"weight": np.zeros(2)}, "array 'weight': expected keys of the form layer/index"),
            ({"fc/x": np.zeros(2)}, "array 'fc/x': expected keys"),
            (
                {"fc/0": np.zeros(2), "fc/2": np.zeros(2)},
                r"has the arrays \[0, 2\], expected 0 to 1",
            ),
            ({"fc/0": np.array([{}], object)}, "array 'fc/0' holds object, expected numbers"),
            ({"fc/0": np.array(["a"])}, "array 'fc/0' holds <U1"),
        ],
    )
    def test_other_arrays(self, arrays: dict[str, Any], sentence: str, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(FormatError, match=sentence):
            load_weights(tmp_path / "x.npz")

    @pytest.mark.parametrize("shape", ["(4000000000000,)", "(-1,)", "(2, 3)"])
    def test_claimed_sizes(self, shape: str, tmp_path: Path) -> None:
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("fc/0.npy", b"\x93NUMPY\x01\x00v\x00" + header.encode() + bytes(8))
        with pytest.raises(FormatError, match=r"array 'fc/0' (claims|is cut off)"):
            load_weights(tmp_path / "x.npz")

    def test_names_that_a_zip_cannot_hold(self, tmp_path: Path) -> None:
        weights = Weights([LayerWeights("a\0b", "T", [np.ones(2, np.float32)])])
        with pytest.raises(WeightsError, match="cannot be the name of an array"):
            save_weights(weights, tmp_path / "x.npz")
        assert list(tmp_path.iterdir()) == []


class TestHdf5:
    def test_gradients_and_many_blobs_in_order(self, tmp_path: Path) -> None:
        arrays = [np.full((index + 1,), index, np.float32) for index in range(12)]
        layer = LayerWeights("lstm", "LSTM", arrays, [array + 0.5 for array in arrays])
        save_weights(Weights([layer]), tmp_path / "x.h5")
        back = load_weights(tmp_path / "x.h5")["lstm"]
        assert [blob.shape for blob in back.blobs] == [(n,) for n in range(1, 13)]
        assert back.diffs is not None
        np.testing.assert_array_equal(back.diffs[10], np.full(11, 10.5))

    @pytest.mark.parametrize("name", ["a/b", "", "."])
    def test_names_that_caffe_cannot_write_either(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="cannot be a group of an HDF5 file"):
            save_weights(Weights([LayerWeights(name)]), tmp_path / "x.h5")
        assert list(tmp_path.iterdir()) == []

    def test_contents_outside_the_file_are_refused(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "secret.h5", "w") as file:
            file["values"] = np.zeros(3, np.float32)
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "values", (3,))
        for kind in ("link", "virtual", "external"):
            path = tmp_path / f"{kind}.h5"
            with h5py.File(path, "w") as file:
                layer = file.create_group("data/fc")
                if kind == "link":
                    layer["0"] = h5py.ExternalLink("secret.h5", "values")
                elif kind == "virtual":
                    layer.create_virtual_dataset("0", layout)
                else:
                    raw = [(str(tmp_path / "secret.h5"), 0, 12)]
                    layer.create_dataset("0", (3,), "f4", external=raw)
            with pytest.raises(FormatError, match=r"soft or external link|in another file"):
                load_weights(path)

    def test_claimed_sizes(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.create_dataset("data/fc/0", (10**6, 10**6), "f4", chunks=(10, 10))
        with pytest.raises(FormatError, match="claims 4000000000000 bytes, but the file has 0"):
            load_weights(tmp_path / "x.h5")

    def test_other_layouts(self, tmp_path: Path) -> None:
        for name in ("weights/fc/0", "data", "data/fc", "data/fc/weight", "data/fc/01"):
            with h5py.File(tmp_path / "x.h5", "w") as file:
                file[name] = np.zeros(3, np.float32)
            with pytest.raises(FormatError):
                load_weights(tmp_path / "x.h5")


TINY_FORMAT = """
from caffecompat.weights.format import LayerFormat, formats
from caffecompat.weights.weights import Weights, LayerWeights

@formats.register("names")
class Names(LayerFormat):
    suffixes = (".names",)

    def sniff(self, head, path):
        return head.startswith(b"names:")

    def read(self, path):
        return Weights([LayerWeights(n) for n in path.read_text()[6:].split()])

    def write(self, weights, path):
        path.write_text("names:" + " ".join(weights))
"""


def test_a_new_file_is_all_that_a_new_format_needs(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "names_of_layers.py").write_text(TINY_FORMAT)
    monkeypatch.setattr(formats_folder, "__path__", [*formats_folder.__path__, str(tmp_path)])
    monkeypatch.setattr(formats, "_entries", dict(formats._entries))
    monkeypatch.setattr(formats, "_loaded", False)
    save_weights(weights, tmp_path / "x.names")
    assert list(load_weights(tmp_path / "x.names")) == list(weights)


def test_nothing_heavy_is_imported_for_caffemodels(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = (
        "import sys, numpy as np; from caffecompat.weights import *;"
        "save_weights(Weights([LayerWeights('a', 'T', [np.ones(2)])]), 'x.caffemodel');"
        "load_weights('x.caffemodel');"
        "print(sorted({'torch', 'h5py', 'google.protobuf'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


class TestArraysByName:
    """What a script has before it has Weights: a dictionary of arrays by layer name."""

    @pytest.mark.parametrize("suffix", [".caffemodel", ".caffemodel.h5", ".npz"])
    def test_lists_of_arrays_and_tensors(self, tmp_path: Path, suffix: str) -> None:
        weight = np.arange(24, dtype=np.float64).reshape(2, 3, 4, 1)
        bias = torch.nn.Parameter(torch.tensor([0.5, -2.0]))
        path = tmp_path / f"a{suffix}"
        save_weights({"conv1": [weight, bias], "relu": []}, path)
        first, second = load_weights(path)["conv1"]
        assert first.tobytes() == weight.astype("f4").tobytes()
        assert first.shape == weight.shape
        assert second.tolist() == [0.5, -2.0]

    def test_the_parameters_of_a_net(self, tmp_path: Path) -> None:
        definition = tmp_path / "net.prototxt"
        definition.write_text(
            'layer { name: "i" type: "Input" top: "a" input_param { shape { dim: 1 dim: 3 } } }'
            'layer { name: "ip" type: "InnerProduct" bottom: "a" top: "b"'
            ' inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }'
        )
        net = Net(definition)
        save_weights(net.params, tmp_path / "a.caffemodel")
        layer = load_weights(tmp_path / "a.caffemodel")["ip"]
        assert len(layer) == 2
        assert np.array_equal(layer[0], np.asarray(net.params["ip"][0].data))

    @pytest.mark.parametrize("value", [np.zeros((2, 3)), torch.zeros(2), 3.0])
    def test_one_array_in_place_of_a_list(self, tmp_path: Path, value: Any) -> None:
        with pytest.raises(WeightsError, match=r"'fc\.weight'.*expected a list.*\[weight, bias\]"):
            save_weights({"fc.weight": value}, tmp_path / "a.caffemodel")
        assert not (tmp_path / "a.caffemodel").exists()
