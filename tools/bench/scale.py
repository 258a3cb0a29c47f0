#!/usr/bin/env python3
"""Whether cost grows with the size of the work and no faster.

Each row is one kind of size: depth of a net, its batch, its width, records of a database, size of a
weight file. Three sizes are worked on, each in a process of its own. What one more unit costs
between the two larger sizes, beside what it costs between the two smaller ones, is 1 where the cost
grows linearly; the target is 1.2. Where the work does not depend on the size (a record of a large
database, the list of a large weight file), the largest size is compared with the middle one as it
is. Time is that of the processor, least of many repetitions in each of the turns, in processes that
keep the memory that they free. Memory is the peak of resident memory (Linux) above what a further
process had before, in which each large block has pages of its own.

The control does work of the same sizes without this package: the same net in plain torch, the same
records by LMDB's own library, the same number of reads of a file. What its growth exceeds 1 by is
the machine's (caches, fresh memory), so where there is one, the target is for our growth divided by
the control's. The databases have true pages of keys and holes for values, the weight files are
sparse.

Example:
    python tools/bench/scale.py
    python tools/bench/scale.py --turns 5 layers images
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


ROOT = Path(__file__).resolve().parents[2]
TARGET = 1.2
# Seconds and kilobytes that say nothing: the clock and the pages of the interpreter itself.
_LEAST_SECONDS, _LEAST_KILOBYTES = 0.002, 2048.0
# glibc keeps all freed memory with these; without, fresh pages can cost more than the work.
_KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 36)}
# Each block of more than this many bytes has its own pages, which are freed with it. In a heap that
# is kept, the peak also depends on which of the freed blocks a new one fits into: the memory of an
# image went up and down by 40 % from one batch size to the next, and of a deep net a fifth was what
# Python's compiler had used.
_MAPPED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 13), "MALLOC_MMAP_MAX_": str(1 << 20)}
# Of a weight file.
_LAYERS = 50

# Seconds that a piece of work, and its control, are repeated for; each is done three times or more.
_REPEATED = 1.5

# A process that does one thing and prints its processor time and by how much its memory grew.
MEASURED = """
import json, re, sys, time
sys.path.insert(0, {root!r})
def kilobytes(field):
    return int(re.search(field + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
def repeated(work):
    least, begun, turns = float("inf"), time.process_time(), 0
    while turns < 3 or time.process_time() - begun < {repeated}:
        turns += 1
        start = time.process_time()
        work()
        least = min(least, time.process_time() - start)
    return least
{prepare}
open("/proc/self/clear_refs", "w").write("5")
before = kilobytes("VmRSS")
{work}
memory = kilobytes("VmHWM") - before
def work():
    {work}
def control():
    {control}
print(json.dumps([repeated(work), memory, repeated(control)]))
"""

PREPARE_NET = """
import torch
from caffecompat import Net
from caffecompat.proto.text.parser import parse_text
torch.set_num_threads(1)
def training(count):
    net = Net(parse_text(text(count), "NetParameter")[0], phase="train")
    net.run(0).loss.backward()
    return net
# Imports everything that the work needs.
text = lambda count: open({folder!r} + f"/{{count}}.prototxt").read()
training({smallest})
def plain(depth, outputs, batch):
    net = [torch.nn.Conv2d(16, 16, 1) for _ in range(depth // 2)]
    last = torch.nn.Linear(16 * 12 * 12, outputs)
    value = torch.zeros(batch, 16, 12, 12)
    for layer in net:
        value = layer(value).relu_()
    last(value.flatten(1)).sum().backward()
"""
PREPARE_RECORDS = """
import lmdb
from caffecompat.data.backends.database import open_database
database = open_database({path!r})
places = [len(database) // 1000 * i for i in range(1000)]
keys = [database.read(place)[0] for place in places]
theirs = lmdb.open({path!r}, readonly=True, lock=False, map_size=1 << 42)
cursor = theirs.begin().cursor()
def read_ours():
    for turn in range(10):
        for place in places:
            database.read(place)
def read_theirs():
    for turn in range(10):
        for key in keys:
            cursor.set_key(key), cursor.value()
"""
PREPARE_INDEX = """
import os
from caffecompat.data.backends.database import open_database
def distant(path):
    with open_database(path) as database:
        database.read(len(database) // 1000 * 999)
def headers(path, records):
    with open(path + "/data.mdb", "rb") as file:
        for page in range(2, 2 + -(-records // {per_leaf})):
            os.pread(file.fileno(), 16, 4096 * page)
"""
PREPARE_FILES = """
import os
from caffecompat.weights.description import describe_file
def heads(path):
    with open(path, "rb") as file:
        step = os.path.getsize(path) // 50
        for place in range(50):
            os.pread(file.fileno(), 64, place * step)
"""


@dataclass(frozen=True)
class Subject:
    """One kind of size: three sizes, what makes the files, the parts of the process."""

    sizes: tuple[int, int, int]
    make: Callable[[Path, int], None]
    prepare: str
    work: str
    control: str
    linear: bool = True
    compared: bool = True


def write_net(folder: Path, size: int, depth: int = 8, outputs: int = 16, batch: int = 2) -> None:
    data = f"dummy_data_param {{ shape {{ dim: [{batch}, 16, 12, 12] }} }}"
    layers = [f'layer {{ name: "data" type: "DummyData" top: "x0" {data} }}']
    for i in range(depth // 2):
        layers.append(
            f'layer {{ name: "conv{i}" type: "Convolution" bottom: "x{i}" top: "x{i + 1}" '
            f"convolution_param {{ num_output: 16 kernel_size: 1 "
            f'weight_filler {{ type: "xavier" }} }} }} '
            f'layer {{ name: "relu{i}" type: "ReLU" bottom: "x{i + 1}" top: "x{i + 1}" }}'
        )
    layers.append(
        f'layer {{ name: "fc" type: "InnerProduct" bottom: "x{depth // 2}" top: "fc" '
        f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }} }} '
        'layer { name: "loss" type: "Reduction" bottom: "fc" top: "loss" loss_weight: 1 }'
    )
    (folder / f"{size}.prototxt").write_text("\n".join(layers))


# Of the database: bytes of a page and of a value, which takes four pages; entries of a page.
_PAGE, _VALUE, _PAGES_EACH = 4096, 12288, 4
_PER_LEAF, _PER_BRANCH = 156, 200


def write_database(folder: Path, size: int) -> None:
    """An LMDB of ``size`` records of 12 kB, of which 1000 are more than holes in the file."""
    path = folder / str(size)
    path.mkdir()
    leaves = -(-size // _PER_LEAF)
    levels = [leaves]
    while levels[-1] > 1:
        levels.append(-(-levels[-1] // _PER_BRANCH))
    values = 2 + sum(levels)
    with open(path / "data.mdb", "wb") as file:
        file.seek(2 * _PAGE)
        _write_leaves(file, size, leaves, values)
        first = 2
        for level in range(1, len(levels)):
            _write_branches(file, level, first, levels[level - 1])
            first += levels[level - 1]
        for record in range(0, size // 1000 * 1000, size // 1000):
            page = values + record * _PAGES_EACH
            file.seek(page * _PAGE)
            file.write(struct.pack("<QHHI", page, 0, 4, _PAGES_EACH))
        last = values + size * _PAGES_EACH - 1
        file.truncate((last + 1) * _PAGE)
        for number in (0, 1):
            file.seek(number * _PAGE)
            header = struct.pack("<QHHHHIIQQ", number, 0, 8, 0, 0, 0xBEEFC0DE, 1, 0, 1 << 42)
            free = struct.pack("<IHHQQQQQ", _PAGE, 8, 0, 0, 0, 0, 0, 2**64 - 1)
            tree = (len(levels), sum(levels[1:]), leaves, size * _PAGES_EACH, size, values - 1)
            file.write(header + free + struct.pack("<IHHQQQQQ", 0, 0, *tree))
            file.write(struct.pack("<QQ", last, number))


def _write_leaves(file: BinaryIO, size: int, leaves: int, values: int) -> None:
    import numpy as np

    node = np.dtype(
        [("size", "<u4"), ("flags", "<u2"), ("key_size", "<u2"), ("key", "S8"), ("page", "<u8")]
    )
    for begin in range(0, leaves, 2048):
        numbers = np.arange(begin, min(begin + 2048, leaves))
        records = numbers[:, None] * _PER_LEAF + np.arange(_PER_LEAF)
        nodes = np.empty(records.shape, node)
        nodes["size"], nodes["flags"], nodes["key_size"] = _VALUE, 1, 8
        nodes["key"] = np.char.zfill(records.astype("S8"), 8)
        nodes["page"] = values + records * _PAGES_EACH
        for number, page_nodes in zip(numbers, nodes, strict=True):
            count = min(_PER_LEAF, size - int(number) * _PER_LEAF)
            file.write(_tree_page(2 + int(number), 2, page_nodes[:count].tobytes(), count))


def _write_branches(file: BinaryIO, level: int, first: int, below: int) -> None:
    """The branch pages above ``below`` pages that begin at page ``first``."""
    records = _PER_LEAF * _PER_BRANCH ** (level - 1)
    for begin in range(0, below, _PER_BRANCH):
        count = min(_PER_BRANCH, below - begin)
        nodes = b"".join(
            struct.pack("<IHH8s", first + begin + i, 0, 8, b"%08d" % ((begin + i) * records))
            for i in range(count)
        )
        file.write(_tree_page(first + below + begin // _PER_BRANCH, 1, nodes, count))


def _tree_page(number: int, flags: int, nodes: bytes, count: int) -> bytes:
    """A page of ``count`` nodes of equal length at its end."""
    upper = _PAGE - len(nodes)
    each = len(nodes) // count
    offsets = struct.pack(f"<{count}H", *range(upper, _PAGE, each))
    head = struct.pack("<QHHHH", number, 0, flags, 16 + len(offsets), upper)
    return (head + offsets).ljust(upper, b"\0") + nodes


def write_sparse_model(folder: Path, size: int) -> None:
    """A caffemodel of ``size`` MB in 50 layers, whose weights are holes in the file."""
    from caffecompat.weights.encodings.wire import delimited, text_field, varint

    values = size * 10**6 // (4 * _LAYERS)
    shape = b"".join(delimited(7, delimited(1, [varint(values)])))
    data = varint(5 << 3 | 2) + varint(4 * values)
    name_and_type = [*text_field(1, "fc"), *text_field(2, "InnerProduct")]
    blob = len(shape) + len(data) + 4 * values
    head = b"".join(name_and_type) + varint(7 << 3 | 2) + varint(blob) + shape + data
    layer = varint(100 << 3 | 2) + varint(len(head) + 4 * values) + head
    with open(folder / f"{size}.caffemodel", "wb") as file:
        for _ in range(_LAYERS):
            file.write(layer)
            file.seek(4 * values, os.SEEK_CUR)
        file.truncate(file.tell())


def net_subject(sizes: tuple[int, int, int], what: str) -> Subject:
    """A net that is built, filled, and run forward and backward once."""

    def make(folder: Path, size: int) -> None:
        write_net(folder, size, **{what: size})

    sizes_of_net = {"depth": 8, "outputs": 16, "batch": 2, what: "{size}"}
    control = ", ".join(f"{name}={value}" for name, value in sizes_of_net.items())
    return Subject(sizes, make, PREPARE_NET, "training({size})", f"plain({control})")


SUBJECTS = {
    "layers of a net": net_subject((100, 1000, 2000), "depth"),
    "images of a batch": net_subject((16, 512, 1024), "batch"),
    "outputs of a layer": net_subject((256, 2048, 4096), "outputs"),
    "records of a database, 10,000 reads far apart": Subject(
        (1_000, 1_000_000, 10_000_000),
        write_database,
        PREPARE_RECORDS,
        "read_ours()",
        "read_theirs()",
        linear=False,
    ),
    "records of a database, first distant read": Subject(
        (1_000_000, 5_000_000, 10_000_000),
        write_database,
        PREPARE_INDEX,
        "distant({path!r})",
        "headers({path!r}, {size})",
        compared=False,
    ),
    "megabytes of a weight file that is inspected": Subject(
        (500, 4000, 8000),
        write_sparse_model,
        PREPARE_FILES,
        "describe_file({path!r})",
        "heads({path!r})",
        linear=False,
        compared=False,
    ),
}


def measured(subject: Subject, folder: Path, size: int) -> tuple[float, float, float]:
    """Processor seconds and kilobytes of the work on one size, and seconds of its control."""
    (path,) = (path for path in folder.iterdir() if path.stem == str(size))
    names = {
        "folder": str(folder),
        "size": size,
        "path": str(path),
        "smallest": subject.sizes[0],
        "per_leaf": _PER_LEAF,
    }
    parts = {
        "root": str(ROOT),
        "prepare": subject.prepare.format(**names),
        "work": subject.work.format(**names),
        "control": subject.control.format(**names),
    }
    timed = _run(MEASURED.format(repeated=_REPEATED, **parts), _KEEPING, size)
    weighed = _run(MEASURED.format(repeated=0, **parts), _MAPPED, size)
    return timed[0], weighed[1], timed[2]


def _run(text: str, memory: dict[str, str], size: int) -> list[float]:
    command = [sys.executable, "-c", text]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **memory}, check=False
    )
    if done.returncode:
        sys.exit(f"scale: size {size} failed")
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def growth(subject: Subject, found: list[float], least: float) -> float:
    """The cost of one more unit at the large end, beside that at the small end."""
    small, middle, large = subject.sizes
    costs = [max(cost, least) for cost in found]
    if not subject.linear or costs[0] == costs[1]:
        return costs[2] / costs[1]
    return ((costs[2] - costs[1]) / (large - middle)) / ((costs[1] - costs[0]) / (middle - small))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", help="where the files are made (default: a temporary folder)")
    parser.add_argument("words", nargs="*", help="only subjects that contain one of these words")
    arguments = parser.parse_args()
    print(
        "| what grows | sizes | time, s | growth | of the control | ratio | memory, MB | growth |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    good = True
    for name, subject in SUBJECTS.items():
        if not arguments.words or any(word in name for word in arguments.words):
            good = report(name, subject, arguments.turns, arguments.folder) and good
    return 0 if good else 1


def report(name: str, subject: Subject, turns: int, folder: str | None) -> bool:
    """Prints a row; whether it is within the target."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        for size in subject.sizes:
            subject.make(Path(made), size)
        found = [
            [measured(subject, Path(made), size) for size in subject.sizes] for _ in range(turns)
        ]
    seconds, kilobytes, control = (
        [min(turn[i][which] for turn in found) for i in range(3)] for which in range(3)
    )
    time_growth = growth(subject, seconds, _LEAST_SECONDS)
    memory_growth = growth(subject, kilobytes, _LEAST_KILOBYTES)
    control_growth = growth(subject, control, 0.0) if subject.compared else 1.0
    ratio = time_growth / control_growth
    cells = [
        name,
        ", ".join(f"{size:,}" for size in subject.sizes),
        ", ".join(f"{value:.3f}" for value in seconds),
        f"{time_growth:.2f} ×",
        f"{control_growth:.2f} ×" if subject.compared else "",
        f"{ratio:.2f}",
        ", ".join(f"{value / 1024:.0f}" for value in kilobytes),
        f"{memory_growth:.2f} ×",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)
    return max(ratio, memory_growth) <= TARGET


if __name__ == "__main__":
    sys.exit(main())
