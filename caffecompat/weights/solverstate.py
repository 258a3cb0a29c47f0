"""Solver states: what Caffe needs besides the weights to resume training.

The file name decides the encoding, as in Caffe: ``.h5`` is HDF5, any other suffix is protobuf.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from caffecompat.errors import FormatError
from caffecompat.output_files import atomic_write
from caffecompat.weights.encodings import wire
from caffecompat.weights.encodings.blob_proto import blob_parts, read_blob
from caffecompat.weights.encodings.wire import Message, Part
from caffecompat.weights.file_type import SOLVER_STATE, looks_like_net, other_file_type
from caffecompat.weights.format import HEAD_BYTES
from caffecompat.weights.hdf5_input.hdf5_file import (
    SIGNATURE,
    create_hdf5,
    numbered,
    open_hdf5,
)
from caffecompat.weights.mapped import map_file, read_head, release_pages
from caffecompat.weights.solverstate_fields import (
    EVERY,
    ITERATION,
    LEARNED_NET,
    STATE_HASH,
    VALUES,
    StateField,
)
from caffecompat.weights.weights import as_float32

# The arrays' number in the binary encoding.
HISTORY = 3
_BY_NUMBER: dict[int, StateField] = {field.number: field for field in (*EVERY, STATE_HASH)}
# More than any net has; a damaged file could repeat a few bytes until memory is full.
MAX_ARRAYS = 50_000


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
        field = _BY_NUMBER.get(item.number)
        if field is STATE_HASH and item.wire == field.wire_type:
            written = field.parse(message, item, written)
        elif field is not None and item.wire == field.wire_type:
            before = getattr(state, field.attribute)
            setattr(state, field.attribute, field.parse(message, item, before))
        elif item.wire == wire.LENGTH and item.number == HISTORY:
            if len(state.history) >= MAX_ARRAYS:
                raise message.error(item.start, f"it has more than {MAX_ARRAYS:,} arrays")
            blob = read_blob(message.child(item), f"history array {len(state.history)}")
            state.history.append(blob.data)
            state.legacy.append(blob.legacy)
    if state.iteration < 0:
        raise FormatError(f"{path}: it has no iteration, which every solver state has")
    return state, written


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
    yield from ITERATION.parts(state.iteration)
    if state.learned_net:
        yield from LEARNED_NET.parts(state.learned_net)
    values = _value_parts(state, state.legacy)
    next(values)  # the iteration, which is already written
    yield from values
    if STATE_HASH.is_stored(state):
        yield from STATE_HASH.parts(_hash_of_values(state))


def _value_parts(state: SolverState, legacy: list[bool]) -> Iterator[Part]:
    """All fields except the path of the weights and the hash of the values, iteration first."""
    yield from ITERATION.parts(state.iteration)
    for array, old in zip(state.history, legacy, strict=True):
        yield from wire.delimited(HISTORY, blob_parts(array, legacy=old))
    for value in VALUES:
        if value.is_stored(state):
            yield from value.parts(getattr(state, value.attribute))


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
        state = SolverState(-1, "", numbered(file, "history"))
        for field in EVERY:
            if field.name in file:
                setattr(state, field.attribute, field.read(file))
        return state, STATE_HASH.read(file) if STATE_HASH.name in file else ""


def _write_hdf5(state: SolverState, path: Path) -> None:
    with create_hdf5(path) as file:
        ITERATION.write(file, state.iteration)
        LEARNED_NET.write(file, state.learned_net)
        for field in VALUES:
            if field.is_stored(state):
                field.write(file, getattr(state, field.attribute))
        if STATE_HASH.is_stored(state):
            STATE_HASH.write(file, _hash_of_values(state))
        history = file.create_group("history")
        for index, array in enumerate(state.history):
            history.create_dataset(str(index), data=as_float32(array))
