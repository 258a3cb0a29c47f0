"""Snapshot files: their names, writing a pair of them, reading a state and finding its weights."""

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
from caffecompat.input_files import folder_with
from caffecompat.output_files import check_target, keep_permissions, longest_name, sync_folder
from caffecompat.proto import schema
from caffecompat.proto.schema import Message
from caffecompat.weights import SolverState, Weights, read_state, save_weights, write_state
from caffecompat.weights.known_files import file_hash

# The names of both files of a pair have this prefix until both are complete.
STAGED = ".new."


@dataclass(frozen=True)
class SnapshotFiles:
    """Names of the files of a run's snapshots, composed as Caffe composes them.

    Attributes:
        prefix: ``snapshot_prefix`` of the solver, or the default for it.
        hdf5: HDF5 instead of binary protobuf.
    """

    prefix: str
    hdf5: bool

    def model(self, iteration: int) -> str:
        return f"{self.prefix}_iter_{iteration}.caffemodel" + (".h5" if self.hdf5 else "")

    def state(self, iteration: int) -> str:
        return f"{self.prefix}_iter_{iteration}.solverstate" + (".h5" if self.hdf5 else "")

    def check_writable(self, place: str, last: int = 0) -> None:
        """Checks that snapshots can be written, before the training starts.

        Args:
            place: the solver's file, for messages.
            last: the last iteration, whose files have the longest names.

        Raises:
            SolverError: the folder is missing or not writable, or the names are too long for it.
        """
        folder = os.path.dirname(self.prefix) or "."
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            reason = error.strerror or str(error)
            raise SolverError(
                f"{place}: cannot write snapshots to {self.prefix!r}: {reason} ({folder}); "
                f"{_remedy(folder, error.errno, place)}"
            ) from error
        self._check_names(folder, place, last)

    def _check_names(self, folder: str, place: str, last: int) -> None:
        needed = longest_name(STAGED + os.path.basename(self.state(last)))
        limit = _name_limit(folder)
        if limit is not None and needed > limit:
            raise SolverError(
                f"{place}: cannot write snapshots to {self.prefix!r}: names of up to {needed} "
                f"bytes are needed there, and the file system takes {limit}; give a "
                f"snapshot_prefix whose last part is {needed - limit} bytes shorter"
            )


def _remedy(folder: str, number: int | None, solver: str) -> str:
    """The remedy for error ``number`` of a write to ``folder``."""
    if number == errno.ENAMETOOLONG:
        return "give a snapshot_prefix with shorter names of folders"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "free some space there, or change snapshot_prefix"
    if os.path.isdir(folder):
        return "give yourself the right to write there, or change snapshot_prefix"
    above = folder_with(folder, solver)
    if above is not None and os.path.isdir(above / folder):
        return f"run from the folder that has it (cd {shlex.quote(str(above))})"
    make = f"make the folder (mkdir -p {shlex.quote(folder)}), or change snapshot_prefix"
    there = next(filter(os.path.lexists, (folder, *map(str, Path(folder).parents))), ".")
    if not os.path.isdir(there):
        return f"{there} is a file, move it away and {make}"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"give yourself the right to write in {there} and {make}"
    return make


def _name_limit(folder: str) -> int | None:
    """The bytes that a name in ``folder`` may have; None if the system does not tell."""
    # Windows has no pathconf.
    ask = getattr(os, "pathconf", None)
    with contextlib.suppress(OSError, ValueError):
        return None if ask is None else int(ask(folder, "PC_NAME_MAX"))
    return None


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
    if not message.HasField("snapshot_prefix"):
        prefix = stem
    elif path and os.path.isdir(prefix):
        prefix = os.path.join(prefix, os.path.basename(stem))
    return SnapshotFiles(prefix, hdf5)


def load_state(path: str, max_bytes: int | None = None) -> SolverState:
    """The solver state in a file; ``max_bytes`` is of :func:`caffecompat.weights.read_state`.

    Raises:
        FileProblem: it is missing or unreadable.
        FormatError: it is damaged or another kind of file.
        SolverError: its name is that of a weight file.
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

    Both are written under temporary names before either is renamed, so that a full disk damages no
    older snapshot. A state of another run with this name is removed before the weights are renamed,
    so that a crash between the two renames never leaves it beside the new weights. The state holds
    the hash of the weight file, which identifies the pair.

    Raises:
        FileProblem: a file cannot be written, or would replace something that is not a regular
            file; nothing is then changed.
    """
    model = state.learned_net
    targets = {name: check_target(name) for name in (model, path)}
    temporaries = {_staged(target): target for target in targets.values()}
    try:
        save_weights(weights, _staged(targets[model]))
        state.learned_net_sha256 = file_hash(_staged(targets[model]))
        write_state(state, _staged(targets[path]))
        for temporary, target in temporaries.items():
            with open(temporary, "rb") as file:
                keep_permissions(target, file.fileno())
        if targets[path].exists() and not _is_same(path, state):
            targets[path].unlink()
        for temporary, target in temporaries.items():
            os.replace(temporary, target)
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
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _staged(target: Path) -> Path:
    """The temporary name of a file in its folder; the suffix, which decides the format, stays."""
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
    """The weight file of a solver state.

    Attributes:
        path: the file.
        note: a log line about the choice between two files; empty if there was only one.
    """

    path: str
    note: str = ""


def find_learned_net(state: SolverState, path: str) -> LearnedNet | None:
    """The weights that belong to a state; None if it names none.

    The file beside the state is preferred, so that a copied pair stays together even if the
    original still exists; otherwise the name is resolved from the current folder, as in Caffe. If
    the state has the hash of its weights, only a file with that hash is accepted.

    Raises:
        FileProblem: it is in neither place.
        SolverError: it exists, but its hash differs from the one in the state.
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
    matching = [place for place in found if _belongs(place, state)]
    if not matching:
        raise SolverError(
            f"{path}: {' and '.join(map(str, found))} are not the weights that this state was "
            "written with (their SHA-256 differs): they are of another run, were changed or are "
            "damaged; put the snapshot's own weights beside the state, or start afresh from these "
            f"with --weights {found[0]}"
        )
    others = [place for place in found if place != matching[0]]
    note = (
        f"{path}: its weights are taken from {matching[0]}, not from {others[0]}" if others else ""
    )
    return LearnedNet(str(matching[0]), note)


def _belongs(weights: Path, state: SolverState) -> bool:
    """Whether a file has the hash that a state records; True if it records none."""
    return not state.learned_net_sha256 or file_hash(weights) == state.learned_net_sha256
