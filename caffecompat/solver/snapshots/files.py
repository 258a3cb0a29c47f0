"""Snapshots: where they go, and how a solver state is found and understood again."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffecompat.errors import CaffeError, FileProblem, SolverError
from caffecompat.output_files import check_target, keep_permissions, sync_folder
from caffecompat.proto import schema
from caffecompat.proto.schema import Message
from caffecompat.weights import SolverState, Weights, read_state, save_weights, write_state
from caffecompat.weights.known_files import file_hash

# Files of a pair have this before their names until both are whole.
STAGED = ".new."


@dataclass(frozen=True)
class SnapshotFiles:
    """Names of the files of a run's snapshots, composed as Caffe composes them.

    Attributes:
        prefix: ``snapshot_prefix`` of the solver, or its stand-in.
        hdf5: HDF5 instead of binary protobuf.
    """

    prefix: str
    hdf5: bool

    def model(self, iteration: int) -> str:
        return f"{self.prefix}_iter_{iteration}.caffemodel" + (".h5" if self.hdf5 else "")

    def state(self, iteration: int) -> str:
        return f"{self.prefix}_iter_{iteration}.solverstate" + (".h5" if self.hdf5 else "")

    def check_writable(self, place: str) -> None:
        """Makes sure that snapshots can be written, before the work that they shall keep.

        Raises:
            SolverError: the folder is missing or not writable.
        """
        folder = os.path.dirname(self.prefix) or "."
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            reason = error.strerror or str(error)
            raise SolverError(
                f"{place}: cannot write snapshots to {self.prefix!r}: {reason} ({folder}); "
                f"{_way_out(folder, error.errno)}, or change snapshot_prefix"
            ) from error


def _way_out(folder: str, number: int | None) -> str:
    """What makes it possible to write to ``folder`` after a failure with error ``number``."""
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "free some space there"
    if os.path.isdir(folder):
        return "give yourself the right to write there"
    if os.path.lexists(folder):
        return f"{folder} is a file, move it away"
    return f"make the folder (mkdir -p {shlex.quote(folder)})"


def snapshot_files(message: Message, path: str | None) -> SnapshotFiles:
    """The snapshot files of a solver.

    Without ``snapshot_prefix`` the path of the solver file without its last extension is used;
    a prefix that is a folder gets the file's name appended.

    Args:
        message: SolverParameter.
        path: the solver file, None for a solver from a message.
    """
    formats = schema.enum_names("SolverParameter.SnapshotFormat")
    hdf5 = message.snapshot_format == formats["HDF5"]
    stem = os.path.splitext(path)[0] if path else ""
    prefix = message.snapshot_prefix
    if not prefix:
        prefix = stem
    elif path and os.path.isdir(prefix):
        prefix = os.path.join(prefix, os.path.basename(stem))
    return SnapshotFiles(prefix, hdf5)


def load_state(path: str, max_bytes: int | None = None) -> SolverState:
    """The solver state in a file; ``max_bytes`` is of :func:`caffecompat.weights.read_state`.

    Raises:
        FileProblem: it is missing or unreadable.
        FormatError: it is damaged or another kind of file.
        SolverError: its name says that it holds the weights beside a state.
    """
    if ".caffemodel" in os.path.basename(path):
        state = path.replace(".caffemodel", ".solverstate")
        beside = f", here {state}" if os.path.exists(state) else ""
        raise SolverError(
            f"{path}: this is a weight file, not a solver state; to resume give the .solverstate "
            f"written beside it{beside}; to start afresh from these weights give them as --weights"
        )
    if not os.path.exists(path):
        raise FileProblem(
            f"{path}: there is no such solver state; --snapshot takes a .solverstate file that "
            "training has written"
        )
    return read_state(path, max_bytes)


def write_pair(weights: Weights, state: SolverState, path: str) -> None:
    """Writes the weights to ``state.learned_net`` and the state to ``path``.

    Both are written whole under other names before either takes its place, so that a full disk
    harms neither an older pair of these names nor any other. A state of another run that has this
    name goes before the weights come, so that a crash between the two moves never leaves it
    beside our weights. The state gets the hash of the weights' file, which ties the two.

    Raises:
        FileProblem: a file cannot be written, or would replace something that is no regular file;
            nothing has changed then.
    """
    model = state.learned_net
    targets = {name: check_target(name) for name in (model, path)}
    drafts = {_staged(target): target for target in targets.values()}
    try:
        save_weights(weights, _staged(targets[model]))
        state.learned_net_sha256 = file_hash(_staged(targets[model]))
        write_state(state, _staged(targets[path]))
        for draft, target in drafts.items():
            with open(draft, "rb") as file:
                keep_permissions(target, file.fileno())
        if targets[path].exists() and not _is_same(path, state):
            targets[path].unlink()
        for draft, target in drafts.items():
            os.replace(draft, target)
        for folder in {target.parent for target in targets.values()}:
            sync_folder(folder)
    except FileProblem as error:
        text = str(error)
        for name, target in targets.items():
            text = text.replace(str(_staged(target)), name)
        raise FileProblem(text) from error
    except OSError as error:
        raise FileProblem(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        for draft in drafts:
            with contextlib.suppress(OSError):
                draft.unlink()


def _staged(target: Path) -> Path:
    """The name under which a file waits beside its place; the ending decides the format."""
    return target.with_name(STAGED + target.name)


def _is_same(path: str, state: SolverState) -> bool:
    """Whether the file holds ``state`` already, as after resuming a training that was done."""
    try:
        found = read_state(path)
    except CaffeError:
        return False
    return (
        found.iteration == state.iteration
        and found.random_seed == state.random_seed
        and len(found.history) == len(state.history)
        and all(map(np.array_equal, found.history, state.history))
    )


@dataclass(frozen=True)
class LearnedNet:
    """The weights that a solver state is gone on with.

    Attributes:
        path: the file.
        note: what the log should say about the choice; empty where there was none.
    """

    path: str
    note: str = ""


def find_learned_net(state: SolverState, path: str) -> LearnedNet | None:
    """The weights that belong to a state; None if it names none.

    The file beside the state is preferred, so that a copied pair stays together though the
    original is still there; else the name is looked for from the current folder, as in Caffe.
    Where the state has the hash of its weights, only a file of that hash will do.

    Raises:
        FileProblem: it is in neither place.
        SolverError: it is there, but is not what the state was written with.
    """
    if not state.learned_net:
        return None
    named, beside = Path(state.learned_net), Path(path).parent / Path(state.learned_net).name
    found = [place for place in (beside, named) if place.exists()]
    if len(found) == 2 and named.samefile(beside):
        found = [named]
    if not found:
        raise FileProblem(
            f"{path}: its weights {state.learned_net!r} are missing, both seen from the current "
            "folder and beside the state; put the two files of the snapshot into one folder"
        )
    right = [place for place in found if _belongs(place, state)]
    if not right:
        raise SolverError(
            f"{path}: {' and '.join(map(str, found))} are not the weights that this state was "
            "written with (their SHA-256 differs): they are of another run, were changed or are "
            "damaged; put the snapshot's own weights beside the state, or start afresh from these "
            f"with --weights {found[0]}"
        )
    others = [place for place in found if place != right[0]]
    note = f"{path}: its weights are taken from {right[0]}, not from {others[0]}" if others else ""
    return LearnedNet(str(right[0]), note)


def _belongs(weights: Path, state: SolverState) -> bool:
    """Whether a file has the hash that a state has of its weights; True where it has none."""
    return not state.learned_net_sha256 or file_hash(weights) == state.learned_net_sha256
