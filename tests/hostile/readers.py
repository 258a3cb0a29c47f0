"""Every reader of untrusted files: its valid inputs, and how it is called."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.data.backends.database import Database, open_database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.codec.images import decode_image, image_shape, is_cut_off
from caffecompat.data.sources.base import Samples
from caffecompat.data.sources.hdf5_rows import HDF5Reader
from caffecompat.data.sources.image_list import ImageSamples, read_list
from caffecompat.data.sources.windows import WindowSamples
from caffecompat.errors import CaffeError, DataError
from caffecompat.logs.parse import read_log, table
from caffecompat.net import Net
from caffecompat.net.analysis.summary import summarise
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.proto import schema
from caffecompat.proto.binary import dialects
from caffecompat.proto.binary.nets import read_binary_net, upgrade_binary_net
from caffecompat.proto.files import read_net
from caffecompat.proto.text.printer import format_text
from caffecompat.solver.setup.settings import read_settings
from caffecompat.solver.snapshots.snapshot_files import snapshot_files
from caffecompat.weights import load_weights, read_mean, read_state
from caffecompat.weights.description import describe_file
from tests.hostile.mutations import (
    BINARY_MOVES,
    IN_PLACE_MOVES,
    TEXT_MOVES,
    VALUE_MOVES,
    Move,
    mutate,
    reframed,
    repacked,
)
from tests.hostile.seeds import Files, Seeds
from tests.hostile.structures import IMAGE_MOVES, LMDB_MOVES, damaged_folder, odd_hdf5

# A net of more values or multiplications than this is not run: it may rightly take long.
_SMALL = 1 << 20
# Records of a database that are looked at.
_RECORDS = 300
_SAMPLES = 8
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


# What is asked


def all_values(path: Path) -> None:
    """Weights, and every value of them looked at."""
    for layer in load_weights(path, torch_naming()).layers:
        for array in [*layer.blobs, *(layer.diffs or ())]:
            array.sum()


def describe(path: Path) -> None:
    describe_file(path, values=True, naming=torch_naming())


def state_values(path: Path) -> None:
    for array in read_state(path).history:
        array.sum()


def binary_net(path: Path) -> None:
    net, _ = read_binary_net(path)
    format_text(net)


def upgraded_binary(path: Path) -> None:
    net, dialect, _, _ = upgrade_binary_net(path)
    dialects.to_dialect(net, dialect)


def net_text(path: Path) -> None:
    format_text(read_net(path)[0])


def net_shapes(path: Path) -> None:
    """The net built without values; run with them if it is small."""
    net = Net(path, shapes_only=True)
    summary = summarise(net)
    values = sum(math.prod(shape) for row in summary.rows for _, shape in row.tops)
    kinds = {built.type for built in net.layers}
    if values + summary.parameters + summary.multiply_adds > _SMALL or "HDF5Output" in kinds:
        return
    Net(path, phase="train").forward()


def solver_settings(path: Path) -> None:
    settings = read_settings(path)
    snapshot_files(settings.message, settings.path)
    for iteration in (0, 1, 1000):
        settings.policy.rate(iteration)


def log_table(path: Path) -> None:
    log = read_log(path)
    table(log.train)
    table(log.test)


def all_of(work: Iterable[Callable[[], object]]) -> None:
    """Does everything, though some of it is refused, and raises the first refusal at the end."""
    refusals: list[CaffeError] = []
    for one in work:
        try:
            one()
        except CaffeError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def records(kind: str, path: Path) -> None:
    """Keys, records and what they hold, forwards and with a jump."""
    with open_database(path, kind) as database:
        count = min(len(database), _RECORDS)
        for key, _ in zip(database.keys(), range(count), strict=False):
            bytes(key)
        places = (*range(count), 0, len(database) - 1) if count else ()
        all_of(partial(_record, database, index) for index in places)


def _record(database: Database, index: int) -> None:
    decode_datum(parse_datum(database.read(index)[1]))


def datum(path: Path) -> None:
    """A record's bytes, as the Data layer takes them."""
    message = parse_datum(path.read_bytes())
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"force_color": True},
        {"force_gray": True},
    )
    all_of(partial(decode_datum, message, **way) for way in ways)


def image(path: Path) -> None:
    """Header and pixels; None stands for a refusal here."""
    data = path.read_bytes()
    is_cut_off(data)
    shape = image_shape(data)
    decode_image(data, "unchanged")
    decode_image(data, "gray")
    pixels = decode_image(data, "color")
    if shape is None or pixels is None:
        raise DataError("no image")


def image_samples(path: Path) -> None:
    """The first images of a list, each as a sample."""
    with closing(ImageSamples(str(path), read_list(str(path)))) as samples:
        all_of(partial(_sample, samples, ordinal) for ordinal in range(_SAMPLES))


def window_samples(path: Path) -> None:
    layer = schema.new("LayerParameter")
    layer.window_data_param.source = str(path)
    layer.window_data_param.batch_size = 4
    layer.window_data_param.context_pad = 1
    layer.transform_param.crop_size = 6
    with closing(WindowSamples(layer, 0)) as samples:
        all_of(partial(_sample, samples, ordinal) for ordinal in range(_SAMPLES))


def _sample(samples: Samples, ordinal: int) -> None:
    samples.decode(samples.fetch(ordinal))


def hdf5_rows(path: Path) -> None:
    """Two batches, of the data sets that the recorded files have."""
    reader = HDF5Reader(str(path), ["data", "label"], 3)
    for index in range(2):
        for top in reader.batch(index):
            top.sum()


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
