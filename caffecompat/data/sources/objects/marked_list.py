"""Text lists that begin each image with ``# index`` and its file name, as Fast R-CNN's do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from caffecompat.errors import DataError, FormatError
from caffecompat.input_files import ClaimedBytes, read_input
from caffecompat.reporting.terminal import shorten

_WORD = re.compile(rb"\S+")
# Characters of a word in messages.
_LONGEST_SHOWN = 40

ReadImage = Callable[[bytes, Iterator[bytes], ClaimedBytes], None]


def read_marked_list(
    path: str, read_image: ReadImage, remedy: str, form: str, max_bytes: int | None = None
) -> None:
    """Reads a list, image by image.

    Args:
        path: the list.
        read_image: called with the file name, the words after it, of which it takes those of the
            image, and the count of the memory that they take. It raises ValueError for a word that
            it does not expect.
        remedy: what the list should have instead of a claim that its size does not allow.
        form: the form of an image, for messages: "expected ...".
        max_bytes: the largest accepted size; None for 512 MiB.

    Raises:
        FileProblem, FormatError: the list cannot be read, or is larger than that.
        DataError: it has another form; the message names the image.
    """
    data = read_input(path, max_bytes)
    claimed = ClaimedBytes(path, len(data), remedy=remedy)
    words = (found[0] for found in _WORD.finditer(data))
    index = b"0"
    try:
        for mark in words:
            index = next(words)
            if mark != b"#":
                raise ValueError(f"found {shown(mark)!r}, expected '#'")
            read_image(next(words), words, claimed)
    except FormatError:
        raise
    except (ValueError, StopIteration, RuntimeError) as error:
        what = str(error) if isinstance(error, ValueError) else "it ends too early"
        raise DataError(f"{path}: image # {shown(index)}: {what}; {form}") from error


def shown(word: bytes) -> str:
    """A word as messages show it."""
    return shorten(word.decode(errors="backslashreplace"), _LONGEST_SHOWN)
