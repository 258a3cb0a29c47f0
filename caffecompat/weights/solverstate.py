"""Solver states: what Caffe needs beside the weights to go on with a training.

The file's NAME decides its encoding here, as in Caffe: ``.h5`` is HDF5, all others are binary.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.errors import FormatError
from caffecompat.proto.atomic_write import atomic_write
from caffecompat.weights import wire
from caffecompat.weights.blob import blob_parts, read_blob
from caffecompat.weights.foreign import SOLVER_STATE, foreign_kind, looks_like_net
from caffecompat.weights.format import HEAD
from caffecompat.weights.hdf5 import (
    SIGNATURE,
    create_hdf5,
    member,
    numbered,
    open_hdf5,
    read_dataset,
    read_integer,
    read_text,
    write_text,
)
from caffecompat.weights.mapped import map_file, read_head
from caffecompat.weights.weights import as_float32
from caffecompat.weights.wire import Message, Part

# Fields of SolverState. Those of the plateau policy are SSD's; from 5000 on they are extensions of
# ours. BVLC Caffe skips both.
ITERATION, LEARNED_NET, HISTORY, CURRENT_STEP = 1, 2, 3, 4
MINIMUM_LOSS, LAST_EVENT = 5, 6
RANDOM_SEED, RECENT_LOSSES, LOSS_SCALE, GOOD_ITERATIONS = 5000, 5001, 5002, 5003
# No training has so many; a few bytes each, repeated, would fill the memory.
MOST_ARRAYS = 50_000
SEED_NAME = "random_seed"
MINIMUM_NAME, EVENT_NAME, RECENT_NAME = "minimum_loss", "iter_last_event", "recent_losses"
SCALE_NAME, GOOD_NAME = "loss_scale", "good_iterations"


@dataclass(eq=False)
class SolverState:
    """A training, stopped.

    Attributes:
        iteration: how many iterations are done.
        learned_net: the path of the weights, relative to the folder the training ran in; empty
            where the state names none.
        history: float32 arrays, one per learnable parameter in the net's order, twice as many
            for Adam and AdaDelta (first all of one kind, then all of the other).
        current_step: how many steps the learning rate policy has taken (multistep).
        random_seed: the seed of the run; only states written here have it.
        minimum_loss: the lowest loss (or, with the other sign, the best score) that the plateau
            policy has seen; None for other policies.
        iter_last_event: the iteration of it, or of the last drop of the rate.
        recent_losses: the losses that the plateau policy averages, oldest first.
        loss_scale: what a training in fp16 multiplies its loss with; None in other precisions.
        good_iterations: without an overflow since it last changed.
        legacy: per array, whether its shape came from the old four sizes.
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
    legacy: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.legacy = self.legacy or [False] * len(self.history)


def read_state(path: str | os.PathLike[str]) -> SolverState:
    """Reads a ``.solverstate`` or ``.solverstate.h5``.

    Raises:
        FileProblem: missing, a folder, or unreadable.
        FormatError: empty, damaged, or something else than a solver state.
        MissingExtra: h5py is not installed.
    """
    path = Path(path)
    return _read_hdf5(path) if _is_hdf5(path) else _read_binary(path)


def write_state(state: SolverState, path: str | os.PathLike[str]) -> None:
    """Writes a state; the file is either complete or not there.

    Raises:
        FileProblem: the file cannot be written.
        MissingExtra: h5py is not installed.
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


def _read_binary(path: Path) -> SolverState:
    data = map_file(path)
    _refuse_others(data, path)
    message = Message.whole(data, str(path))
    state = SolverState(-1, "", [])
    for item in message.fields():
        if item.wire == wire.VARINT:
            _read_number(item, state)
        elif item.wire == wire.LENGTH and item.number == LEARNED_NET:
            state.learned_net = message.text(item)
        elif item.wire == wire.LENGTH and item.number == HISTORY:
            if len(state.history) >= MOST_ARRAYS:
                raise message.error(item.start, f"it has more than {MOST_ARRAYS:,} arrays")
            blob = read_blob(message.child(item), f"history array {len(state.history)}")
            state.history.append(blob.data)
            state.legacy.append(blob.legacy)
        elif item.wire == wire.FIXED32 and item.number == MINIMUM_LOSS:
            state.minimum_loss = float(message.numbers(item, "<f4")[-1])
        elif item.wire == wire.FIXED32 and item.number == LOSS_SCALE:
            state.loss_scale = float(message.numbers(item, "<f4")[-1])
        elif item.wire == wire.LENGTH and item.number == RECENT_LOSSES:
            state.recent_losses += message.numbers(item, "<f4").tolist()
    if state.iteration < 0:
        raise FormatError(f"{path}: it names no iteration, which every solver state does")
    return state


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
    head = bytes(data[:HEAD])
    if head.startswith(SIGNATURE):
        raise FormatError(
            f"{path}: this is an HDF5 file, but by its name a binary solver state is expected; "
            f"if it is a solver state, rename it to {path.name}.h5"
        )
    kind = foreign_kind(head, path)
    if looks_like_net(head):
        raise FormatError(_caffemodel(path))
    if kind not in (None, SOLVER_STATE):
        raise FormatError(f"{path}: this is {kind}; expected a solver state (.solverstate)")


def _caffemodel(path: Path) -> str:
    return (
        f"{path}: this is a caffemodel, expected a solver state (.solverstate); to start from "
        "weights alone give it as the weights"
    )


def _state_parts(state: SolverState) -> Iterator[Part]:
    yield from wire.number_field(ITERATION, state.iteration)
    if state.learned_net:
        yield from wire.text_field(LEARNED_NET, state.learned_net)
    for array, legacy in zip(state.history, state.legacy, strict=True):
        yield from wire.delimited(HISTORY, blob_parts(array, legacy=legacy))
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


def _float_field(number: int, value: float) -> bytes:
    return wire.varint(number << 3 | wire.FIXED32) + struct.pack("<f", value)


def _read_hdf5(path: Path) -> SolverState:
    head = read_head(path, HEAD)
    if not head.startswith(SIGNATURE):
        kind = foreign_kind(head, path) or "no HDF5 file"
        raise FormatError(
            f"{path}: this is {kind}; by its name (.h5) an HDF5 solver state is expected"
        )
    with open_hdf5(path) as file:
        history = member(file, "history", path)
        if history is None and "data" in file:
            raise FormatError(_caffemodel(path))
        if history is None or "iter" not in file:
            raise FormatError(f"{path}: this HDF5 file has no iter and history: no solver state")
        learned_net = member(file, "learned_net", path)
        step, seed, event, good = (
            None if (found := member(file, name, path)) is None else read_integer(found, path)
            for name in ("current_step", SEED_NAME, EVENT_NAME, GOOD_NAME)
        )
        best, scale, recent = (
            [] if (found := member(file, name, path)) is None else _floats(found, path)
            for name in (MINIMUM_NAME, SCALE_NAME, RECENT_NAME)
        )
        return SolverState(
            iteration=read_integer(member(file, "iter", path), path),
            learned_net="" if learned_net is None else read_text(learned_net, path),
            history=numbered(history, path),
            current_step=step or 0,
            random_seed=seed,
            minimum_loss=best[0] if best else None,
            iter_last_event=event or 0,
            recent_losses=recent,
            loss_scale=scale[0] if scale else None,
            good_iterations=good or 0,
        )


def _floats(dataset: Any, path: Path) -> list[float]:
    return [float(value) for value in read_dataset(dataset, path).reshape(-1)]


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
        history = file.create_group("history")
        for index, array in enumerate(state.history):
            history.create_dataset(str(index), data=as_float32(array))
