"""A file in the place of weights, and what the message about it advises: that works."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.export import from_torch
from caffecompat.solver import Solver
from caffecompat.weights import (
    LayerWeights,
    Weights,
    load_weights,
    read_mean,
    read_state,
    save_weights,
    write_mean,
    write_state,
)
from tests.commands import Run, refused, verb_runner
from tests.solver.small import write_training

NET = """layer { name: "data" type: "Input" top: "data" input_param {
  shape { dim: 1 dim: 3 dim: 8 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 } }
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb beside a net and its weights; returns its error, "" when it succeeded."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    Net("net.prototxt", seed=3).save("net.caffemodel")
    return verb_runner(capfd)


def zstd_frame(content: bytes) -> bytes:
    """One block of at most 255 bytes, as it is: four bytes of magic, then sizes, then the block."""
    block = (len(content) << 3 | 1).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(content)]) + block + content


def tarred(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("unpacked.caffemodel")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def untarred(data: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        member = archive.extractfile("unpacked.caffemodel")
        assert member is not None
        return member.read()


def zipped(content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("unpacked.caffemodel", content)
    return target.getvalue()


ARCHIVES = [
    (
        gzip.compress,
        "a gzip archive; unpack it first: gunzip -c packed.caffemodel > unpacked.caffemodel",
        gzip.decompress,
    ),
    (
        zipped,
        "in it; unpack it first: unzip packed.caffemodel",
        lambda data: zipfile.ZipFile(io.BytesIO(data)).read("unpacked.caffemodel"),
    ),
    (bz2.compress, "a bzip2 archive; unpack it first", bz2.decompress),
    (lzma.compress, "an xz archive; unpack it first", lzma.decompress),
    (zstd_frame, "a zstd archive; unpack it first", lambda data: data[9:]),
    # Behind a header of 32 bytes its members follow, packed or as they are.
    (
        lambda content: b"7z\xbc\xaf\x27\x1c" + bytes(26) + content,
        "a 7-Zip archive; unpack it first",
        lambda data: data[32:],
    ),
    (tarred, "a tar archive; unpack it first: tar xf packed.caffemodel", untarred),
    (
        lambda content: gzip.compress(tarred(content)),
        "this is a tar archive; unpack it first: tar xf packed.caffemodel",
        untarred,
    ),
]


@pytest.mark.parametrize(("pack", "words", "unpack"), ARCHIVES)
def test_archives(
    run: Run,
    pack: Callable[[bytes], bytes],
    words: str,
    unpack: Callable[[bytes], bytes],
) -> None:
    one = Weights([LayerWeights("conv", "", [np.ones((2, 3), np.float32)])])
    save_weights(one, "net.caffemodel")
    path = Path("packed.caffemodel")
    path.write_bytes(pack(Path("net.caffemodel").read_bytes()))
    refused(lambda: load_weights(path), words)
    assert words in run("inspect packed.caffemodel")
    unpacked = Path("unpacked.caffemodel")
    command = words.partition("first: ")[2]
    if command and shutil.which(command.split()[0]):
        subprocess.run(command, shell=True, check=True)
        path = unpacked
    else:
        path.write_bytes(unpack(path.read_bytes()))
    assert load_weights(path)["conv"].blobs[0].sum() == 6
    assert not run(f"inspect {path}")


def test_texts(run: Run) -> None:
    path = Path("other.prototxt")
    path.write_text(NET, encoding="utf-16")
    words = "this is UTF-16 text; save it as UTF-8 for caffecompat inspect to read it"
    refused(lambda: load_weights(path), words)
    assert words in run("inspect other.prototxt")
    path.write_text(NET, encoding="utf-8")
    assert not run("inspect other.prototxt")
    words = "prototxt text, a definition; the weights are in a binary file beside it"
    refused(lambda: load_weights(path), words)
    assert load_weights(path.with_name("net.caffemodel"))["conv"].blobs


# What stands in the place of the file, and the words about what to do to get the file itself.
NOT_THE_FILE = [
    (
        b"version https://git-lfs.github.com/spec/v1\n",
        "a Git LFS pointer, not the file itself (run: git lfs pull)",
    ),
    (b"<!DOCTYPE html>\n<html>", "a web page, not the file itself (download the raw file)"),
]


@pytest.mark.parametrize(("data", "words"), NOT_THE_FILE)
def test_pointers_and_pages(run: Run, data: bytes, words: str) -> None:
    whole = Path("net.caffemodel").read_bytes()
    Path("net.caffemodel").write_bytes(data)
    refused(lambda: load_weights("net.caffemodel"), words)
    assert words in run("inspect net.caffemodel")
    Path("net.caffemodel").write_bytes(whole)  # as the words say, the file itself
    assert not run("inspect net.caffemodel")


def test_single_arrays(run: Run) -> None:
    np.save("one.npy", np.ones((2, 3), np.float32))
    words = "a single NumPy array; weights need an .npz with keys layer/index"
    refused(lambda: load_weights("one.npy"), words)
    assert words in run("convert one.npy new.caffemodel")
    np.savez("one.npz", **{"layer/0": np.load("one.npy")})
    assert load_weights("one.npz")["layer"].blobs[0].shape == (2, 3)
    assert not run("convert one.npz new.caffemodel")
    write_mean(np.ones((3, 8, 6), np.float32), "mean.binaryproto")
    words = (
        "a single array (a mean file?), which commands take with --mean and Python reads with "
        "caffecompat.weights.read_mean"
    )
    refused(lambda: load_weights("mean.binaryproto"), words)
    assert words in run("convert mean.binaryproto net.npz")
    mean = "--preprocessing vgg --mean mean.binaryproto"
    assert not run(f"convert net.caffemodel net.npz {mean}")
    assert read_mean("mean.binaryproto").shape == (3, 8, 6)
    refused(lambda: read_mean("net.caffemodel"), "expected a mean file (.binaryproto)")


def test_files_of_matlab(run: Run) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    assert not run("convert net.caffemodel net.mat --to matconvnet")
    savemat("other.mat", {"x": np.ones(3)})
    words = "a MATLAB file; caffecompat convert reads those of MatConvNet"
    for path in ("net.mat", "other.mat"):
        refused(partial(load_weights, path), words)
    assert not run("convert net.mat back.caffemodel")
    np.testing.assert_array_equal(
        load_weights("back.caffemodel")["conv"].blobs[0],
        load_weights("net.caffemodel")["conv"].blobs[0],
    )
    assert run("convert other.mat back2.caffemodel")  # not one of MatConvNet


def test_onnx_models(run: Run) -> None:
    pytest.importorskip("onnx")
    assert not run("convert net.caffemodel net.onnx")
    words = (
        "a module of torch, such as onnx2torch makes of it, becomes a Caffe model by "
        "caffecompat.export.from_torch"
    )
    refused(lambda: load_weights("net.onnx"), words, "not read as a source")
    assert words in run("convert net.onnx back.caffemodel")
    # That other program makes such a module.
    module = torch.nn.Conv2d(3, 2, 3)
    x = torch.ones(1, 3, 8, 6)
    back = from_torch(module, x).net()
    (found,) = back.forward(**{back.inputs[0]: x.numpy()}).values()
    np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-5, atol=1e-6)


TRAIN = "train --solver training/small.solver.prototxt --cpu --no-log"
STATE, OTHER_STATE = "training/snap_iter_2.solverstate", "training/snap_iter_3.solverstate"


@pytest.fixture
def trained(run: Run) -> Run:
    """:func:`run` beside a training with snapshots of two and three iterations."""
    path = write_training(Path("training"))
    text = path.read_text().replace("max_iter: 12", "max_iter: 3").replace("snapshot: 5", "")
    path.write_text(text.replace("test_iter: 2 test_interval: 4", "") + " snapshot: 1")
    assert not run(TRAIN)
    return run


def solver(**start: Any) -> Solver:
    return Solver("training/small.solver.prototxt", **start)


def test_states_in_the_place_of_weights(trained: Run) -> None:
    words = "pass it as the snapshot (train --snapshot), or load the weights that it names"
    assert words in trained(f"{TRAIN} --weights {STATE}")
    assert not trained(f"{TRAIN} --snapshot {STATE}")
    refused(lambda: solver(weights=STATE), words)
    assert solver(snapshot=STATE).iter == 2
    named = read_state(STATE).learned_net
    assert not trained(f"{TRAIN} --weights {named}")
    assert load_weights(named)["conv"].blobs
    write_state(read_state(STATE), "x.solverstate.h5")
    refused(lambda: load_weights("x.solverstate.h5"), words)
    assert solver(snapshot="x.solverstate.h5").iter == 2


def test_weights_in_the_place_of_a_state(trained: Run) -> None:
    weights = "training/snap_iter_2.caffemodel"
    words = "to start from weights only, pass it as the weights (train --weights)"
    refused(lambda: read_state(weights), words)
    assert not trained(f"{TRAIN} --weights {weights}")
    assert solver(weights=weights).iter == 0


def test_damaged_states(trained: Run) -> None:
    data = bytearray(Path(OTHER_STATE).read_bytes())
    data[data.index(read_state(OTHER_STATE).history[0].tobytes())] ^= 1
    Path(OTHER_STATE).write_bytes(data)
    words = "resume from another snapshot, or start from the weights of this one with --weights"
    assert words in trained(f"{TRAIN} --snapshot {OTHER_STATE}")
    refused(lambda: solver(snapshot=OTHER_STATE), words)
    assert solver(snapshot=STATE).iter == 2
    assert not trained(f"{TRAIN} --weights {Path(OTHER_STATE).with_suffix('.caffemodel')}")
    assert not trained(f"{TRAIN} --snapshot {STATE}")


def test_names_of_states(trained: Run) -> None:
    write_state(read_state(STATE), "x.solverstate.h5")
    Path("x.solverstate.h5").rename("x.solverstate")
    follow_renaming(trained, "if it is a solver state, rename it to x.solverstate.h5")
    shutil.copy(STATE, "y.solverstate.h5")
    follow_renaming(trained, "is that of an HDF5 solver state; rename it to y.solverstate")


def follow_renaming(run: Run, words: str) -> None:
    """Resumes from a state that has another name than its content asks for."""
    name = words.rpartition(" ")[2]
    given = name.removesuffix(".h5") if name.endswith(".h5") else f"{name}.h5"
    error = run(f"{TRAIN} --snapshot {given}")
    assert re.search(rf"{re.escape(words)}$", error.strip(), re.MULTILINE), error
    Path(given).rename(name)
    assert not run(f"{TRAIN} --snapshot {name}")
    assert solver(snapshot=name).iter == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit
def test_a_torchscript_program(run: Run) -> None:
    path = "traced.pt"
    example = torch.zeros(1, 3, 5, 4)
    torch.jit.save(torch.jit.trace(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2)), example), path)
    words = (
        "this is a TorchScript program; save its tensors with "
        "torch.save(torch.jit.load('traced.pt').state_dict(), 'net.pt')"
    )
    refused(lambda: load_weights(path), words)
    assert words in run(f"inspect {path}")
    exec(words.split(" with ")[1], {"torch": torch})
    assert [blob.shape for blob in load_weights("net.pt")["0"].blobs] == [(4, 3, 2, 2), (4,)]
