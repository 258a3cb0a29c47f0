"""Lists of names and sizes of images, as SSD's ``name_size_file``: lines ``name height width``."""

from __future__ import annotations

from dataclasses import dataclass

from caffecompat.errors import DataError
from caffecompat.input_files import read_input
from caffecompat.reporting.terminal import shorten

_LARGEST = 999_999


@dataclass(frozen=True)
class ImageSize:
    """One line: the image's name, and its height and width in pixels."""

    name: str
    height: int
    width: int


def read_image_sizes(path: str, max_bytes: int | None = None) -> list[ImageSize]:
    """The lines of a list of image sizes.

    Raises:
        FileProblem, FormatError: it cannot be read, or is larger than ``max_bytes``.
        DataError: a line is not a name and two positive whole numbers, or there is no line.
    """
    found = []
    for number, line in enumerate(read_input(path, max_bytes).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        numbers = [int(w) for w in words[1:] if w.isdigit() and len(w) <= 6]
        if len(words) != 3 or len(numbers) != 2 or min(numbers) < 1:
            shown = shorten(line.decode(errors="backslashreplace"), 60)
            raise DataError(
                f"{path}: line {number} is {shown!r}, expected: name height width, with sizes from "
                f"1 to {_LARGEST}"
            )
        found.append(ImageSize(words[0].decode(errors="surrogateescape"), *numbers))
    if not found:
        raise DataError(f"{path}: there is no line in it, expected: name height width")
    return found
