"""Resizing and cropping of images to squares.  Source: Caffe's resize_and_crop_images.py."""

from __future__ import annotations

import logging
import os
from contextlib import closing
from pathlib import PurePosixPath

from caffecompat.data.codec.images import decode_file, encode_image, resize_image
from caffecompat.data.loader.threaded_map import threaded_map
from caffecompat.data.sources.image_lists.image_list import images_below
from caffecompat.errors import DataError, FileProblem
from caffecompat.input_files import read_input
from caffecompat.output_files import atomic_write
from caffecompat.reporting.progress import Progress
from caffecompat.reporting.terminal import short_name

log = logging.getLogger(__name__)


def resize_and_crop_images(
    source: str,
    target: str,
    list_path: str | None = None,
    side: int = 256,
    workers: int | None = None,
    progress: Progress | None = None,
    max_bytes: int | None = None,
) -> tuple[int, int]:
    """Rescales each image to smallest side ``side`` and crops the central square.

    Rescaling is bilinear without smoothing; the other side and the offset are rounded down, as in
    Caffe's script. Images that cannot be read are logged and left out.

    Args:
        source: folder of the images.
        target: folder of the results, under the same names; existing files are replaced.
        list_path: text file whose lines begin with a name relative to ``source``; None for all
            images of the folder tree.
        side: side of the results, in pixels.
        workers: number of threads; None for one per core, at most 16.
        progress: called with (images done, total).
        max_bytes: the largest accepted size of the list; None for 512 MiB.

    Returns:
        the number of images written, and the number left out.

    Raises:
        FileProblem: the folder or the list cannot be read, or a result cannot be written.
        DataError: ``side`` is below 1, both folders are the same, a name leads out of the folder,
            or no image can be read.
    """
    if side < 1:
        raise DataError(f"output_side_length is {side}, expected 1 or more pixels")
    if not os.path.isdir(source):
        raise FileProblem(f"{source}: there is no such folder (from {os.getcwd()})")
    if os.path.realpath(source) == os.path.realpath(target):
        raise DataError(f"{target}: holds the images themselves; give another output_folder")
    names = _names(source, list_path, max_bytes)
    if not names:
        raise DataError(f"{list_path or source}: there are no images in it")
    written = 0
    work = threaded_map(lambda name: _square(source, target, name, side), names, workers)
    with closing(work) as results:
        for number, done in enumerate(results):
            written += done
            if not done:
                name = os.path.join(source, names[number])
                log.error("Could not open or find file %s", short_name(name))
            if progress:
                progress(number + 1, len(names))
    if not written:
        raise DataError(
            f"{list_path or source}: none of its {len(names):,} images can be read (the first is "
            f"{short_name(os.path.join(source, names[0]))}); names are taken below {source}"
        )
    return written, len(names) - written


def _names(source: str, list_path: str | None, max_bytes: int | None) -> list[str]:
    if list_path is None:
        return [os.fsdecode(name) for name in images_below(os.fsencode(source))]
    names = []
    before = os.path.join(source, "")
    for number, line in enumerate(read_input(list_path, max_bytes).splitlines()):
        words = os.fsdecode(line).removeprefix(before).split()
        if not words:
            continue
        path = PurePosixPath(words[0])
        if path.is_absolute() or ".." in path.parts or "\0" in words[0]:
            raise DataError(f"{list_path}: line {number + 1}: {words[0]} is not below {source}")
        names.append(words[0])
    return names


def _square(source: str, target: str, name: str, side: int) -> bool:
    """Writes the square of one image; False if the image cannot be read."""
    try:
        with open(os.path.join(source, name), "rb") as file:
            pixels = decode_file(file.read(), "color")
    except OSError:
        return False
    if pixels is None:
        return False
    height, width = pixels.shape[:2]
    tall = side * height // width if height > width else side
    wide = side if height > width else side * width // height
    top, left = (tall - side) // 2, (wide - side) // 2
    square = resize_image(pixels, wide, tall)[top : top + side, left : left + side]
    data = encode_image(square, os.path.splitext(name)[1][1:] or "jpg")
    path = os.path.join(target, name)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except OSError as error:
        raise FileProblem(f"{path}: cannot make a folder there: {error.strerror}") from error
    with atomic_write(path) as file:
        file.write(data)
    return True
