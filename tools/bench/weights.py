#!/usr/bin/env python3
"""How fast a caffemodel of VGG-16's size is read, inspected, copied and written.

Makes the file on the spot, in a temporary folder, and measures everything in one run, in turns,
beside plain file access, so that the ratios mean something on any machine. Times are the best of
the repetitions, with the file in the page cache; memory is the peak of resident memory in a
process of its own (Linux), above what it had before. Ends with one line per target and exit
status 1 if one is missed.

Example:
    python tools/bench/weights.py --repeat 5
    python tools/bench/weights.py --folder /dev/shm --no-protobuf
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from caffecompat.weights import LayerWeights, Weights, load_weights, save_weights

ROOT = Path(__file__).resolve().parents[2]
CONVOLUTIONS = [
    ("conv1", [64, 64]),
    ("conv2", [128, 128]),
    ("conv3", [256, 256, 256]),
    ("conv4", [512, 512, 512]),
    ("conv5", [512, 512, 512]),
]
FULLY_CONNECTED = [("fc6", 4096), ("fc7", 4096), ("fc8", 1000)]
LAST_MAP = 7 * 7

READ, READ_PLAIN = "load_weights, all arrays touched", "numpy.fromfile and sum"
WRITE, WRITE_PLAIN = "save_weights (synced, renamed)", "plain write, synced"
INSPECT = "caffecompat inspect"

# A process that does one thing and prints by how much its resident memory grew at the peak.
MEMORY = """
import re, sys
sys.path.insert(0, {root!r})
def kilobytes(field):
    return int(re.search(field + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
{prepare}
open("/proc/self/clear_refs", "w").write("5")
before = kilobytes("VmRSS")
{work}
print(kilobytes("VmHWM") - before)
"""
COPIED = (
    # A net without values, so that the libraries are there and only numbers are counted.
    "from caffecompat import Net; shapes = Net({net!r}, shapes_only=True)",
    "net = Net({net!r}, weights={model!r})",
)
INSPECTED = (
    "from caffecompat.weights.description import describe_file",
    "describe_file({model!r})",
)
VALUES = (INSPECTED[0], "describe_file({model!r}, values=True)")


@dataclass(frozen=True)
class Target:
    """One promise: what was measured, the number, and the most it may be."""

    what: str
    found: float
    most: float
    unit: str = "x"

    @property
    def met(self) -> bool:
        return self.found <= self.most


def vgg16(seed: int, divisor: int) -> Weights:
    """Random weights in VGG-16's shapes, all widths divided by ``divisor``."""
    random = np.random.default_rng(seed)
    layers = []

    def add(name: str, kind: str, shape: tuple[int, ...]) -> None:
        blobs = [random.random(shape, np.float32) - 0.5, random.random(shape[0], np.float32)]
        layers.append(LayerWeights(name, kind, blobs))

    inputs = 3
    for stage, widths in CONVOLUTIONS:
        for index, width in enumerate(widths, 1):
            add(f"{stage}_{index}", "Convolution", (width // divisor, inputs, 3, 3))
            inputs = width // divisor
    inputs *= LAST_MAP
    for name, width in FULLY_CONNECTED:
        add(name, "InnerProduct", (width // divisor, inputs))
        inputs = width // divisor
    return Weights(layers, "VGG_16")


def best(
    actions: dict[str, Callable[[], object]],
    repeat: int,
    before: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Seconds of the fastest of ``repeat`` runs of each action, run in turns.

    ``before`` runs before each, outside of the time.
    """
    seconds = dict.fromkeys(actions, float("inf"))
    for _ in range(repeat):
        for name, action in actions.items():
            before()
            start = time.perf_counter()
            action()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def read_plain(path: Path) -> float:
    return float(np.fromfile(path, np.float32).sum())


def read_weights(path: Path) -> float:
    layers = load_weights(path).layers
    return sum(float(blob.sum()) for layer in layers for blob in layer.blobs)


def read_protobuf(path: Path) -> float:
    from caffecompat.proto.schema import new

    net = new("NetParameter")
    net.ParseFromString(path.read_bytes())
    blobs = [np.array(b.data, np.float32) for layer in net.layer for b in layer.blobs]
    return sum(float(blob.sum()) for blob in blobs)


def opencv_reader(net: Path, model: Path) -> Callable[[], object] | None:
    """OpenCV's importer, where this OpenCV (4 or older) still has it."""
    try:
        import cv2
    except ImportError:
        return None
    reader = getattr(cv2.dnn, "readNetFromCaffe", None)
    return None if reader is None else lambda: reader(str(net), str(model))


def write_plain(arrays: list[np.ndarray], path: Path) -> None:
    with open(path, "xb") as file:
        for array in arrays:
            file.write(array.reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())


def inspect(path: Path) -> None:
    command = [sys.executable, "-m", "caffecompat", "inspect", str(path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def peak(work: tuple[str, str], net: Path, model: Path) -> float | None:
    """Bytes of resident memory at the peak of ``work``; None where the system does not tell."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    prepare, line = (part.format(net=str(net), model=str(model)) for part in work)
    script = MEMORY.format(root=str(ROOT), prepare=prepare, work=line)
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return 1024 * float(result.stdout.split()[-1])


def processor() -> str:
    """The CPU's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def report(title: str, seconds: dict[str, float], baseline: str, size: int) -> None:
    print(title)
    for name, value in seconds.items():
        speed = size / value / 1e6
        print(f"  {name:42} {value:9.4f} s  {speed:10.0f} MB/s  {value / seconds[baseline]:7.2f} x")


def measure_reading(folder: Path, net: Path, arguments: argparse.Namespace) -> list[Target]:
    model, plain = folder / "vgg16.caffemodel", folder / "plain.bin"
    size = model.stat().st_size
    readers: dict[str, Callable[[], object]] = {
        READ_PLAIN: lambda: read_plain(plain),
        READ: lambda: read_weights(model),
        "load_weights alone (list of layers)": lambda: load_weights(model),
        INSPECT: lambda: inspect(model),
    }
    seconds = best(readers, arguments.repeat)
    slow: dict[str, Callable[[], object]] = {}
    if arguments.protobuf:
        slow["generic protobuf, numpy arrays and sum"] = lambda: read_protobuf(model)
    importer = opencv_reader(net, model)
    if importer is not None:
        slow["cv2.dnn.readNetFromCaffe"] = importer
    seconds |= best(slow, 1)
    report("read", seconds, READ_PLAIN, size)
    if importer is None:
        print("  cv2.dnn.readNetFromCaffe                   not in this OpenCV")
    return [
        Target(
            "loading all arrays / numpy read and touch", seconds[READ] / seconds[READ_PLAIN], 1.2
        ),
        Target("caffecompat inspect, interpreter included", seconds[INSPECT], 0.5, "s"),
    ]


def measure_memory(folder: Path, net: Path) -> list[Target]:
    model = folder / "vgg16.caffemodel"
    size = model.stat().st_size
    print("memory at the peak, of the file's size")
    targets = []
    for what, work, most in (
        ("copied into a net", COPIED, 1.15),
        ("inspected", INSPECTED, 0.1),
        ("inspected with --values", VALUES, 0.1),
    ):
        found = peak(work, net, model)
        if found is None:
            print(f"  {what:42} not measured on this system")
            continue
        print(f"  {what:42} {found / 1e6:9.1f} MB {found / size:21.3f} x")
        targets.append(Target(f"peak memory, {what}", found / size, most))
    return targets


def measure_writing(folder: Path, weights: Weights, repeat: int) -> list[Target]:
    arrays = [blob for layer in weights.layers for blob in layer.blobs]
    targets = {"plain": folder / "new.bin", "model": folder / "new.caffemodel"}

    def clear() -> None:
        # Neither may gain from overwriting, and the disk must be done with what came before.
        for path in targets.values():
            path.unlink(missing_ok=True)
        os.sync()

    writers: dict[str, Callable[[], object]] = {
        WRITE_PLAIN: lambda: write_plain(arrays, targets["plain"]),
        WRITE: lambda: save_weights(weights, targets["model"]),
    }
    seconds = best(writers, repeat, clear)
    report("write", seconds, WRITE_PLAIN, sum(array.nbytes for array in arrays))
    clear()
    return [Target("writing / plain write", seconds[WRITE] / seconds[WRITE_PLAIN], 1.3)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--divisor", type=int, default=1, help="divide all widths (default 1)")
    parser.add_argument("--folder", help="where to make the files (default: a temporary folder)")
    parser.add_argument(
        "--no-protobuf", dest="protobuf", action="store_false", help="leave generic protobuf out"
    )
    arguments = parser.parse_args()

    weights = vgg16(seed=1, divisor=arguments.divisor)
    size = sum(blob.nbytes for layer in weights.layers for blob in layer.blobs)
    print(f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}")
    print(f"Python {platform.python_version()}, numpy {np.__version__}")
    print(f"{len(weights.layers)} layers, {size // 4:,} parameters, {size / 1e6:.1f} MB\n")

    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        folder, net = Path(place), ROOT / "prototxt" / "D_deploy.prototxt"
        write_plain([b for layer in weights.layers for b in layer.blobs], folder / "plain.bin")
        save_weights(weights, folder / "vgg16.caffemodel")
        targets = measure_reading(folder, net, arguments)
        if arguments.divisor == 1:
            targets += measure_memory(folder, net)
        targets += measure_writing(folder, weights, arguments.repeat)
    print("targets")
    for t in targets:
        word = "met" if t.met else "MISSED"
        print(f"  {t.what:42} {t.found:9.3f} {t.unit}  at most {t.most:g} {t.unit}: {word}")
    return 0 if all(target.met for target in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
