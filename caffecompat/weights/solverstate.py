"""Solver states: what Caffe needs besides the weights to resume training.

The file name decides the encoding, as in Caffe: ``.h5`` is HDF5, any other suffix is protobuf.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from caffecompat.errors import FormatError
from caffecompat.output_files import atomic_write
from caffecompat.weights import wire
from caffecompat.weights.blob_proto import blob_parts, read_blob
from caffecompat.weights.file_type import SOLVER_STATE, looks_like_net, other_file_type
from caffecompat.weights.format import HEAD_BYTES
from caffecompat.weights.hdf5_input.hdf5_file import (
    SIGNATURE,
    HDF5File,
    create_hdf5,
    numbered,
    open_hdf5,
    read_integer,
    read_text,
    write_text,
)
from caffecompat.weights.mapped import map_file, read_head, release_pages
from caffecompat.weights.weights import as_float32
from caffecompat.weights.wire import Message, Part

# Fields of SolverState. The plateau policy's fields are SSD's; fields from 5000 on are extensions
# of this package. BVLC Caffe skips both.
ITERATION, LEARNED_NET, HISTORY, CURRENT_STEP = 1, 2, 3, 4
MINIMUM_LOSS, LAST_EVENT = 5, 6
RANDOM_SEED, RECENT_LOSSES, LOSS_SCALE, GOOD_ITERATIONS = 5000, 5001, 5002, 5003
LEARNED_NET_SHA256, STATE_SHA256 = 5004, 5005
# More than any net has; a damaged file could repeat a few bytes until memory is full.
MAX_ARRAYS = 50_000
SEED_NAME = "random_seed"
MINIMUM_NAME, EVENT_NAME, RECENT_NAME = "minimum_loss", "iter_last_event", "recent_losses"
SCALE_NAME, GOOD_NAME = "loss_scale", "good_iterations"
MODEL_HASH_NAME, STATE_HASH_NAME = "learned_net_sha256", "state_sha256"


@dataclass(eq=False)
class SolverState:
    """The state of a training run, without the weights.

    Attributes:
        iteration: number of completed iterations.
        learned_net: path of the weights, relative to the working directory of the run; empty if
            the state has none.
        history: float32 arrays, one per learnable parameter in the net's order; twice as many for
            Adam and AdaDelta (all first moments, then all second ones).
        current_step: number of steps taken by the learning rate policy (multistep).
        random_seed: the seed of the run; only states of this package have it.
        minimum_loss: the lowest loss (or the negated best score) that the plateau policy has seen;
            None for other policies.
        iter_last_event: the iteration of that loss, or of the last decrease of the learning rate.
        recent_losses: the losses that the plateau policy averages, oldest first.
        loss_scale: the loss scale of a run in fp16; None for other precisions.
        good_iterations: number of iterations without overflow since the loss scale last changed.
        learned_net_sha256: SHA-256 of the weight file, in hexadecimal; empty if unknown. A state
            that has it is written with a hash of its own values, too.
        legacy: per array, whether its shape came from the legacy four sizes.
    """

    iteration: int
    learned_net: str
    history: list[np.ndarray]
    current_step: int = 0
    random_seed: int | None = None
    minimum_loss: float | None = None
    iter_last_event: int = 0
    recent_losses: list[float] = field(default_factory=list)
    loss_scale: float | None = None
    good_iterations: int = 0
    learned_net_sha256: str = ""
    legacy: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.legacy = self.legacy or [False] * len(self.history)


def read_state(path: str | os.PathLike[str], max_bytes: int | None = None) -> SolverState:
    """Reads a ``.solverstate`` or ``.solverstate.h5``.

    Args:
        path: the file.
        max_bytes: see :func:`caffecompat.weights.load_weights`.

    Raises:
        FileProblem: missing, a folder, or unreadable.
        FormatError: empty, damaged, or not a solver state; or its values do not match the hash of
            its values, if it has one.
    """
    path = Path(path)
    read = _read_hdf5 if _is_hdf5(path) else _read_binary
    state, written = read(path, max_bytes)
    hashes = written or state.learned_net_sha256
    whole = bool(state.learned_net) and _is_hash(state.learned_net_sha256)
    if hashes and (not whole or written != _hash_of_values(state)):
        raise FormatError(
            f"{path}: this solver state is damaged: its values are not those that were written "
            "(their SHA-256 differs); resume from another snapshot, or start from the weights of "
            "this one with --weights"
        )
    return state


def write_state(state: SolverState, path: str | os.PathLike[str]) -> None:
    """Writes a state atomically.

    Raises:
        FileProblem: the file cannot be written.
    """
    path = Path(path)
    if _is_hdf5(path):
        _write_hdf5(state, path)
        return
    with atomic_write(path) as file:
        for part in _state_parts(state):
            file.write(part)


def _is_hdf5(path: Path) -> bool:
    return path.name.endswith(".h5")


def _is_hash(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def _hash_of_values(state: SolverState) -> str:
    """SHA-256 of a state without the path of its weights; the same for both encodings."""
    digest = hashlib.sha256()
    for part in _value_parts(state, legacy=[False] * len(state.history)):
        digest.update(part)
    for array in state.history:
        release_pages(array)
    return digest.hexdigest()


def _read_binary(path: Path, max_bytes: int | None) -> tuple[SolverState, str]:
    """The state, and the hash of its values stored in it."""
    data = map_file(path, max_bytes)
    _refuse_others(data, path)
    message = Message.whole(data, str(path))
    state, written = SolverState(-1, "", []), ""
    for item in message.fields():
        if item.wire == wire.VARINT:
            _read_number(item, state)
        elif item.wire == wire.LENGTH and item.number == LEARNED_NET:
            state.learned_net = message.text(item)
        elif item.wire == wire.LENGTH and item.number == HISTORY:
            if len(state.history) >= MAX_ARRAYS:
                raise message.error(item.start, f"it has more than {MAX_ARRAYS:,} arrays")
            blob = read_blob(message.child(item), f"history array {len(state.history)}")
            state.history.append(blob.data)
            state.legacy.append(blob.legacy)
        elif item.wire == wire.FIXED32 and item.number == MINIMUM_LOSS:
            state.minimum_loss = float(message.numbers(item, "<f4")[-1])
        elif item.wire == wire.FIXED32 and item.number == LOSS_SCALE:
            state.loss_scale = float(message.numbers(item, "<f4")[-1])
        elif item.wire == wire.LENGTH and item.number == RECENT_LOSSES:
            state.recent_losses += message.numbers(item, "<f4").tolist()
        elif item.wire == wire.LENGTH and item.number == LEARNED_NET_SHA256:
            state.learned_net_sha256 = bytes(data[item.start : item.end]).hex()
        elif item.wire == wire.LENGTH and item.number == STATE_SHA256:
            written = bytes(data[item.start : item.end]).hex()
    if state.iteration < 0:
        raise FormatError(f"{path}: it has no iteration, which every solver state has")
    return state, written


def _read_number(item: wire.Field, state: SolverState) -> None:
    if item.number == ITERATION:
        state.iteration = wire.signed(item.value, 32)
    elif item.number == CURRENT_STEP:
        state.current_step = wire.signed(item.value, 32)
    elif item.number == LAST_EVENT:
        state.iter_last_event = wire.signed(item.value, 32)
    elif item.number == RANDOM_SEED:
        state.random_seed = wire.signed(item.value, 64)
    elif item.number == GOOD_ITERATIONS:
        state.good_iterations = wire.signed(item.value, 32)


def _refuse_others(data: memoryview, path: Path) -> None:
    head = bytes(data[:HEAD_BYTES])
    if head.startswith(SIGNATURE):
        raise FormatError(
            f"{path}: this is an HDF5 file, but its name is that of a binary solver state; "
            f"if it is a solver state, rename it to {path.name}.h5"
        )
    kind = other_file_type(head, path)
    if looks_like_net(head):
        raise FormatError(_caffemodel(path))
    if kind not in (None, SOLVER_STATE):
        raise FormatError(f"{path}: this is {kind}; expected a solver state (.solverstate)")


def _caffemodel(path: Path) -> str:
    return (
        f"{path}: this is a caffemodel, expected a solver state (.solverstate); to start from "
        "weights only, pass it as the weights (train --weights)"
    )


def _state_parts(state: SolverState) -> Iterator[Part]:
    yield from wire.number_field(ITERATION, state.iteration)
    if state.learned_net:
        yield from wire.text_field(LEARNED_NET, state.learned_net)
    values = _value_parts(state, state.legacy)
    next(values)  # the iteration, which is already written
    yield from values
    if state.learned_net_sha256:
        yield from wire.delimited(STATE_SHA256, [bytes.fromhex(_hash_of_values(state))])


def _value_parts(state: SolverState, legacy: list[bool]) -> Iterator[Part]:
    """All fields except the path of the weights and the hash of the values, iteration first."""
    yield from wire.number_field(ITERATION, state.iteration)
    for array, old in zip(state.history, legacy, strict=True):
        yield from wire.delimited(HISTORY, blob_parts(array, legacy=old))
    yield from wire.number_field(CURRENT_STEP, state.current_step)
    if state.minimum_loss is not None:
        yield _float_field(MINIMUM_LOSS, state.minimum_loss)
        yield from wire.number_field(LAST_EVENT, state.iter_last_event)
    if state.random_seed is not None:
        yield from wire.number_field(RANDOM_SEED, state.random_seed)
    if state.recent_losses:
        yield from wire.packed_floats(RECENT_LOSSES, np.array(state.recent_losses, np.float32))
    if state.loss_scale is not None:
        yield _float_field(LOSS_SCALE, state.loss_scale)
        yield from wire.number_field(GOOD_ITERATIONS, state.good_iterations)
    if state.learned_net_sha256:
        yield from wire.delimited(LEARNED_NET_SHA256, [bytes.fromhex(state.learned_net_sha256)])


def _float_field(number: int, value: float) -> bytes:
    return wire.varint(number << 3 | wire.FIXED32) + struct.pack("<f", value)


def _read_hdf5(path: Path, max_bytes: int | None) -> tuple[SolverState, str]:
    """The state, and the hash of its values stored in it."""
    head = read_head(path, HEAD_BYTES)
    if not head.startswith(SIGNATURE):
        kind = other_file_type(head, path) or "no HDF5 file"
        remedy = f"; rename it to {path.name.removesuffix('.h5')}" if kind == SOLVER_STATE else ""
        raise FormatError(
            f"{path}: this is {kind}; its name (.h5) is that of an HDF5 solver state{remedy}"
        )
    with open_hdf5(path, max_bytes) as file:
        has_history = "history" in file
        if not has_history and "data" in file:
            raise FormatError(_caffemodel(path))
        if not has_history or "iter" not in file:
            raise FormatError(
                f"{path}: this HDF5 file is not a solver state: iter or history is missing"
            )
        step, seed, event, good = (
            read_integer(file, name) if name in file else None
            for name in ("current_step", SEED_NAME, EVENT_NAME, GOOD_NAME)
        )
        best, scale, recent = (
            _floats(file, name) if name in file else []
            for name in (MINIMUM_NAME, SCALE_NAME, RECENT_NAME)
        )
        path_of_weights, model_hash, written = (
            read_text(file, name) if name in file else ""
            for name in ("learned_net", MODEL_HASH_NAME, STATE_HASH_NAME)
        )
        state = SolverState(
            iteration=read_integer(file, "iter"),
            learned_net=path_of_weights,
            history=numbered(file, "history"),
            current_step=step or 0,
            random_seed=seed,
            minimum_loss=best[0] if best else None,
            iter_last_event=event or 0,
            recent_losses=recent,
            loss_scale=scale[0] if scale else None,
            good_iterations=good or 0,
            learned_net_sha256=model_hash,
        )
        return state, written


def _floats(file: HDF5File, name: str) -> list[float]:
    return [float(value) for value in as_float32(file.read(name)).reshape(-1)]


def _write_hdf5(state: SolverState, path: Path) -> None:
    with create_hdf5(path) as file:
        file.create_dataset("iter", data=np.array([state.iteration], np.int32))
        write_text(file, "learned_net", state.learned_net)
        file.create_dataset("current_step", data=np.array([state.current_step], np.int32))
        if state.random_seed is not None:
            file.create_dataset(SEED_NAME, data=np.array([state.random_seed], np.int64))
        if state.minimum_loss is not None:
            best = np.array([state.minimum_loss], np.float32)
            file.create_dataset(MINIMUM_NAME, data=best)
            file.create_dataset(EVENT_NAME, data=np.array([state.iter_last_event], np.int32))
        if state.recent_losses:
            file.create_dataset(RECENT_NAME, data=np.array(state.recent_losses, np.float32))
        if state.loss_scale is not None:
            file.create_dataset(SCALE_NAME, data=np.array([state.loss_scale], np.float32))
            file.create_dataset(GOOD_NAME, data=np.array([state.good_iterations], np.int32))
        if state.learned_net_sha256:
            write_text(file, MODEL_HASH_NAME, state.learned_net_sha256)
            write_text(file, STATE_HASH_NAME, _hash_of_values(state))
        history = file.create_group("history")
        for index, array in enumerate(state.history):
            history.create_dataset(str(index), data=as_float32(array))
