#!/usr/bin/env python3
"""How many crops per second the reader gives, beside bare decoding and torch's DataLoader.

Makes a small LMDB of JPEGs in a temporary folder and measures everything in one run, in turns, so
that the ratios mean something on any machine. "Per core" counts CPU time, of all threads.

    bare          cv2.imdecode and a copy of the 224x224 window, one thread
    BatchReader   the same windows by chance, mirrored, mean subtracted, float32, in batches
    as bytes      the same, its arithmetic left to the net, as nets on a GPU read
    DataLoader    torch's, with worker processes, PIL (OpenCV if there is no PIL) and numpy

With --paper the images are larger, and all of them are rescaled to a smallest side drawn from
256 ... 512 before the window is cut; the reader also shifts their colours (VGG paper, Sect. 3.1).

Example:
    python tools/bench/data.py
    python tools/bench/data.py --paper
    python tools/bench/data.py --workers 1 2 4 8 16 --memory 1000000
"""

from __future__ import annotations

import argparse
import functools
import io
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from caffecompat.data.backends.database import create_database, open_database
from caffecompat.data.codec.datum import parse_datum
from caffecompat.data.loader.crop_form import CropForm
from caffecompat.data.loader.prefetch import BatchReader
from caffecompat.data.read_options import ReadOptions
from caffecompat.data.transforms.transform import Transform
from caffecompat.proto import schema

HEIGHT, WIDTH, CROP = 256, 341, 224
# Of the paper's training input: what it is stored as, and the range of the smallest side.
PAPER_SIZE = (512, 683)
SIDES = (256, 512)
# Memory is measured with small images, as a million large ones would take very long.
SMALL = (40, 53, 32)
QUALITY = 95  # what convert-imageset --min-side writes
MEAN = (103.939, 116.779, 123.68)


def picture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth and fine structure mixed so that its JPEG is about as long as a photograph's."""
    image = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64, 128):
        noise = random.random((cells, cells, 3), np.float32) - 0.5
        spread = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        image += spread * (300 / cells**0.5)
    return np.clip(image + 128, 0, 255).astype(np.uint8)


def make_database(path: Path, count: int, height: int = HEIGHT, width: int = WIDTH) -> None:
    random = np.random.default_rng(1)
    with create_database(path) as writer:
        for number in range(count):
            datum = schema.new("Datum")
            pixels = picture(random, height, width)
            jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
            datum.data, datum.label, datum.encoded = jpeg.tobytes(), number % 10, True
            writer.write([(b"%08d" % number, datum.SerializeToString())])


def make_reader(
    path: Path,
    batch: int,
    workers: int,
    crop: int = CROP,
    paper: bool = False,
    as_bytes: bool = False,
) -> BatchReader:
    message = schema.new("TransformationParameter")
    message.crop_size, message.mirror = crop, True
    if paper:
        message.img_rand_resize_lower, message.img_rand_resize_upper = SIDES
        message.colour_shift_std = 0.1
        message.colour_eigenvalue.extend((55.46, 4.794, 1.148))
        message.colour_eigenvector.extend(np.eye(3).ravel().tolist())
    message.mean_value.extend(MEAN)
    transform = Transform(message, "TRAIN")
    reader = BatchReader(open_database(path), transform, batch, ReadOptions(1, workers))
    reader.defer_arithmetic(as_bytes, CropForm(channels_last=as_bytes))
    return reader


class Speed:
    """The best rates of some repetitions: crops per second by the clock and by CPU time."""

    def __init__(self) -> None:
        self.wall = 0.0
        self.core = 0.0

    def measure(self, action: Callable[[], int]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        crops = action()
        self.wall = max(self.wall, crops / (time.perf_counter() - wall))
        self.core = max(self.core, crops / (time.process_time() - cpu))


def bare(jpegs: Sequence[bytes], crops: int, paper: bool = False) -> int:
    """Decode, rescale (``paper``) and cut, nothing else; the bytes are in memory already."""
    for number in range(crops):
        pixels: Any = cv2.imdecode(
            np.frombuffer(jpegs[number % len(jpegs)], np.uint8), cv2.IMREAD_COLOR
        )
        if paper:
            pixels = rescale(pixels, SIDES[0] + 97 * number % (SIDES[1] - SIDES[0] + 1))
        height, width = pixels.shape[:2]
        top, left = number % (height - CROP + 1), number % (width - CROP + 1)
        pixels[top : top + CROP, left : left + CROP].copy()
    return crops


def rescale(pixels: Any, side: int) -> Any:
    height, width = pixels.shape[:2]
    factor = side / min(height, width)
    return cv2.resize(pixels, (round(width * factor), round(height * factor)))


def rest() -> None:
    """Waits until readers have made all batches ahead; else another measurement counts them."""
    used = -1.0
    while time.process_time() - used > 0.002:
        used = time.process_time()
        time.sleep(0.02)


class Reading:
    """A reader that goes on from one measurement to the next, warm."""

    def __init__(self, reader: BatchReader, batch: int) -> None:
        self._reader = reader
        self._batch = batch
        self._next = 0
        self(8 * batch)

    def __call__(self, crops: int) -> int:
        count = crops // self._batch
        for _ in range(count):
            self._reader.batch(self._next)
            self._next += 1
        return count * self._batch

    def close(self) -> None:
        self._reader.close()


class Records:
    """The same database as a torch data set with the transform that people write."""

    def __init__(self, path: str, length: int, paper: bool) -> None:
        self._path = path
        self._length = length
        self._paper = paper
        self._database: Any = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import torch

        if self._database is None:
            self._database = open_database(self._path)
        datum = parse_datum(self._database.read(index % len(self._database))[1])
        pixels = decode_plainly(datum.data)
        if self._paper:
            pixels = rescale(pixels, np.random.randint(SIDES[0], SIDES[1] + 1))
        height, width = pixels.shape[:2]
        top, left = np.random.randint(height - CROP + 1), np.random.randint(width - CROP + 1)
        pixels = pixels[top : top + CROP, left : left + CROP]
        if np.random.random() < 0.5:
            pixels = pixels[:, ::-1]
        values = pixels.astype(np.float32) - np.array(MEAN[::-1], np.float32)
        if self._paper:
            values += np.random.normal(0, (5.546, 0.4794, 0.1148)).astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))), datum.label


def decode_plainly(data: bytes) -> Any:
    """RGB pixels by PIL, or by OpenCV where there is no PIL."""
    try:
        from PIL import Image
    except ImportError:
        pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return pixels[:, :, ::-1]
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def measure_dataloader(path: Path, batch: int, workers: int, crops: int, paper: bool) -> float:
    """Crops per second by the clock, start of the worker processes not counted."""
    from torch.utils.data import DataLoader

    warm = 4 * workers
    data: Any = Records(str(path), (crops // batch + warm) * batch, paper)
    loader = DataLoader(data, batch, num_workers=workers, drop_last=True)
    start, count = 0.0, 0
    for number, _ in enumerate(loader):
        if number == warm - 1:
            start = time.perf_counter()
        elif number >= warm:
            count += batch
    return count / (time.perf_counter() - start)


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def measure_memory(path: Path, batch: int, workers: int, crops: int) -> None:
    height, width, crop = SMALL
    make_database(path, 256, height, width)
    reading = Reading(make_reader(path, batch, workers, crop), batch)
    before = resident()
    print(f"\nmemory over {crops:,} samples (after 8 batches: {before:.0f} MB)")
    for part in range(1, 6):
        reading(crops // 5)
        print(f"  {part * crops // 5:>9,} samples  {resident():8.0f} MB")
    reading.close()


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def cpu_left(seconds: float = 1.0) -> float | None:
    """How many cores other programs leave us just now, by Linux's idle time."""
    try:
        first = [int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        time.sleep(seconds)
        second = [int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    except OSError:
        return None
    spent = [b - a for a, b in zip(first, second, strict=True)]
    return (spent[3] + spent[4]) / max(sum(spent[:8]), 1) * (os.cpu_count() or 1)


def frame_size(arguments: argparse.Namespace) -> tuple[int, int]:
    return PAPER_SIZE if arguments.paper else (HEIGHT, WIDTH)


def compare(path: Path, arguments: argparse.Namespace) -> None:
    with open_database(path) as database:
        jpegs = [parse_datum(database.read(i)[1]).data for i in range(len(database))]
    height, width = frame_size(arguments)
    print(
        f"{len(jpegs)} JPEGs of {height}x{width}, {np.mean([*map(len, jpegs)]) / 1e3:.1f} kB each"
    )
    paper, batch = arguments.paper, arguments.batch
    baseline = Speed()
    readings = {
        (workers, as_bytes): Reading(
            make_reader(path, batch, workers, paper=paper, as_bytes=as_bytes), batch
        )
        for as_bytes in (False, True)
        for workers in arguments.workers
    }
    speeds = {kind: Speed() for kind in readings}
    for _ in range(arguments.repeat):
        rest()
        baseline.measure(lambda: bare(jpegs, arguments.crops, paper))
        for kind, reading in readings.items():
            rest()
            # What was read ahead before must not count: its time has been spent.
            reading(8 * batch)
            speeds[kind].measure(functools.partial(reading, arguments.crops))
    for reading in readings.values():
        reading.close()
    print(f"\n{'':28}{'crops/s':>9}{'per core':>10}{'of bare':>9}")
    what = "bare decode, scale, crop" if paper else "bare decode and crop"
    print(f"{what:28}{baseline.wall:9.0f}{baseline.core:10.0f}{1:9.2f}")
    for (workers, as_bytes), speed in speeds.items():
        what = f"{'as bytes' if as_bytes else 'BatchReader'}, {workers:2} workers"
        ratio = speed.core / baseline.core
        print(f"{what:28}{speed.wall:9.0f}{speed.core:10.0f}{ratio:9.2f}")
    compare_workers(path, arguments, {w: speeds[w, False].wall for w in arguments.workers})


def compare_workers(path: Path, arguments: argparse.Namespace, ours: dict[int, float]) -> None:
    first = min(ours)
    for workers, speed in ours.items():
        if workers != first:
            efficiency = speed / ours[first] / (workers / first)
            print(f"scaling from {first} to {workers} workers: {efficiency:.0%} of linear")
    if not arguments.no_dataloader:
        compare_dataloader(path, arguments, ours)


def compare_dataloader(path: Path, arguments: argparse.Namespace, ours: dict[int, float]) -> None:
    try:
        import PIL

        library = f"PIL {PIL.__version__}"
    except ImportError:
        library = "OpenCV"
    for workers, speed in ours.items():
        rates = [
            measure_dataloader(path, arguments.batch, workers, arguments.crops, arguments.paper)
            for _ in range(arguments.repeat)
        ]
        print(
            f"DataLoader, {workers:2} processes{'':4}{max(rates):9.0f}   ({library}); "
            f"BatchReader is {speed / max(rates):.2f} times as fast"
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=256, help="in the database (default 256)")
    parser.add_argument("--batch", type=int, default=64, help="batch size (default 64)")
    parser.add_argument("--crops", type=int, default=4096, help="per measurement (default 4096)")
    parser.add_argument("--repeat", type=int, default=5, help="measurements of each (default 5)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="(default 1 2)")
    parser.add_argument(
        "--memory", type=int, default=200_000, help="samples to watch it over; 0: do not"
    )
    parser.add_argument("--paper", action="store_true", help="the paper's training input")
    parser.add_argument("--no-dataloader", action="store_true", help="leave out torch")
    arguments = parser.parse_args()
    # Beside threads of its own, more threads inside OpenCV would only get in each other's way.
    cv2.setNumThreads(1)
    print(f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}")
    print(f"Python {platform.python_version()}, OpenCV {cv2.__version__}, numpy {np.__version__}")
    free = cpu_left()
    if free is not None:
        print(f"idle before the start: {free:.1f} cores")
        if free < max(arguments.workers) - 0.2:
            print("the machine is busy: only the figures per core mean something")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lmdb"
        make_database(path, arguments.records, *frame_size(arguments))
        compare(path, arguments)
        if arguments.memory:
            small = Path(folder) / "small"
            measure_memory(small, arguments.batch, max(arguments.workers), arguments.memory)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
