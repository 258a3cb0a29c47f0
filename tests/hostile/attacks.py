"""One small file per attack, and the sentence that must answer it."""

from __future__ import annotations

import copy
import gzip
import io
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import h5py
import numpy as np

from caffecompat.weights import LayerWeights, SolverState, Weights, save_weights, write_state
from caffecompat.weights.encodings import wire
from caffecompat.weights.encodings.wire import Part

FLOATS = np.arange(6, dtype="<f4").tobytes()


@dataclass(frozen=True)
class Attack:
    """A file by name, its bytes or what makes them, and a part of the sentence.

    ``limit`` is where the package has a number that this file is above when it is a tenth of what
    it is: a file with fewer messages is read in less time, and a tenth of the memory shows as much.
    """

    name: str
    file: str
    content: bytes | Callable[[], bytes]
    sentence: str
    limit: str = ""

    @cached_property
    def data(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content()


def message(number: int, *parts: bytes | Part) -> bytes:
    return b"".join(bytes(part) for part in wire.delimited(number, [bytes(p) for p in parts]))


def text(number: int, value: str) -> bytes:
    return b"".join(bytes(part) for part in wire.text_field(number, value))


def number(field: int, value: int) -> bytes:
    return b"".join(bytes(part) for part in wire.number_field(field, value))


def layer(*blobs: bytes) -> bytes:
    return message(
        100, text(1, "fc"), text(2, "InnerProduct"), *(message(7, blob) for blob in blobs)
    )


def shape(*dims: int) -> bytes:
    return message(7, message(1, b"".join(wire.varint(dim) for dim in dims)))


GOOD = layer(shape(2, 3) + message(5, FLOATS))


def npz(header: str, body: bytes = b"", name: str = "fc/0.npy") -> bytes:
    """An .npz with one array whose header says ``header``."""
    raw = header.encode() + b"\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw + body)
    return out.getvalue()


def packed_zeros() -> bytes:
    """Nine arrays of 8 MB in 75 KB."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(9):
            with archive.open(f"fc/{index}.npy", "w") as file:
                np.lib.format.write_array(file, np.zeros(1 << 21, "f4"))
    return out.getvalue()


def shared_member(count: int) -> bytes:
    """A directory with many entries for one member."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("fc/0.npy", "w") as file:
            np.lib.format.write_array(file, np.zeros(5000, "f4"))
        for index in range(1, count):
            entry = copy.copy(archive.infolist()[0])
            entry.filename = f"fc/{index}.npy"
            archive.filelist.append(entry)
    return out.getvalue()


def same_names() -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")
        for _ in range(2):
            archive.writestr("fc/0.npy", b"x")
    return out.getvalue()


def long_directory() -> bytes:
    """Nine megabytes of directory, behind one empty member."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("fc/0.npy", b"")
        for index in range(150):
            entry = copy.copy(archive.infolist()[0])
            entry.filename = f"fc/{index + 1}.npy"
            entry.extra = struct.pack("<HH", 0x7777, 61_000) + bytes(61_000)
            archive.filelist.append(entry)
    return out.getvalue()


def header(descr: str, extents: str) -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({extents})}}"


def hdf5(folder: Path, build: str) -> bytes:
    path = folder / "build.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("data/fc")
        if build == "external link":
            group["0"] = h5py.ExternalLink("/etc/passwd", "values")
        elif build == "soft link":
            group["0"] = h5py.SoftLink("/data/fc/0")
        elif build == "external values":
            group.create_dataset("0", (3,), "f4", external=[("/etc/passwd", 0, 12)])
        elif build == "cycle":
            group["0"] = file["data"]
        elif build == "empty claim":
            group.create_dataset("0", (1 << 20, 1 << 20), "f4", chunks=(64, 64))
        elif build == "strings":
            group["0"] = "words"
        elif build == "objects":
            group.create_dataset("0", (2,), h5py.vlen_dtype(np.float32))
        elif build == "null":
            group["0"] = h5py.Empty("f4")
        elif build == "fletcher32":
            # The library reads in front of the chunk, which is shorter than the checksum.
            group.create_dataset("0", data=np.ones(6, "i1"), chunks=(2,), fletcher32=True)
        elif build == "lzf":
            group.create_dataset("0", data=np.ones(6, "f4"), chunks=(6,), compression="lzf")
        elif build == "virtual":
            layout = h5py.VirtualLayout((3,), "f4")
            layout[:] = h5py.VirtualSource("/etc/passwd", "values", (3,))
            group.create_virtual_dataset("0", layout)
        elif build == "named type":
            group["0"] = np.dtype("f4")
        elif build == "references":
            group.create_dataset("0", data=[group.ref], dtype=h5py.ref_dtype)
        elif build == "pairs":
            group.create_dataset("0", (2,), [("a", "f4"), ("b", "f4")])
        elif build == "odd floats":
            kind = h5py.h5t.IEEE_F32LE.copy()
            kind.set_fields(31, 20, 11, 0, 20)
            space = h5py.h5s.create_simple((3,))
            h5py.h5d.create(group.id, b"0", kind, space)
        elif build == "huge chunks":
            group.create_dataset("0", (3,), "f4", chunks=(1 << 28,), maxshape=(None,))
        elif build == "one data set many times":
            values = group.create_dataset("0", data=np.ones(1 << 18, "f4"))
            for index in range(100):
                file[f"data/fc{index}/0"] = values
        elif build == "packed zeros":
            for index in range(10):
                file.create_dataset(
                    f"data/fc{index}/0", (1 << 21,), "f4", chunks=(1 << 21,), compression=9
                )[:] = 0
    return path.read_bytes()


def binary_attacks() -> list[Attack]:
    """On the wire format of caffemodels, solver states and means."""
    model = "x.caffemodel"
    storm = b"".join(b"\x2d" + FLOATS[:4] + b"\x50\x01" for _ in range(3))
    return [
        Attack("cut in a blob", model, GOOD[:-5], "cut off: it ends at byte 50 of at least 55"),
        Attack(
            "one bit of a length",
            model,
            GOOD[:2] + b"\x7f" + GOOD[3:],
            "at byte 55 of at least 130",
        ),
        Attack(
            "length of terabytes", model, b"\xa2\x06" + b"\xff" * 5 + b"\x7f", "field 100 claims"
        ),
        Attack("endless number", model, b"\xa2\x06" + b"\xff" * 30, "longer than 10 bytes"),
        Attack("terabytes by shape", model, layer(shape(1 << 31, 1 << 31)), "needs 46116860184273"),
        Attack("more than 64 bits", model, layer(shape(1 << 40, 1 << 40)), "needs 1208925819614"),
        Attack("negative extent", model, layer(shape((1 << 64) - 2, 3)), "negative extent"),
        Attack("thousand axes", model, layer(shape(*[1] * 1000)), "more than 32 axes"),
        Attack("half a float", model, layer(message(5, FLOATS[:3])), "3 bytes are not a multiple"),
        Attack("open groups", model, GOOD + b"\x3b" * 90, "group 7 is never closed"),
        Attack("deep groups", model, GOOD + b"\x3b" * 100_000, "nested deeper than 100"),
        Attack("crossed groups", model, GOOD + b"\x3b\x43\x3c\x44", "ends inside another group"),
        Attack(
            "axes without end", model, layer(message(7, b"\x08\1" * 99_999)), "more than 32 axes"
        ),
        Attack("wire type 7", model, GOOD + b"\x0f\x01", "wire type 7, which does not exist"),
        Attack("field number 0", model, GOOD + b"\x02\x00", "0 is not a field number"),
        Attack(
            "storm of layers",
            model,
            b"\xa2\x06\x00" * 5_001,
            "more than 5,000 layers",
            "caffecompat.weights.formats.caffemodel.MAX_LAYERS",
        ),
        Attack("storm of blobs", model, layer(*[b""] * 1500), "more than 1000 blobs"),
        Attack("loose values", model, layer(shape(2) + storm), "holds 3 values, but its shape 2"),
        Attack("two generations", model, GOOD + message(2, text(4, "a")), "both 'layer' and old"),
        Attack("raw type unknown", model, layer(number(10, 9) + message(12, b"ab")), "of type 9"),
        Attack(
            "raw halves cut",
            model,
            layer(shape(1) + number(10, 2) + message(12, b"abc")),
            "3 bytes are not a multiple of the size of <f2",
        ),
        Attack("state without number", "x.solverstate", message(2, b"net"), "byte 2: field 13"),
        Attack(
            "state of terabytes",
            "x.solverstate",
            number(1, 5) + message(2, b"net") + message(3, shape(1 << 40)),
            "history array 0",
        ),
        Attack(
            "storm of arrays",
            "x.solverstate",
            number(1, 5) + message(2, b"net") + message(3, shape(0)) * 5_001,
            "more than 5,000 arrays",
            "caffecompat.weights.solverstate.MAX_ARRAYS",
        ),
        Attack("mean of terabytes", "m.binaryproto", shape(3, 1 << 40, 9), "needs 29686813949952"),
        Attack("mean of no image", "m.binaryproto", shape(6) + message(5, FLOATS), "the mean is 6"),
    ]


def wrong_kinds(folder: Path) -> list[Attack]:
    """Files in the place of others."""
    state = folder / "other.solverstate"
    write_state(SolverState(3, "net", [np.ones(2, np.float32)]), state)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 553432081\n"
    web = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("vgg.caffemodel", GOOD)
    return [
        Attack("LFS pointer", "x.caffemodel", pointer, "Git LFS pointer, not the file itself"),
        Attack("web page", "x.caffemodel", web, "a web page, not the file itself"),
        Attack("web page as net", "x.prototxt", web, "a web page, not the file itself"),
        Attack("gzip", "x.caffemodel", gzip.compress(GOOD), "a gzip archive; unpack it first"),
        Attack("zip", "x.caffemodel", zipped.getvalue(), "a zip archive with vgg.caffemodel in it"),
        Attack("empty", "x.caffemodel", b"", "the file is empty"),
        Attack("zeros", "x.caffemodel", bytes(4096), "0 is not a field number"),
        Attack("zeros at the end", "x.caffemodel", GOOD + bytes(512), "0 is not a field number"),
        Attack("MATLAB", "x.mat", b"MATLAB 5.0 MAT-file, Platform: GLNX86" + bytes(99), "MATLAB"),
        Attack(
            "state as HDF5", "x.solverstate.h5", state.read_bytes(), "its name (.h5) is that of"
        ),
        Attack("one array", "x.npz", b"\x93NUMPY\x01\x00v\x00{", "a single NumPy array"),
    ]


def archive_attacks(folder: Path) -> list[Attack]:
    """On .npz and HDF5."""
    save_weights(Weights([LayerWeights("fc", "", [np.ones(9, np.float32)])]), folder / "good.npz")
    good = (folder / "good.npz").read_bytes()
    return [
        Attack(
            "objects in npz", "x.npz", npz(header("|O", "1,"), b"cos\nsystem\n"), "expected num"
        ),
        Attack("npz of terabytes", "x.npz", npz(header("<f4", f"{1 << 40},")), "claims"),
        Attack("npz of negative extent", "x.npz", npz(header("<f4", "-4,")), "claims"),
        Attack("npz beyond 64 bits", "x.npz", npz(header("<f4", f"{1 << 70},")), "claims"),
        Attack(
            "code in npz header", "x.npz", npz("__import__('os').abort()"), "damaged or cut off"
        ),
        Attack("npz bomb", "x.npz", npz(header("<f4", "99999999,"), bytes(1 << 20)), "claims"),
        Attack("npz of packed zeros", "x.npz", packed_zeros, "its unpacked content would take"),
        Attack("npz of one member", "x.npz", shared_member(1000), "shares bytes of the file"),
        Attack("npz of a long directory", "x.npz", long_directory(), "damaged zip archive"),
        Attack("npz of one name", "x.npz", same_names(), "several entries of this archive"),
        Attack("npz cut", "x.npz", good[:-30], "damaged zip archive"),
        Attack("npz out of its folder", "x.npz", npz("{", name="../../x.npy"), "layer/index"),
        *(
            Attack(f"HDF5 {build}", "x.caffemodel.h5", partial(hdf5, folder, build), sentence)
            for build, sentence in (
                ("external link", "is a soft or external link"),
                ("soft link", "is a soft or external link"),
                ("external values", "keeps its values in another file"),
                ("cycle", "/data/fc/0"),
                ("empty claim", "claims 4398046511104 bytes"),
                ("strings", "holds strings, expected numbers"),
                ("objects", "holds object, expected numbers"),
                ("null", "/data/fc/0"),
                ("fletcher32", "packed with the filter number 3; only gzip and shuffle"),
                ("lzf", "packed with the filter number 32000"),
                ("virtual", "keeps its values in another file"),
                ("named type", "/data/fc/0 is missing or no data set"),
                ("references", "holds object, expected numbers"),
                ("pairs", "expected numbers"),
                ("odd floats", "/data/fc/0"),
                ("huge chunks", "stored in chunks of 1,073,741,824 bytes, more than the limit"),
                ("one data set many times", "would take"),
                ("packed zeros", "would take"),
            )
        ),
        Attack("HDF5 cut", "x.caffemodel.h5", hdf5(folder, "strings")[:700], "damaged or cut off"),
    ]


def text_attacks() -> list[Attack]:
    """On prototxt."""
    net = "x.prototxt"
    return [
        Attack("deep braces", net, b"layer { " * 100_000, "x.prototxt:"),
        Attack("deep sub-messages", net, b"layer { concat_param { " * 5_000, "x.prototxt:"),
        Attack("open string", net, b'name: "net\nlayer { }', "x.prototxt:1:"),
        Attack("UTF-16", net, 'name: "net"'.encode("utf-16"), "UTF-16"),
        Attack(
            "extent out of range",
            net,
            b'layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1e30 } } }',
            "x.prototxt:1:",
        ),
        Attack(
            "input of terabytes",
            net,
            b'layer { name: "a" type: "Input" top: "a" input_param { shape { dim: -3 } } }',
            "x.prototxt:1",
        ),
        Attack("backslashes", net, b'name: "' + b"\\" * 9999, "x.prototxt:1:"),
    ]


def attacks(folder: Path) -> list[Attack]:
    return [
        *binary_attacks(),
        *wrong_kinds(folder),
        *archive_attacks(folder),
        *text_attacks(),
    ]
