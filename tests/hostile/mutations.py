"""Valid files of every kind, and ways to damage them: all a pure function of a seed."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from caffecompat.errors import FormatError
from caffecompat.weights import (
    LayerWeights,
    SolverState,
    Weights,
    save_weights,
    wire,
    write_mean,
    write_state,
)

RECORDED = Path(__file__).resolve().parents[1] / "data" / "weights"
PROTOTXT = Path(__file__).resolve().parents[2] / "prototxt"

# Numbers that length fields and extents like to be broken by.
NUMBERS = (
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80\x80\x80\x80\x10",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\x00",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\xff" * 8,
)
WORDS = (
    *(b"{", b"}", b"{" * 40, b"}" * 40, b"[", b"]", b"<", b">", b":", b'"', b"'", b"#", b"\\"),
    *(b"layer {", b"layers {", b'type: "', b"input_dim: ", b"-1", b"1e999", b"nan", b"-inf"),
    *(b"99999999999999999999", b"0x", b"08", b"true", b"\xef\xbb\xbf", b"\xff", b"\x00", b"\n"),
    *(b"param { ", b"include { phase: TRAIN }", b"transform_param {", b"blobs {", b"top: "),
)


def valid_files(folder: Path) -> dict[str, list[bytes]]:
    """By kind, small valid files: recorded ones of Caffe and some of our own."""
    weights = Weights(
        [
            LayerWeights("data", "Input", tops=["data"]),
            LayerWeights(
                "conv",
                "Convolution",
                [np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), np.ones(2, np.float32)],
                bottoms=["data"],
                tops=["conv"],
                phase=1,
            ),
            LayerWeights("fc/6", "InnerProduct", [np.full((2, 5), 0.5, np.float32)]),
        ],
        "net",
    )
    weights.layers[1].diffs = [np.zeros_like(blob) for blob in weights.layers[1].blobs]
    save_weights(weights, folder / "v2.caffemodel")
    save_weights(weights, folder / "v1.caffemodel", format="caffemodel-v1")
    save_weights(weights, folder / "x.npz")
    weights.layers[2].name = "fc6"
    save_weights(weights, folder / "x.caffemodel.h5")
    state = SolverState(7, "net_iter_7.caffemodel", [np.ones((2, 3), np.float32)] * 2, 1, 5)
    write_state(state, folder / "x.solverstate")
    write_state(state, folder / "x.solverstate.h5")
    write_mean(np.arange(24, dtype=np.float32).reshape(3, 4, 2), folder / "x.binaryproto")
    convnet = RECORDED / "convnet"
    paths = {
        "caffemodel": [
            *sorted(convnet.glob("*.caffemodel")),
            folder / "v1.caffemodel",
            folder / "v2.caffemodel",
        ],
        "solverstate": [
            *sorted((RECORDED / "solverstate").glob("*_bin_iter_5.solverstate")),
            folder / "x.solverstate",
        ],
        "binaryproto": [*sorted((RECORDED / "mean").glob("*.binaryproto"))],
        "npz": [folder / "x.npz"],
        "h5": [
            *sorted(convnet.glob("*.h5")),
            folder / "x.caffemodel.h5",
            folder / "x.solverstate.h5",
        ],
        "prototxt": [
            *sorted(PROTOTXT.glob("quickstart*.prototxt")),
            PROTOTXT / "A_deploy.prototxt",
            *sorted(PROTOTXT.glob("solver_A*.prototxt")),
        ],
    }
    return {kind: [path.read_bytes() for path in files] for kind, files in paths.items()}


def damaged(kind: str, files: dict[str, list[bytes]], seed: int) -> bytes:
    """One damaged file of a kind: one to five mutations of a valid one.

    Half of them are made inside an archive's member or a message's field, with the frame around
    it kept whole, so that readers come to what lies deeper.
    """
    chance = random.Random(f"{kind}:{seed}")
    data = bytearray(chance.choice(files[kind]))
    if kind == "npz" and chance.random() < 0.7:
        return _repacked(bytes(data), chance)
    if kind in MESSAGES and chance.random() < 0.6:
        return _reframed(bytes(data), chance, files)
    moves = {"prototxt": TEXT_MOVES, "h5": IN_PLACE}.get(kind, MOVES)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        chance.choice(moves)(data, chance, files)
    return bytes(data)


def _place(data: bytearray, chance: random.Random) -> int:
    return chance.randrange(len(data)) if data else 0


def _flip(data: bytearray, chance: random.Random, files: dict[str, list[bytes]]) -> None:
    for _ in range(chance.randint(1, 4)):
        if data:
            data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, chance: random.Random, files: dict[str, list[bytes]]) -> None:
    at, number = _place(data, chance), chance.choice(NUMBERS)
    data[at : at + len(number)] = number


def _insert(data: bytearray, chance: random.Random, files: dict[str, list[bytes]]) -> None:
    at = _place(data, chance)
    data[at:at] = chance.choice((chance.choice(NUMBERS), chance.randbytes(chance.randint(1, 9))))


def _delete(data: bytearray, chance: random.Random, files: dict[str, list[bytes]]) -> None:
    at = _place(data, chance)
    del data[at : at + chance.choice((1, 1, 2, 4, 8, 64))]


def _cut(data: bytearray, chance: random.Random, files: dict[str, list[bytes]]) -> None:
    del data[_place(data, chance) :]


def _repeat(data: bytearray, chance: random.Random, files: dict[str, list[bytes]]) -> None:
    at = _place(data, chance)
    piece = data[at : at + chance.randint(1, 200)]
    data[at:at] = piece * chance.choice((1, 1, 2, 50))


def _splice(data: bytearray, chance: random.Random, files: dict[str, list[bytes]]) -> None:
    other = chance.choice(files[chance.choice(sorted(files))])
    start = chance.randrange(len(other))
    at = _place(data, chance)
    data[at:at] = other[start : start + chance.randint(1, 300)]


def _word(data: bytearray, chance: random.Random, files: dict[str, list[bytes]]) -> None:
    at, word = _place(data, chance), chance.choice(WORDS)
    end = at + chance.choice((0, 0, 1, len(word)))
    data[at:end] = word


def _swap_lines(data: bytearray, chance: random.Random, files: dict[str, list[bytes]]) -> None:
    lines = bytes(data).split(b"\n")
    a, b = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    data[:] = b"\n".join(lines)


Move = Callable[[bytearray, random.Random, dict[str, list[bytes]]], None]
MESSAGES = ("caffemodel", "solverstate", "binaryproto")
# Positions inside an HDF5 file are absolute, so that one shift breaks all of them.
IN_PLACE: tuple[Move, ...] = (_flip, _flip, _flip, _overwrite, _overwrite, _cut)
MOVES: tuple[Move, ...] = (_flip, _flip, _overwrite, _insert, _delete, _cut, _repeat, _splice)
TEXT_MOVES: tuple[Move, ...] = (_word, _word, _word, _swap_lines, _flip, _delete, _repeat, _splice)


def _reframed(data: bytes, chance: random.Random, files: dict[str, list[bytes]]) -> bytes:
    """A message with damage somewhere inside, where all lengths around it agree."""
    try:
        fields = list(wire.Message.whole(memoryview(data), "").fields())
    except FormatError:
        fields = []
    if not fields or chance.random() < 0.15:
        piece = bytearray(data)
        chance.choice(MOVES)(piece, chance, files)
        return bytes(piece)
    inside = [field for field in fields if field.wire == wire.LENGTH]
    if not inside or chance.random() < 0.2:
        return _with_odd_field(data, chance.choice(fields), chance)
    field = chance.choice(inside)
    payload = _reframed(data[field.start : field.end], chance, files)
    number = field.number if chance.random() < 0.9 else chance.randint(1, 15)
    head = wire.varint(number << 3 | wire.LENGTH) + wire.varint(len(payload))
    old_head = len(wire.varint(field.number << 3)) + len(wire.varint(field.end - field.start))
    return data[: field.start - old_head] + head + payload + data[field.end :]


def _with_odd_field(data: bytes, field: wire.Field, chance: random.Random) -> bytes:
    """A whole field put in behind another one, of any number and kind, many times maybe."""
    key, kind = chance.randint(1, 15) << 3, chance.choice((0, 1, 2, 5))
    value = {0: chance.choice(NUMBERS[:6]), 1: chance.randbytes(8), 5: chance.randbytes(4)}.get(
        kind, wire.varint(5) + chance.randbytes(5)
    )
    times = chance.choice((1, 1, 2, 33, 1000))
    return data[: field.end] + (wire.varint(key | kind) + value) * times + data[field.end :]


def _repacked(data: bytes, chance: random.Random) -> bytes:
    """An .npz whose members are damaged while the archive around them is whole."""
    out = io.BytesIO()
    packing = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", packing) as new:
        for name in old.namelist():
            member = bytearray(old.read(name))
            if chance.random() < 0.6:
                chance.choice(MOVES)(member, chance, {"npz": [data]})
            new.writestr(name if chance.random() < 0.9 else f"../{name}", bytes(member))
    return out.getvalue()
