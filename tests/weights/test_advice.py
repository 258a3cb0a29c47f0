"""What messages about weight files advise, followed to the letter, works."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.weights import LayerWeights, Weights, load_weights, save_weights
from caffecompat.weights.array_names import Naming
from tests.commands import Run, refused, verb_runner

NET = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a"
  param { name: "w" } param { name: "one" } inner_product_param { num_output: 2 } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b"
  param { name: "w" } param { name: "other" } inner_product_param { num_output: 2 } }
"""
NUMPY_1 = np.__version__.startswith("1.")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb beside a net; returns its error, "" when it succeeded."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    Path("away").mkdir()
    return verb_runner(capfd)


def one_layer(name: str = "fc", type_name: str = "", shape: tuple[int, ...] = (2, 3)) -> Weights:
    return Weights([LayerWeights(name, type_name, [np.ones(shape, np.float32)])])


def test_files_without_shared_parameters(run: Run) -> None:
    """HDF5 leaves out what a layer shares with an earlier one."""
    Net("net.prototxt", seed=2).save("away/net.caffemodel.h5")
    words = "only HDF5 can store that; pass the net definition, too (--model)"
    for target in ("net.npz", "net.caffemodel"):
        assert words in run(f"convert away/net.caffemodel.h5 {target}")
        assert not run(f"convert away/net.caffemodel.h5 {target} --model net.prototxt")
        assert len(load_weights(target)["b"].blobs) == 2
    weights = load_weights("away/net.caffemodel.h5")
    refused(lambda: save_weights(weights, "again.npz"), words)
    save_weights(weights, "again.h5")
    Net("net.prototxt", weights="away/net.caffemodel.h5").save("again.npz")
    assert len(load_weights("again.npz")["b"].blobs) == 2


def test_what_the_first_generations_lack(run: Run) -> None:
    Net("net.prototxt", seed=2).save("net.caffemodel")
    assert not run("convert net.caffemodel away/net.npz")
    words = "but a V1 file needs one; pass the net definition, too (--model)"
    command = "convert away/net.npz v1.caffemodel --to caffemodel-v1"
    assert words in run(command)
    assert not run(f"{command} --model net.prototxt")
    assert load_weights("v1.caffemodel")["a"].type == "InnerProduct"
    save_weights(one_layer("bn", "BatchNorm"), "bn.caffemodel")
    words = "the V1 generation has no such type; write a V2 .caffemodel"
    assert words in run("convert bn.caffemodel new.caffemodel --to caffemodel-v1")
    assert not run("convert bn.caffemodel new.caffemodel")
    assert load_weights("new.caffemodel").generation == "V2"


@pytest.mark.skipif(NUMPY_1, reason="numpy 1 has no arrays of more than 32 axes")
def test_arrays_of_many_axes(run: Run) -> None:
    deep = one_layer(shape=(2, *[1] * 32))
    save_weights(deep, "deep.npz")
    words = "but Caffe's blobs have at most 32; write .npz or .pt, or reshape it"
    assert words in run("convert deep.npz deep.caffemodel")
    assert not run("convert deep.npz deep.pt")
    assert not run("convert deep.npz again.npz")
    assert load_weights("deep.pt")["fc"].blobs[0].ndim == 33
    deep["fc"].blobs[0] = deep["fc"].blobs[0].reshape(2, 1)
    save_weights(deep, "deep.caffemodel")
    assert load_weights("deep.caffemodel")["fc"].blobs[0].shape == (2, 1)


def test_names_that_a_format_cannot_hold(run: Run) -> None:
    save_weights(one_layer("a/b"), "slash.caffemodel")
    words = "cannot be a group of an HDF5 file; rename the layer or write a .caffemodel"
    assert words in run("convert slash.caffemodel slash.h5")
    assert not run("convert slash.caffemodel other.caffemodel")
    save_weights(one_layer("a_b"), "slash.h5")
    assert list(load_weights("slash.h5")) == ["a_b"]
    words = "unknown weight file suffix '.npzz'"
    said = refused(lambda: save_weights(one_layer(), "new.npzz"), words)
    found = re.search(r"did you mean '(.*)'\?", said)
    assert found is not None
    save_weights(one_layer(), f"new{found[1]}")
    refused(lambda: load_weights("new.npz")["fcc"], "no layer 'fcc'; did you mean 'fc'?")
    assert load_weights("new.npz")["fc"].blobs


def test_names_of_state_dicts(run: Run) -> None:
    naming = Naming(lambda layer: [f"{layer.name.lower()}.weight"])
    words = (
        "a state dict needs names for its arrays; pass a naming, or write a .caffemodel and take "
        "it to this form with caffecompat convert"
    )
    refused(lambda: save_weights(one_layer(), "new.pt"), words)
    save_weights(one_layer(), "plain.caffemodel")
    assert not run("convert plain.caffemodel plain.pt")
    save_weights(one_layer(), "new.pt", naming=naming)
    assert list(torch.load("new.pt", weights_only=True)) == ["fc.weight"]
    two = Weights([*one_layer("fc").layers, *one_layer("FC").layers])
    words = "another array has the name 'fc.weight'; rename the layer"
    refused(lambda: save_weights(two, "two.pt", naming=naming), words)
    two.layers[1].name = "fd"
    save_weights(two, "two.pt", naming=naming)
    assert list(load_weights("two.pt")) == ["fc", "fd"]
    torch.save({"weight": torch.ones(2, 3)}, "new.pt")
    words = "the name of array 'weight' has no layer; expected layer.array (conv1.weight)"
    refused(lambda: load_weights("new.pt"), words)
    torch.save({"conv1.weight": torch.ones(2, 3)}, "new.pt")
    assert list(load_weights("new.pt")) == ["conv1"]


def test_torch_files_of_other_contents(run: Run) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3))
    contents = [
        (model, "are never loaded, because they may run code; "),
        (model.state_dict()["0.weight"], "this torch file holds a Tensor; "),
        ({"0.weight": 3}, "of this torch file is of type int, expected a tensor; "),
        ({"0.weight": torch.ones(2).to_sparse()}, "expected plain real numbers; "),
    ]
    for content, words in contents:
        torch.save(content, "net.pt")
        words += "save one state dict with torch.save(model.state_dict(), ...)"
        refused(lambda: load_weights("net.pt"), words)
        assert words in run("inspect net.pt")
    torch.save(model.state_dict(), "net.pt")
    assert len(load_weights("net.pt")["0"].blobs) == 2
    assert not run("inspect net.pt")


def test_torch_checkpoints(run: Run) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3))
    torch.save({"model": module.state_dict(), "epoch": 3}, "net.pt")
    said = run("convert net.pt net.npz")
    words = "save it alone with torch.save(torch.load('net.pt')['model'], ...)"
    assert words in said
    refused(lambda: load_weights("net.pt"), words)
    eval(words.partition("with ")[2].replace("...", "'alone.pt'"), {"torch": torch})
    assert not run("convert alone.pt net.npz")
    assert len(load_weights("net.npz")["0"].blobs) == 2


def test_torch_arrays_of_more_axes_than_numpy_has(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(tensor: torch.Tensor) -> np.ndarray:
        raise ValueError("maximum supported dimension for an ndarray is 32")

    torch.save({"fc.weight": torch.ones([1] * 40)}, "net.pt")
    words = "axes, more than an array of numpy {} can have; install numpy 2 or later"
    with monkeypatch.context() as numpy_1:
        numpy_1.setattr(torch.Tensor, "numpy", refuse)
        refused(lambda: load_weights("net.pt"), words.format(np.__version__))
    if not NUMPY_1:
        assert load_weights("net.pt")["fc"].blobs[0].ndim == 40
    torch.save({"fc.weight": torch.ones([1] * 65)}, "net.pt")
    refused(lambda: load_weights("net.pt"), "can have; reshape it to at most 64")
    torch.save({"fc.weight": torch.ones([1] * 65).reshape([1] * 20)}, "net.pt")
    assert load_weights("net.pt")["fc"].blobs[0].ndim == 20


def test_hdf5_of_other_filters(run: Run) -> None:
    with h5py.File("old.h5", "w") as file:
        file.create_dataset("data/fc/0", data=np.ones((2, 3), np.float32), fletcher32=True)
    words = "only gzip and shuffle are read here; write the file without it ({})"
    repack = "h5repack -f NONE old.h5 new.h5"
    assert words.format(repack) in run("inspect old.h5")
    if shutil.which("h5repack"):
        subprocess.run(repack.split(), check=True)
    else:
        written_again("old.h5", "new.h5")
    assert not run("inspect new.h5")
    assert load_weights("new.h5")["fc"].blobs[0].sum() == 6
    with h5py.File("old.h5", "w") as file:
        file.create_dataset("data/fc/0", data=np.ones((2, 3), np.float32), compression="lzf")
    repack = "with the program that packed it: h5repack does not have this filter"
    assert words.format(repack) in run("inspect old.h5")
    written_again("old.h5", "new.h5")
    assert not run("inspect new.h5")


def written_again(old: str, new: str) -> None:
    """Writes an HDF5 file of one array without filters, with the library that it was made with."""
    with h5py.File(old) as source, h5py.File(new, "w") as target:
        target["data/fc/0"] = source["data/fc/0"][()]


# Names of the arrays in a file, the words about them, and names as the words want them.
LAYOUTS = [
    ("x.npz", ["fc"], "array 'fc': expected keys of the form layer/index", ["fc/0"]),
    ("x.npz", ["fc/1"], "has the arrays [1], expected 0 to 0 without a gap", ["fc/0"]),
    ("x.h5", ["fc/0"], "expected /data/<layer>/<index>; it has fc", ["data/fc/0"]),
    ("x.h5", ["data/fc/w"], "holds 'w'; expected data sets numbered from 0", ["data/fc/0"]),
]


@pytest.mark.parametrize(("path", "bad", "words", "good"), LAYOUTS)
def test_names_in_archives(
    run: Run, path: str, bad: list[str], words: str, good: list[str]
) -> None:
    write_arrays(path, bad)
    refused(lambda: load_weights(path), words)
    write_arrays(path, good)
    assert load_weights(path)["fc"].blobs[0].shape == (2, 3)


def write_arrays(path: str, names: list[str]) -> None:
    arrays = {name: np.ones((2, 3), np.float32) for name in names}
    if path.endswith(".npz"):
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def test_files_that_are_cut_off(run: Run) -> None:
    save_weights(one_layer(shape=(200, 30)), "net.caffemodel")
    whole = Path("net.caffemodel").read_bytes()
    cut = [
        (b"", "perhaps its download or the program that wrote it was stopped: get it again"),
        (whole[:9000], "it ends at byte 9,000 of at least 24,024; get the complete file"),
        (b"\n\x04net\0", "it has no layers; it is cut off, or not a caffemodel"),
    ]
    for data, words in cut:
        Path("net.caffemodel").write_bytes(data)
        refused(lambda: load_weights("net.caffemodel"), words)
        assert words in run("inspect net.caffemodel")
        Path("net.caffemodel").write_bytes(whole)
        assert not run("inspect net.caffemodel")
