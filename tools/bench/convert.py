#!/usr/bin/env python3
"""How fast a caffemodel of VGG-16's size is converted, and in how much memory.

Makes the file on the spot, in a temporary folder, and measures everything in one run beside a
plain copy of the file (read, written, synced), in turns. Times are the best of the repetitions,
with the source in the page cache; reading back for the comparison is part of a conversion. Memory
is the peak of resident memory in a process of its own (Linux), above what it had with the
libraries loaded. Ends with one line per target and exit status 1 if one is missed.

Example:
    python tools/bench/convert.py
    python tools/bench/convert.py --divisor 8 --to safetensors,npz
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from caffecompat.export.convert.conversion import ConvertOptions, convert
from caffecompat.weights import save_weights
from tools.bench.weights import Target, best, peak, processor, vgg16

CHUNK = 4 << 20
COPY = "plain copy, synced"
NET = Path(__file__).resolve().parents[2] / "prototxt" / "D_deploy.prototxt"

PREPARE = (
    "from pathlib import Path; "
    "from caffecompat.export.convert.conversion import ConvertOptions, convert; "
    "from caffecompat.export.convert.forms import named_form; named_form({form!r}); "
    "options = ConvertOptions(force=True, to={form!r}, model={net!r})"
)
WORK = "convert(Path({model!r}), Path({target!r}), options, lambda line: None)"


@dataclass(frozen=True)
class Limit:
    """The most that a conversion may take: seconds or a ratio to the copy, and memory.

    Memory is a multiple of the file's size.
    """

    ratio: float | None = None
    seconds: float | None = None
    memory: float | None = None


LIMITS = {
    "safetensors": Limit(ratio=2.0, memory=1.3),
    "onnx": Limit(seconds=30.0, memory=3.0),
}


def copy_plain(source: Path, target: Path) -> None:
    with open(source, "rb") as reader, open(target, "wb") as writer:
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())


def measure(folder: Path, form: str, net: Path | None, repeat: int) -> list[Target]:
    """Times one form beside the copy, then its memory; prints both."""
    source, copy = folder / "vgg16.caffemodel", folder / "copy"
    target = folder / f"vgg16.{form}"
    size = source.stat().st_size
    options = ConvertOptions(to=form, model=None if net is None else str(net))

    def clear() -> None:
        for path in (copy, target):
            path.unlink(missing_ok=True)
        os.sync()

    actions: dict[str, Callable[[], object]] = {
        COPY: lambda: copy_plain(source, copy),
        form: lambda: convert(source, target, options, lambda line: None),
    }
    seconds = best(actions, repeat, clear)
    clear()
    paths = {"model": str(source), "target": str(target), "form": form}
    shown_net = None if net is None else str(net)
    memory = peak_of(paths, shown_net)
    ratio = seconds[form] / seconds[COPY]
    shown = "not measured" if memory is None else f"{memory / size:6.2f} x"
    print(
        f"  {form:14} {seconds[form]:8.2f} s  {seconds[COPY]:8.2f} s  {ratio:7.2f} x  {shown:>12}",
        flush=True,
    )
    limit, found = LIMITS.get(form, Limit()), []
    if limit.ratio is not None:
        found.append(Target(f"{form} / plain copy", ratio, limit.ratio))
    if limit.seconds is not None:
        found.append(Target(f"{form}, time", seconds[form], limit.seconds, "s"))
    if limit.memory is not None and memory is not None:
        found.append(Target(f"{form}, peak memory / file", memory / size, limit.memory))
    return found


def peak_of(paths: dict[str, str], net: str | None) -> float | None:
    """Bytes that a conversion takes at its peak; None where that cannot be measured."""
    values = {**paths, "net": net}
    work = (PREPARE.format(**values), WORK.format(**values))
    return peak(work, NET, Path(paths["model"]))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--divisor", type=int, default=1, help="divide all widths (default 1)")
    parser.add_argument("--folder", help="where to make the files (default: a temporary folder)")
    parser.add_argument(
        "--to",
        default="safetensors,torch,npz,hdf5,caffemodel-v1",
        help="forms, separated by commas (default: %(default)s)",
    )
    parser.add_argument(
        "--model", help="prototxt, for forms that need one (prototxt/D_deploy.prototxt)"
    )
    arguments = parser.parse_args()

    weights = vgg16(seed=1, divisor=arguments.divisor)
    print(f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}")
    targets = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        folder = Path(place)
        source = folder / "vgg16.caffemodel"
        save_weights(weights, source)
        del weights
        print(f"{source.stat().st_size / 1e6:.1f} MB\n")
        print("  form            converted      copied     ratio        memory")
        net = None if arguments.model is None else Path(arguments.model)
        for form in arguments.to.split(","):
            targets += measure(folder, form, net, arguments.repeat)
    print("targets")
    for t in targets:
        word = "met" if t.met else "MISSED"
        print(f"  {t.what:42} {t.found:9.3f} {t.unit}  at most {t.most:g} {t.unit}: {word}")
    return 0 if all(target.met for target in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
