"""The newest snapshot that can be gone on with, and what killed runs leave behind."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from caffecompat.errors import CaffeError, SolverError
from caffecompat.solver.diagnostics.nonfinite import are_finite
from caffecompat.solver.distributed.process_group import ProcessGroup
from caffecompat.solver.snapshots.files import STAGED, SnapshotFiles, find_learned_net
from caffecompat.weights import load_weights, read_state

AUTO = "auto"


def check_start(weights: str | os.PathLike[str] | None, snapshot: str | None) -> None:
    """Raises SolverError where a training is given two states to start from."""
    if weights and snapshot and snapshot != AUTO:
        raise SolverError(
            "weights and snapshot are both given; give a snapshot to resume a training or "
            "weights to start one from, not both"
        )


def find_start(
    snapshot: str | None,
    files: SnapshotFiles,
    blocks: int,
    process_group: ProcessGroup,
    max_bytes: int | None = None,
) -> tuple[str | None, list[str]]:
    """The state to go on from, and what the log should say about the choice.

    Args:
        snapshot: a state's path, ``"auto"``, or None to start from the beginning.
        files, blocks, max_bytes: see :func:`newest_intact`.
        process_group: of the training; rank 0 chooses for all.
    """
    if snapshot is None:
        return None, _earlier(files.prefix) if process_group.first else []
    if snapshot != AUTO:
        return snapshot, []
    return process_group.of_first(
        newest_intact(files, blocks) if process_group.first else (None, [])
    )


def newest_intact(
    files: SnapshotFiles, blocks: int, max_bytes: int | None = None
) -> tuple[str | None, list[str]]:
    """The state with the most iterations under the snapshot prefix whose two files are whole.

    Args:
        files: of the solver; states of both formats count.
        blocks: history arrays per parameter.
        max_bytes: see :func:`caffecompat.weights.load_weights`.

    Returns:
        The state's path, None where there is no state at all; and a sentence for each later one
        that was skipped, and where another run seems to have written under the prefix since.

    Raises:
        SolverError: there are states, but none is intact. Starting afresh beside them could
            overwrite what may still be saved, so that is left to the user.
    """
    skipped: list[str] = []
    states = _states(files.prefix)
    for i, path in enumerate(states):
        try:
            _check_pair(path, blocks, max_bytes)
        except (CaffeError, OSError) as error:
            skipped.append(f"skipped {path}: {error}")
        else:
            return path, skipped + _rivals(path, states[i + 1 :])
    if skipped:
        raise SolverError(
            "\n".join(skipped)
            + f"\nnone of the {len(skipped)} solver state(s) of {files.prefix!r} is intact; move "
            "them away to start afresh"
        )
    return None, []


def _rivals(path: str, others: list[str]) -> list[str]:
    """What to say if a state of fewer iterations than that of ``path`` was written after it."""
    written = os.stat(path).st_mtime_ns
    later = [other for other in others if os.stat(other).st_mtime_ns > written]
    if not later:
        return []
    return [
        f"{later[0]} was written after {path}, though it has fewer iterations; if it is of another "
        "run, name it as the snapshot, or give each run a snapshot_prefix of its own"
    ]


def _earlier(prefix: str) -> list[str]:
    """What to say of snapshots that a training from the beginning finds under its prefix."""
    states = _states(prefix)
    if not states:
        return []
    return [
        f"there are snapshots of an earlier run, the last of them {states[0]}; this run starts "
        "from the beginning and replaces them one by one (snapshot auto would go on from the last)"
    ]


def _states(prefix: str) -> list[str]:
    """The states under a prefix, most iterations first; of equals the one written last first."""
    folder, base = os.path.split(prefix)
    pattern = re.compile(re.escape(base) + r"_iter_(\d+)\.solverstate(\.h5)?")
    found = []
    for name in _names(Path(folder or ".")):
        if match := pattern.fullmatch(name):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                found.append((int(match[1]), os.stat(path).st_mtime_ns, path))
    return [path for _, _, path in sorted(found, reverse=True)]


def _check_pair(path: str, blocks: int, max_bytes: int | None) -> None:
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
        if not all(map(are_finite, arrays)):
            raise SolverError(f"{name} has values that are no finite numbers; it is damaged")
    blobs = sum(len(layer.blobs) for layer in weights.layers)
    # At least: shared blobs are stored with every layer that uses them.
    if blobs * blocks < len(state.history):
        raise SolverError(
            f"its weights {learned.path} have {blobs} blobs, too few for its {len(state.history)} "
            "history arrays; the file is cut off"
        )


def remove_drafts(prefix: str) -> list[str]:
    """Removes half-written files that killed runs with this prefix have left.

    Returns:
        The names of the files that are gone.
    """
    folder, base = os.path.split(prefix)
    start = re.escape(f"{base}_iter_")
    staged = re.escape(STAGED)
    # Drafts have the first 64 letters of the name that they were for.
    shortened = re.escape(f"{base}_iter_"[: 64 - len(STAGED)])
    draft = re.compile(rf"\.(?:{staged})?{shortened}.*\.[0-9a-f]{{8}}\.tmp")
    whole = re.compile(rf"{staged}{start}\d+\.(?:caffemodel|solverstate)(?:\.h5)?")
    removed = []
    for name in _names(Path(folder or ".")):
        if draft.fullmatch(name) or whole.fullmatch(name):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))
                removed.append(name)
    return sorted(removed)


def _names(folder: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from os.listdir(folder)
