#!/usr/bin/env python3
"""Rescale the images of a list isotropically, each to a smallest side S drawn from a range.

This is how docs/paper-nets.md makes the images of multi-scale training; each copy of each image
gets a side of its own::

    python tools/rescale_images.py images/ train.txt rescaled/ --side 256-512 --copies 4
    caffecompat convert-imageset --encoded --shuffle rescaled/ rescaled/list.txt data/train_lmdb

For one S for all images, convert-imageset --min-side needs no script.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2

QUALITY = 95
CHUNK = 1000


class Task(NamedTuple):
    """One image to write: where from, where to, its label, its smallest side in pixels."""

    source: Path
    name: str
    label: str
    side: int


def tasks(lines: Iterable[str], root: Path, sides: range, copies: int, seed: int) -> Iterator[Task]:
    """The images to write, in the order of the list, copy by copy."""
    entries = [line.rpartition(" ")[::2] for line in lines]
    for copy, (name, label) in itertools.product(range(copies), entries):
        stem = Path(name).with_suffix("")
        suffix = f"_{copy}" if copies > 1 else ""
        # One generator per image: its scale depends on nothing that stands before it in the list.
        side = random.Random(f"{seed} {copy} {name}").choice(sides)
        yield Task(root / name, f"{stem}{suffix}.jpg", label, side)


def rescale(task: Task, output: Path) -> bool:
    """Write one image; False where it cannot be read."""
    image = cv2.imread(str(task.source), cv2.IMREAD_COLOR)
    if image is None:
        return False
    height, width = image.shape[:2]
    factor = task.side / min(height, width)
    size = (max(task.side, round(width * factor)), max(task.side, round(height * factor)))
    # Area averaging shrinks without aliasing, but is no interpolation when an image grows.
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    target = output / task.name
    target.parent.mkdir(parents=True, exist_ok=True)
    pixels = cv2.resize(image, size, interpolation=method)
    if not cv2.imwrite(str(target), pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
        raise SystemExit(f"{target}: cannot be written")
    return True


def sides(text: str) -> range:
    """``256`` or ``256-512`` as the range of sides to draw from."""
    low, _, high = text.partition("-")
    try:
        found = range(int(low), int(high or low) + 1)
    except ValueError:
        found = range(0)
    if len(found) == 0 or found[0] < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give one side such as 256, or 256-512")
    return found


def read_lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise SystemExit(f"{path}: the list cannot be read: {error.strerror}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Rescale all images of a list; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder that the names in the list start from")
    parser.add_argument("list", type=Path, help="lines of: file name, one space, label")
    parser.add_argument("output", type=Path, help="new folder: the images, and list.txt")
    parser.add_argument("--side", type=sides, default=sides("256"), help="S, or a range of it")
    parser.add_argument("--copies", type=int, default=1, help="how many of each image")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn sides")
    options = parser.parse_args(arguments)
    work = tasks(read_lines(options.list), options.root, options.side, options.copies, options.seed)
    options.output.mkdir(parents=True, exist_ok=True)
    written = unreadable = 0
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        open(options.output / "list.txt", "w", encoding="utf-8") as listing,
    ):
        while chunk := list(itertools.islice(work, CHUNK)):
            for task, done in zip(
                chunk, pool.map(rescale, chunk, itertools.repeat(options.output)), strict=True
            ):
                if done:
                    listing.write(f"{task.name} {task.label}\n")
                    written += 1
                else:
                    print(f"{task.source}: cannot be read, left out", file=sys.stderr)
                    unreadable += 1
            print(f"{written} images written", file=sys.stderr)
    return 1 if unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
