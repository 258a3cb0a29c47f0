"""Every reader of untrusted files: its valid inputs, and how it is called."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.errors import DataError
from caffecompat.weights import read_mean
from tests.hostile.fuzzing import later_readers
from tests.hostile.fuzzing.asks import (
    all_values,
    binary_net,
    datum,
    describe,
    hdf5_rows,
    image,
    image_samples,
    log_table,
    net_shapes,
    net_text,
    records,
    solver_settings,
    state_values,
    upgraded_binary,
    window_samples,
)
from tests.hostile.fuzzing.mutations import (
    BINARY_MOVES,
    IN_PLACE_MOVES,
    TEXT_MOVES,
    VALUE_MOVES,
    Move,
    mutate,
    reframed,
    repacked,
)
from tests.hostile.fuzzing.seeds import Files, Seeds
from tests.hostile.fuzzing.structures import IMAGE_MOVES, LMDB_MOVES, damaged_folder, odd_hdf5

# One input in so many goes through the command line too.
_COMMAND_EVERY = 32

Make = Callable[[Seeds, random.Random], Files]
Ask = Callable[[Path], object]


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    Attributes:
        make: the files of one input, by relative path, the one that is read first.
        asks: what is done with it; each may raise CaffeError.
        share: how many inputs of a run go to it, relative to the others.
        command: arguments of the command line that read it; ``{}`` stands for the path.
    """

    make: Make
    asks: tuple[Ask, ...]
    share: int = 10
    command: tuple[str, ...] = ()


# What is made


def _one(name: str, kind: str, moves: Sequence[Move], seeds: Seeds, chance: random.Random) -> Files:
    files = seeds.single[kind]
    return {name: mutate(chance.choice(files), moves, chance, files)}


def _definition(name: str, kind: str, seeds: Seeds, chance: random.Random) -> Files:
    """Text that still parses in six cases of ten, so that what it says is looked at."""
    moves = VALUE_MOVES if chance.random() < 0.6 else TEXT_MOVES
    return _one(name, kind, moves, seeds, chance)


def _message(name: str, kind: str, seeds: Seeds, chance: random.Random) -> Files:
    files = seeds.single[kind]
    change = chance.random() < 0.6
    data = chance.choice(files)
    others = files if chance.random() < 0.7 else seeds.single["caffemodel"]
    if change:
        return {name: reframed(data, chance, others)}
    return {name: mutate(data, BINARY_MOVES, chance, others)}


def _archive(name: str, kind: str, seeds: Seeds, chance: random.Random) -> Files:
    files = seeds.single[kind]
    if chance.random() < 0.7:
        return {name: repacked(chance.choice(files), chance, files)}
    return {name: mutate(chance.choice(files), BINARY_MOVES, chance, files)}


_WEIGHT_NAMES = ("data/conv/0", "data/conv/1", "data/fc/0", "data/fc/1", "diff/conv/0")
_STATE_NAMES = ("iter", "learned_net", "current_step", "history/0", "history/1", "history/2")
_ROW_NAMES = ("data", "label")


def _hdf5(name: str, kind: str, seeds: Seeds, chance: random.Random) -> Files:
    """A recorded file damaged in place, or one with odd objects, half of these damaged too."""
    files = seeds.single[kind]
    act = chance.random()
    if act < 0.6:
        return {name: mutate(chance.choice(files), IN_PLACE_MOVES, chance, files)}
    names = {"hdf5": _WEIGHT_NAMES, "solverstate-hdf5": _STATE_NAMES}.get(kind, _ROW_NAMES)
    data = odd_hdf5(names, chance)
    return {name: mutate(data, IN_PLACE_MOVES, chance, files) if act < 0.8 else data}


def _rows(seeds: Seeds, chance: random.Random) -> Files:
    files = {"list.txt": b"a.h5\n", **_hdf5("a.h5", "hdf5-data", seeds, chance)}
    act = chance.random()
    if act < 0.05:
        files["list.txt"] = mutate(
            b"a.h5\nb.h5\na.h5\n", TEXT_MOVES, chance, [b"\0", b"/dev/zero "]
        )
    elif act < 0.3:
        files["list.txt"] = b"a.h5\nb.h5\n"
        files["b.h5"] = chance.choice(seeds.single["hdf5-data"])
    return files


def _lmdb(seeds: Seeds, chance: random.Random) -> Files:
    folders = seeds.folders["lmdb"]
    others = [data for files in folders for data in files.values()]
    return damaged_folder(chance.choice(folders), LMDB_MOVES, chance, others)


def _leveldb(seeds: Seeds, chance: random.Random) -> Files:
    folders = seeds.folders["leveldb"]
    others = [data for files in folders for data in files.values()]
    moves = BINARY_MOVES if chance.random() < 0.4 else IN_PLACE_MOVES
    return damaged_folder(chance.choice(folders), moves, chance, others)


def _beside_images(
    name: str, kind: str, moves: Sequence[Move], seeds: Seeds, chance: random.Random
) -> Files:
    """A list beside its images, of which one may be damaged."""
    files = {**_one(name, kind, moves, seeds, chance), **seeds.images}
    if chance.random() < 0.3:
        other = chance.choice(sorted(seeds.images))
        files[other] = mutate(files[other], IMAGE_MOVES, chance, list(seeds.images.values()))
    return files


def _annotations(seeds: Seeds, chance: random.Random) -> Files:
    files = _one("a.xml", "annotations", TEXT_MOVES, seeds, chance)
    return {**files, later_readers.LABELS: seeds.single["label-map"][0]}


def _script(seeds: Seeds, chance: random.Random) -> Files:
    name = "code/a.py" if chance.random() < 0.5 else "code/a.ipynb"
    return {name: b"# import caffe\n", **_one(name, "script", TEXT_MOVES, seeds, chance)}


_INSPECT = ("inspect", "--values", "{}")

READERS: dict[str, Reader] = {
    "caffemodel": Reader(
        partial(_message, "x.caffemodel", "caffemodel"), (all_values, describe), 14, _INSPECT
    ),
    "binary-net": Reader(
        partial(_message, "x.binaryproto", "binary-net"),
        (binary_net, upgraded_binary),
        10,
        ("upgrade-net", "--binary", "{}", "new"),
    ),
    "solverstate": Reader(
        partial(_message, "x.solverstate", "solverstate"), (state_values, describe), 9, _INSPECT
    ),
    "mean": Reader(partial(_message, "x.binaryproto", "mean"), (read_mean, describe), 8, _INSPECT),
    "hdf5": Reader(partial(_hdf5, "x.caffemodel.h5", "hdf5"), (all_values, describe), 6, _INSPECT),
    "solverstate-hdf5": Reader(
        partial(_hdf5, "x.solverstate.h5", "solverstate-hdf5"),
        (state_values, describe),
        3,
        _INSPECT,
    ),
    "hdf5-data": Reader(_rows, (hdf5_rows,), 5),
    "npz": Reader(partial(_archive, "x.npz", "npz"), (all_values, describe), 6, _INSPECT),
    "pt": Reader(partial(_archive, "x.pt", "pt"), (all_values, describe), 3, _INSPECT),
    "safetensors": Reader(
        partial(_one, "x.safetensors", "safetensors", BINARY_MOVES),
        (all_values, describe),
        4,
        _INSPECT,
    ),
    "prototxt": Reader(
        partial(_definition, "x.prototxt", "prototxt"),
        (net_text, net_shapes),
        6,
        ("summary", "{}"),
    ),
    "solver": Reader(
        partial(_definition, "x.prototxt", "solver"),
        (solver_settings,),
        7,
        ("upgrade-solver", "{}", "new.prototxt"),
    ),
    "log": Reader(
        partial(_one, "x.log", "log", TEXT_MOVES), (log_table,), 6, ("parse-log", "{}", ".")
    ),
    "lmdb": Reader(_lmdb, (partial(records, "LMDB"),), 8, ("dataset", "info", "{}")),
    "leveldb": Reader(_leveldb, (partial(records, "LEVELDB"),), 7, ("dataset", "verify", "{}")),
    "datum": Reader(partial(_message, "x.datum", "datum"), (datum,), 15),
    "image": Reader(partial(_one, "x.img", "image", IMAGE_MOVES), (image,), 9),
    "image-list": Reader(
        partial(_beside_images, "list.txt", "image-list", TEXT_MOVES),
        (image_samples,),
        4,
        ("convert-imageset", "--workers", "1", "./", "{}", "new_lmdb"),
    ),
    "windows": Reader(
        partial(_beside_images, "windows.txt", "windows", TEXT_MOVES), (window_samples,), 5
    ),
    "onnx": Reader(partial(_message, "x.onnx", "onnx"), (later_readers.onnx,), 3),
    "mat": Reader(
        partial(_one, "x.mat", "mat", BINARY_MOVES),
        (later_readers.mat, later_readers.model_file),
        4,
        ("convert", "{}", "x.caffemodel"),
    ),
    "mat-7.3": Reader(partial(_one, "x.mat", "mat-7.3", IN_PLACE_MOVES), (later_readers.mat,), 1),
    "posteriors": Reader(
        partial(_archive, "x.npz", "posteriors"), (later_readers.saved_posteriors,), 3
    ),
    "posteriors-hdf5": Reader(
        partial(_one, "x.h5", "posteriors-hdf5", IN_PLACE_MOVES),
        (later_readers.saved_posteriors,),
        1,
    ),
    "features": Reader(
        partial(_one, "x.h5", "features", IN_PLACE_MOVES), (later_readers.features,), 1
    ),
    "label-map": Reader(
        partial(_one, "x.prototxt", "label-map", TEXT_MOVES), (later_readers.label_map,), 2
    ),
    "annotations": Reader(_annotations, (later_readers.annotated,), 4),
    "script": Reader(_script, (later_readers.script,), 3, ("doctor", "{}")),
    "list": Reader(partial(_one, "x.txt", "list", TEXT_MOVES), (later_readers.lists,), 5),
    "idx": Reader(partial(_one, "x.idx", "idx", BINARY_MOVES), (later_readers.idx,), 2),
    "preprocessing": Reader(
        partial(_one, "x.json", "preprocessing", TEXT_MOVES), (later_readers.preprocessing,), 2
    ),
}


def first_path(files: Files) -> Path:
    """What the reader is given: the first file, or the folder that it lies in."""
    path = Path(next(iter(files)))
    return path.parent if path.parent.name else path


def asks_for(reader: Reader, number: int) -> list[Ask]:
    """What is done with input ``number``: some go through the command line too."""
    if not reader.command or number % _COMMAND_EVERY:
        return list(reader.asks)
    return [*reader.asks, partial(_command, reader.command)]


def _command(words: tuple[str, ...], path: Path) -> Any:
    from caffecompat.cli.main import main

    code = main([word.format(path) for word in words])
    if code not in (0, 1):
        raise AssertionError(f"exit code {code} of {words[0]}")
    if code:
        raise DataError("refused by the command")
    return code


def make_input(name: str, seeds: Seeds, number: int) -> Files:
    """Input ``number`` of a reader; the same bytes each time."""
    with np.errstate(all="ignore"):
        return READERS[name].make(seeds, random.Random(f"{name}:{number}"))
