"""Resuming: the newest intact snapshot, and the removal of unfinished files of killed runs."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from caffecompat.errors import CaffeError, SolverError
from caffecompat.output_files import MAX_NAME_PREFIX, remove_if_stale
from caffecompat.solver.diagnostics.nonfinite import array_is_finite
from caffecompat.solver.distributed.process_group import ProcessGroup
from caffecompat.solver.snapshots.snapshot_files import STAGED, SnapshotFiles, find_learned_net
from caffecompat.weights import load_weights, read_state

AUTO = "auto"


def check_start(weights: str | os.PathLike[str] | None, snapshot: str | None) -> None:
    """Raises SolverError if a training is given both weights and a snapshot to start from."""
    if weights and snapshot and snapshot != AUTO:
        raise SolverError(
            "weights and snapshot are both given; give a snapshot to resume a training or "
            "weights to start one from, not both"
        )


def find_start(
    snapshot: str | None,
    files: SnapshotFiles,
    history_slots: int,
    process_group: ProcessGroup,
    max_bytes: int | None = None,
) -> tuple[str | None, list[str]]:
    """The state to resume from, and log lines about the choice.

    Args:
        snapshot: a state's path, ``"auto"``, or None to start from the beginning.
        files, history_slots, max_bytes: see :func:`newest_intact`.
        process_group: of the training; rank 0 chooses for all.
    """
    if snapshot == AUTO:
        return process_group.broadcast(
            newest_intact(files, history_slots, max_bytes) if process_group.first else (None, [])
        )
    found: tuple[str | None, list[str]] = snapshot, []
    if process_group.first:
        states = _states(files.prefix)
        own = _of_this_run(states, files.prefix, process_group)
        if own is not None:
            path, notes = newest_intact(files, history_slots, max_bytes, own)
            found = path or snapshot, [*notes, _restarted(path)]
        elif snapshot is None:
            found = None, _earlier_run(states)
    return process_group.broadcast(found)


def _of_this_run(states: list[str], prefix: str, process_group: ProcessGroup) -> list[str] | None:
    """Those of ``states`` that this run has written before torchrun's restart of the ranks.

    None in the first start of the ranks. What was there then may be of another training.
    """
    written = {path: _time_of_writing(path) for path in states}
    kept = process_group.kept(f"states/{os.path.abspath(prefix)}", json.dumps(written))
    if kept is None:
        return None
    before = json.loads(kept)
    return [path for path in states if written[path] != before.get(path)]


def _restarted(path: str | None) -> str:
    if path is None:
        return "torchrun has started the ranks again; this run has no snapshot yet and begins anew"
    return f"torchrun has started the ranks again; this run goes on from {path}"


def newest_intact(
    files: SnapshotFiles,
    history_slots: int,
    max_bytes: int | None = None,
    states: list[str] | None = None,
) -> tuple[str | None, list[str]]:
    """The state with the most iterations under the snapshot prefix whose two files are intact.

    Args:
        files: of the solver; states of both formats count.
        history_slots: history arrays per parameter.
        max_bytes: see :func:`caffecompat.weights.load_weights`.
        states: only these, newest first; by default all under the snapshot prefix.

    Returns:
        The state's path, None if there is no state; and a sentence for each later state that was
        skipped, and one if another run seems to have written under the prefix since.

    Raises:
        SolverError: there are states, but none is intact. A start from the beginning could
            overwrite data that can be recovered, so the user must decide.
    """
    skipped: list[str] = []
    states = _states(files.prefix) if states is None else states
    for i, path in enumerate(states):
        try:
            _check_pair(path, history_slots, max_bytes)
        except (CaffeError, OSError) as error:
            skipped.append(f"skipped {path}: {error}")
        else:
            return path, skipped + _later_written(path, states[i + 1 :])
    if skipped:
        raise SolverError(
            "\n".join(skipped)
            + f"\nnone of the {len(skipped)} solver state(s) of {files.prefix!r} is intact; move "
            "them away to start afresh"
        )
    return None, []


def _later_written(path: str, others: list[str]) -> list[str]:
    """A sentence if a state with fewer iterations than ``path`` was written after it."""
    written = os.stat(path).st_mtime_ns
    later = [other for other in others if os.stat(other).st_mtime_ns > written]
    if not later:
        return []
    return [
        f"{later[0]} was written after {path}, though it has fewer iterations; if it is of another "
        "run, name it as the snapshot, or give each run a snapshot_prefix of its own"
    ]


def _time_of_writing(path: str) -> int:
    """In nanoseconds; 0 if the file has gone."""
    with contextlib.suppress(OSError):
        return os.stat(path).st_mtime_ns
    return 0


def _earlier_run(states: list[str]) -> list[str]:
    """A sentence if a training from the beginning finds states under its prefix."""
    if not states:
        return []
    return [
        f"there are snapshots of an earlier run, the last of them {states[0]}; this run starts "
        "from the beginning and replaces them one by one; --snapshot auto (snapshot='auto' in "
        "Python) goes on from the last"
    ]


def _states(prefix: str) -> list[str]:
    """The states under a prefix by falling iteration, then by falling time of writing."""
    folder, base = os.path.split(prefix)
    pattern = re.compile(re.escape(base) + r"_iter_(\d+)\.solverstate(\.h5)?")
    found = []
    for name in _names(Path(folder or ".")):
        if match := pattern.fullmatch(name):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                found.append((int(match[1]), os.stat(path).st_mtime_ns, path))
    return [path for _, _, path in sorted(found, reverse=True)]


def _check_pair(path: str, history_slots: int, max_bytes: int | None) -> None:
    """Reads a state and its weights.

    Raises:
        CaffeError: a file is missing, damaged or cut off, also where a cut between two layers
            leaves a file that parses.
    """
    state = read_state(path, max_bytes)
    learned = find_learned_net(state, path)
    if learned is None:
        raise SolverError("it names no weights")
    weights = load_weights(learned.path, max_bytes=max_bytes)
    blobs_by_file = ((learned.path, layer.blobs) for layer in weights.layers)
    for name, arrays in [(path, state.history), *blobs_by_file]:
        if not all(map(array_is_finite, arrays)):
            raise SolverError(f"{name} has values that are not finite; it is damaged")
    blobs = sum(len(layer.blobs) for layer in weights.layers)
    # At least: shared blobs are stored with every layer that uses them.
    if blobs * history_slots < len(state.history):
        raise SolverError(
            f"its weights {learned.path} have {blobs} blobs, too few for its {len(state.history)} "
            "history arrays; the file is cut off"
        )


def remove_unfinished(prefix: str) -> list[str]:
    """Removes the unfinished files of killed runs with this prefix.

    Returns:
        The names of the removed files.
    """
    folder, base = os.path.split(prefix)
    start, staged = f"{base}_iter_", re.escape(STAGED)
    # A temporary file has the first characters of the final name.
    shortened = start[: MAX_NAME_PREFIX - len(STAGED)]
    temporary = re.compile(rf"\.(?:{staged})?{re.escape(shortened)}.*\.[0-9a-f]{{8}}\.tmp")
    whole = re.compile(rf"{staged}{re.escape(start)}\d+\.(?:caffemodel|solverstate)(?:\.h5)?")
    removed = []
    for name in _names(Path(folder or ".")):
        path = os.path.join(folder, name)
        if whole.fullmatch(name) or (temporary.fullmatch(name) and shortened == start):
            with contextlib.suppress(OSError):
                os.unlink(path)
                removed.append(name)
        elif temporary.fullmatch(name) and remove_if_stale(path):
            # Another long prefix, whose training runs, may have the same first characters.
            removed.append(name)
    return sorted(removed)


def _names(folder: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from os.listdir(folder)
