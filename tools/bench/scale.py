#!/usr/bin/env python3
"""Whether cost grows with the size of the work and no faster.

Each row is one kind of size: depth of a net, its batch, its width, records of a database, size of a
weight file. Three sizes are worked on, each in a process of its own. What one more unit costs
between the two larger sizes, beside what it costs between the two smaller ones, is 1 where the cost
grows linearly; the target is 1.2. Where the work does not depend on the size (a record of a large
database, the list of a large weight file), the largest size is compared with the middle one as it
is. Time is that of the processor, least of the turns; memory is the peak of resident memory (Linux)
above what the process had before. The database is made on the spot, the weight files are sparse.

Example:
    python tools/bench/scale.py
    python tools/bench/scale.py --turns 5 depth batch
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

TARGET = 1.2
# Seconds and kilobytes that say nothing: the clock and the pages of the interpreter itself.
_LEAST_SECONDS, _LEAST_KILOBYTES = 0.05, 2048.0
# Of a weight file.
_LAYERS = 50

# A process that does one thing and prints its processor time and by how much its memory grew.
MEASURED = """
import json, re, sys, time
sys.path.insert(0, {root!r})
def kilobytes(field):
    return int(re.search(field + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
{prepare}
open("/proc/self/clear_refs", "w").write("5")
before = kilobytes("VmRSS")
start = time.process_time()
{work}
print(json.dumps([time.process_time() - start, kilobytes("VmHWM") - before]))
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
"""
PREPARE_RECORDS = "from caffecompat.data.backends.database import open_database"
READ_RECORDS = """
with open_database({path!r}) as database:
    step = len(database) // 1000
    for turn in range(20):
        for index in range(0, step * 1000, step):
            database.read(index)
"""
PREPARE_FILES = "from caffecompat.weights.description import describe_file"


@dataclass(frozen=True)
class Subject:
    """One kind of size: three sizes, what makes the files, the two halves of the process."""

    sizes: tuple[int, int, int]
    make: Callable[[Path, int], None]
    prepare: str
    work: str
    linear: bool = True


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


def write_database(folder: Path, size: int) -> None:
    from caffecompat.data.backends.database import create_database

    with create_database(folder / str(size)) as writer:
        for first in range(0, size, 10_000):
            keys = range(first, min(first + 10_000, size))
            writer.write([(b"%08d" % key, b"record %d" % key) for key in keys])


def write_sparse_model(folder: Path, size: int) -> None:
    """A caffemodel of ``size`` MB in 50 layers, whose weights are holes in the file."""
    from caffecompat.weights.wire import delimited, text_field, varint

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

    return Subject(sizes, make, PREPARE_NET, "training({size})")


SUBJECTS = {
    "layers of a net": net_subject((100, 1000, 2000), "depth"),
    "images of a batch": net_subject((16, 512, 1024), "batch"),
    "outputs of a layer": net_subject((64, 2048, 4096), "outputs"),
    "records of a database that is read": Subject(
        (1_000, 100_000, 1_000_000), write_database, PREPARE_RECORDS, READ_RECORDS, False
    ),
    "megabytes of a weight file that is inspected": Subject(
        (500, 4000, 8000), write_sparse_model, PREPARE_FILES, "describe_file({path!r})", False
    ),
}


def measured(subject: Subject, folder: Path, size: int) -> tuple[float, float]:
    """Processor seconds and kilobytes of the work on one size."""
    (path,) = (path for path in folder.iterdir() if path.stem == str(size))
    names = {"folder": str(folder), "size": size, "path": str(path), "smallest": subject.sizes[0]}
    text = MEASURED.format(
        root=str(ROOT),
        prepare=subject.prepare.format(**names),
        work=subject.work.format(**names),
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    seconds, kilobytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, kilobytes


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
    missed = False
    print("| what grows | sizes | time, s | growth | memory, MB | growth |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, subject in SUBJECTS.items():
        if arguments.words and not any(word in name for word in arguments.words):
            continue
        with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
            for size in subject.sizes:
                subject.make(Path(made), size)
            turns = [
                [measured(subject, Path(made), size) for size in subject.sizes]
                for _ in range(arguments.turns)
            ]
        seconds, kilobytes = (
            [min(turn[i][which] for turn in turns) for i in range(3)] for which in (0, 1)
        )
        ratios = (
            growth(subject, seconds, _LEAST_SECONDS),
            growth(subject, kilobytes, _LEAST_KILOBYTES),
        )
        missed = missed or max(ratios) > TARGET
        cells = [
            name,
            ", ".join(f"{size:,}" for size in subject.sizes),
            ", ".join(f"{value:.2f}" for value in seconds),
            f"{ratios[0]:.2f} ×",
            ", ".join(f"{value / 1024:.0f}" for value in kilobytes),
            f"{ratios[1]:.2f} ×",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
