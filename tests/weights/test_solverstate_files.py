"""Solver states: as Caffe wrote them, byte by byte, and what is refused."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caffecompat.errors import CaffeError, FileProblem, FormatError
from caffecompat.proto import schema
from caffecompat.weights import (
    LayerWeights,
    SolverState,
    Weights,
    read_state,
    save_weights,
    write_state,
)
from tests.places import COPIES
from tests.recorded.tally import Tally
from tests.recorded.weight_files import read_json

DATA = COPIES / "files" / "solverstate"
STATES = [case["state"] for case in read_json(DATA / "case.json")["states"]]
# Read here, refused by Caffe only when it meets a solver or looks for the weights.
READABLE = {
    "sgd_bin_iter_5.solverstate",
    "adam_bin_iter_5.solverstate",
    "missing_learned_net.solverstate",
    "short_history.solverstate",
}


def check(folder: Path, case: dict[str, object], tmp_path: Path) -> None:
    source = folder / str(case["state"])
    state = read_state(source)
    assert (state.iteration, state.current_step) == (case["iter"], case["current_step"])
    assert state.learned_net == case["learned_net"]
    assert state.random_seed is None
    with np.load(folder / str(case["history"])) as recorded:
        assert len(state.history) == len(recorded.files) == case["n_history"]
        for index, array in enumerate(state.history):
            expected = recorded[f"history/{index}"]
            assert array.shape == expected.shape
            assert array.tobytes() == expected.tobytes()
    write_state(state, tmp_path / source.name)
    if source.suffix == ".solverstate":
        assert (tmp_path / source.name).read_bytes() == source.read_bytes()
    else:
        again = read_state(tmp_path / source.name)
        assert [a.tobytes() for a in again.history] == [a.tobytes() for a in state.history]
        assert again.learned_net == state.learned_net


@pytest.mark.parametrize("name", STATES)
def test_recorded_state(name: str, tmp_path: Path) -> None:
    (case,) = (c for c in read_json(DATA / "case.json")["states"] if c["state"] == name)
    check(DATA, case, tmp_path)


def test_every_recorded_state(golden: Path, tmp_path: Path) -> None:
    folder = golden / "files" / "solverstate"
    cases = read_json(folder / "case.json")
    assert len(cases["states"]) == 12
    tally = Tally()
    for case in cases["states"]:
        with tally.case(case["state"]):
            check(folder, case, tmp_path)
    for case in cases["odd"]:
        with tally.case(case["what"]):
            assert _reads(folder / case["state"]) == _is_readable(case)
    tally.close()


def _is_readable(case: dict[str, Any]) -> bool:
    return bool(case["restores"]) or case["state"] in READABLE


def _reads(path: Path) -> bool:
    try:
        read_state(path)
    except CaffeError:
        return False
    return True


def test_odd_states() -> None:
    tally = Tally()
    for case in read_json(DATA / "case.json")["odd"]:
        with tally.case(case["what"]):
            assert _reads(DATA / case["state"]) == _is_readable(case)
    tally.close()
    assert read_state(DATA / "legacy_history.solverstate").legacy.count(True) == 1


@pytest.mark.parametrize("name", ["x.solverstate", "x.solverstate.h5"])
def test_round_trip_with_our_seed(name: str, tmp_path: Path) -> None:
    history = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([np.nan, -0.0], np.float32)]
    state = SolverState(12, "Übung/net_iter_12.caffemodel", history, 3, -(2**62) - 1)
    write_state(state, tmp_path / name)
    back = read_state(tmp_path / name)
    assert (back.iteration, back.current_step, back.random_seed) == (12, 3, -(2**62) - 1)
    assert back.learned_net == state.learned_net
    assert [a.tobytes() for a in back.history] == [a.tobytes() for a in history]
    assert [a.shape for a in back.history] == [(2, 3), (2,)]


def test_pinned_bytes_with_our_seed_last(tmp_path: Path) -> None:
    state = SolverState(5, "w", [np.array([1], np.float32)], 2, 7)
    write_state(state, tmp_path / "x.solverstate")
    assert (tmp_path / "x.solverstate").read_bytes() == (
        b"\x08\x05\x12\x01w\x1a\x0b*\x04\0\0\x80?:\x03\n\x01\x01\x20\x02\xc0\xb8\x02\x07"
    )


def test_the_name_decides_the_encoding() -> None:
    with pytest.raises(FormatError, match=r"HDF5 file.*rename it to h5_state_named.solverstate.h5"):
        read_state(DATA / "h5_state_named.solverstate")
    with pytest.raises(FormatError, match=r"this is a solver state; its name \(.h5\)"):
        read_state(DATA / "bin_state_named.solverstate.h5")


@pytest.mark.parametrize("suffix", [".caffemodel", ".h5"])
def test_weights_in_the_place_of_a_state(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    save_weights(Weights([LayerWeights("fc", "T", [np.ones(2)])], "net"), path)
    with pytest.raises(FormatError, match=r"this is a caffemodel.*pass it as the weights"):
        read_state(path)


@pytest.mark.parametrize("name", ["x.solverstate", "x.solverstate.h5"])
def test_no_states(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(FileProblem, match="there is no such file"):
        read_state(path)
    path.write_bytes(b"")
    with pytest.raises(FormatError, match="the file is empty"):
        read_state(path)
    path.write_bytes(b'net: "train.prototxt"\nbase_lr: 0.1\n')
    with pytest.raises(FormatError, match="this is prototxt text"):
        read_state(path)


def test_state_without_an_iteration(tmp_path: Path) -> None:
    (tmp_path / "x.solverstate").write_bytes(b"\x20\x02")
    with pytest.raises(FormatError, match="it has no iteration"):
        read_state(tmp_path / "x.solverstate")


def test_cut_states_are_only_ever_caffe_errors(tmp_path: Path) -> None:
    for name in ("adam_bin_iter_5.solverstate", "adam_h5_iter_5.solverstate.h5"):
        data = (DATA / name).read_bytes()
        for length in range(0, len(data), 1 + len(data) // 320):
            (tmp_path / name).write_bytes(data[:length])
            _reads(tmp_path / name)


def test_equal_hdf5_states_are_equal_files_whenever_they_are_written(tmp_path: Path) -> None:
    state = SolverState(7, "net_iter_7.caffemodel", [np.ones(3, np.float32)], 1, 5)
    write_state(state, tmp_path / "a.solverstate.h5")
    time.sleep(1.1)  # HDF5 counts times in seconds
    write_state(state, tmp_path / "b.solverstate.h5")
    first, second = ((tmp_path / f"{name}.solverstate.h5").read_bytes() for name in "ab")
    assert first == second


TIED = SolverState(
    7,
    "net_iter_7.caffemodel",
    [np.arange(3, dtype=np.float32), np.ones((2, 2), np.float32)],
    current_step=1,
    random_seed=5,
    minimum_loss=0.5,
    iter_last_event=2,
    recent_losses=[1.0, 2.0],
    loss_scale=8.0,
    good_iterations=3,
    learned_net_sha256="0f" * 32,
)


@pytest.mark.parametrize("name", ["x.solverstate", "x.solverstate.h5"])
def test_a_tied_state_comes_back(name: str, tmp_path: Path) -> None:
    write_state(TIED, tmp_path / name)
    back = read_state(tmp_path / name)
    assert back.learned_net_sha256 == "0f" * 32
    assert [a.tobytes() for a in back.history] == [a.tobytes() for a in TIED.history]
    write_state(back, tmp_path / f"again_{name}")
    assert (tmp_path / f"again_{name}").read_bytes() == (tmp_path / name).read_bytes()


def test_the_hashes_have_fields_of_their_own(tmp_path: Path) -> None:
    """Behind all fields of BVLC's schema, which other readers pass over."""
    write_state(TIED, tmp_path / "x.solverstate")
    data = (tmp_path / "x.solverstate").read_bytes()
    message = schema.new("SolverState")
    message.ParseFromString(data)
    assert message.learned_net_sha256 == bytes.fromhex("0f" * 32)
    tail = b"\xe2\xb8\x02\x20" + b"\x0f" * 32 + b"\xea\xb8\x02\x20" + message.state_sha256
    assert data.endswith(tail)
    message.ClearField("learned_net")
    message.ClearField("state_sha256")
    values = message.SerializeToString(deterministic=True)
    assert hashlib.sha256(values).digest() == bytes.fromhex(tail[-32:].hex())


def test_every_flipped_byte_of_a_tied_state_is_seen(tmp_path: Path) -> None:
    """All but those of the path of the weights, which may be changed."""
    path = tmp_path / "x.solverstate"
    write_state(TIED, path)
    data = path.read_bytes()
    name = data.index(b"net_iter_7")
    for at in {*range(len(data))} - {*range(name, name + len(TIED.learned_net))}:
        for flip in (0x01, 0x80):
            path.write_bytes(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
            with pytest.raises(FormatError, match=r"x\.solverstate"):
                read_state(path)


def test_a_flipped_value_of_a_tied_hdf5_state_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.solverstate.h5"
    write_state(TIED, path)
    with h5py.File(path, "r+") as file:
        file["history/0"][1] += 1
    with pytest.raises(FormatError, match=r"its values are not those that were written"):
        read_state(path)
