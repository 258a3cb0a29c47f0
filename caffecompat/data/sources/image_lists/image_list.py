"""Image lists and folder trees of images.

A line of an image list is a file name, one space, and a label. Source of the semantics:
image_data_layer.cpp, convert_imageset.cpp, io.cpp.
"""

from __future__ import annotations

import codecs
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from caffecompat.data.sources.image_lists.image_list_faults import why_no_label
from caffecompat.data.unfinished_output import lock_target, refuse_existing
from caffecompat.errors import DataError, FileProblem, suggestion
from caffecompat.input_files import ClaimedBytes, read_input
from caffecompat.output_files import atomic_write
from caffecompat.reporting.progress import ProgressLines
from caffecompat.reporting.terminal import short_name

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_LEADING_NUMBER = re.compile(rb"[ \t\n\v\f\r]*([+-]?[0-9]+)")
_PLAIN_NUMBER = re.compile(rb"[+-]?[0-9]+")


# A lower bound of the memory of an entry; files with lines of 12 bytes or more pass any check.
_BYTES_PER_ENTRY = 50
# More digits than any 64-bit number has; Python refuses to parse thousands of digits.
_MAX_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an image list: the file name as listed, and the label."""

    name: bytes
    label: int


def read_list(
    path: str, labelled: bool = True, max_bytes: int | None = None, each: bool = False
) -> list[Entry]:
    """The entries of an image list.

    A line is split at its last space, so file names may contain spaces. The label is the number
    at the start of its text, or 0, as in Caffe; a warning counts labels that are not whole
    numbers. An empty line is an entry. A carriage return at the end of a line is ignored, and so
    is a byte order mark, which editors on Windows write.

    Args:
        path: the list.
        labelled: refuse a list in which most labels have no number, and would become 0.
        max_bytes: the largest accepted size; None for 512 MiB.
        each: refuse a list in which one label has no number.

    Raises:
        FileProblem, FormatError: the list cannot be read, or is larger than that.
        DataError: more than half of the labels have no number, or with ``each`` one of them.
    """
    lines = _read_lines(path, max_bytes)
    # Without a space the whole line is the name and the text of the label, as in Caffe.
    texts = [line[line.rfind(b" ") + 1 :] for line in lines]
    odd = [n for n, text in enumerate(texts) if not _PLAIN_NUMBER.fullmatch(text)]
    if labelled:
        # Without a space there is no label, even where the name begins with a number.
        without = [n for n in odd if b" " not in lines[n] or not _LEADING_NUMBER.match(texts[n])]
        if 2 * len(without) > len(lines) or (each and without):
            raise DataError(
                f"{path}: {len(without):,} of {len(lines):,} lines do not end in a number: "
                f"{why_no_label(path, lines[without[0]], without[0] + 1)}"
            )
    if odd:
        log.warning(
            "%s: %d labels are not whole numbers (the first is %r in line %d); "
            "only their leading digits are used, or 0 without any",
            path,
            len(odd),
            texts[odd[0]][:40].decode(errors="replace"),
            odd[0] + 1,
        )
    return [
        Entry(line.rpartition(b" ")[0] if b" " in line else line, _leading_number(text))
        for line, text in zip(lines, texts, strict=True)
    ]


def read_names(path: str, max_bytes: int | None = None) -> list[Entry]:
    """The entries of a list without labels: each line is a file name; all labels are 0.

    Raises:
        FileProblem: the list cannot be read.
    """
    return [Entry(line, 0) for line in _read_lines(path, max_bytes)]


def read_words(
    path: str, classes: list[str] | None = None, max_bytes: int | None = None
) -> tuple[list[Entry], list[str]]:
    """The entries of a list whose labels are class names without spaces.

    Args:
        path: the list.
        classes: the class names in order of their numbers; None numbers the names in the list in
            byte order.
        max_bytes: the largest accepted size.

    Returns:
        the entries, and the class names in order of their numbers.

    Raises:
        FileProblem: the list cannot be read.
        DataError: a line has no label, or a label that is not in ``classes``.
    """
    lines = _read_lines(path, max_bytes)
    if not all(b" " in line for line in lines):
        number = next(n for n, line in enumerate(lines) if b" " not in line)
        raise DataError(f"{path}: {why_no_label(path, lines[number], number + 1)}")
    words = [os.fsdecode(line.rpartition(b" ")[2]) for line in lines]
    names = sorted(set(words), key=os.fsencode) if classes is None else classes
    labels = {name: label for label, name in enumerate(names)}
    unknown = next((n for n, word in enumerate(words) if word not in labels), None)
    if unknown is not None:
        word = words[unknown]
        near = suggestion(word, labels) if len(labels) < 10000 else ""
        raise DataError(f"{path}: line {unknown + 1}: there is no class {short_name(word)!r}{near}")
    entries = [
        Entry(line.rpartition(b" ")[0], labels[word])
        for line, word in zip(lines, words, strict=True)
    ]
    return entries, names


def read_class_names(path: str, max_bytes: int | None = None) -> list[str]:
    """The class names in a file, one per line, in order of their labels from 0 on.

    Raises:
        FileProblem, FormatError: the file cannot be read.
    """
    lines = read_input(path, max_bytes).removeprefix(codecs.BOM_UTF8).rstrip(b"\n").split(b"\n")
    return [os.fsdecode(line.rstrip()) for line in lines]


def write_list(folder: str, path: str, root: str | None = None) -> tuple[int, int]:
    """Writes a list of the images in a folder tree, and its class names to ``path`` + ``.labels``.

    Args:
        folder: each of its sub-folders is a class, see :func:`read_tree`.
        path: the list to write; missing folders above it are created.
        root: the prefix that readers of the list will put before each name; None for ``folder``
            and a slash.

    Returns:
        the number of images and the number of classes.

    Raises:
        FileProblem: ``path`` exists or cannot be written, or the folder cannot be read.
        DataError: there are no sub-folders or no images, or ``folder`` does not begin with
            ``root``.
    """
    before = os.path.join(folder, "")
    root = before if root is None else root
    if not before.startswith(root):
        raise DataError(
            f"{folder}: the folder does not begin with the root {root!r}; correct --root"
        )
    log.info("Looking for images in %s", folder)
    entries, classes = read_tree(folder)
    if not entries:
        raise DataError(f"{folder}: there are no images in its sub-folders")
    prefix = os.fsencode(before[len(root) :])
    lines = [b"%s%s %d\n" % (prefix, entry.name, entry.label) for entry in entries]
    names = "".join(f"{name}\n" for name in classes).encode(errors="surrogateescape")
    with lock_target(path):
        refuse_existing(path)
        for target, text in ((f"{path}.labels", names), (path, b"".join(lines))):
            with atomic_write(target) as file:
                file.write(text)
    return len(entries), len(classes)


def _read_lines(path: str, max_bytes: int | None) -> list[bytes]:
    data = read_input(path, max_bytes)
    claimed = ClaimedBytes(path, len(data), remedy="expected a file name in each line")
    claimed.add(data.count(b"\n") * _BYTES_PER_ENTRY, "the entries of its lines")
    lines = [line.removesuffix(b"\r") for line in data.removeprefix(codecs.BOM_UTF8).split(b"\n")]
    if not lines[-1]:
        lines.pop()
    return lines


def read_tree(folder: str) -> tuple[list[Entry], list[str]]:
    """The images in the sub-folders of a folder; each sub-folder is a class, as in ImageNet.

    Files without the suffix of an image, files outside the sub-folders and hidden files are
    ignored.

    Returns:
        entries with names relative to ``folder``, sorted by class and name, and the class names in
        byte order; the label is the index of the class.

    Raises:
        FileProblem: the folder cannot be read.
        DataError: it has no sub-folders.
    """
    try:
        root = os.fsencode(folder)
        classes = sorted(
            item.name for item in os.scandir(root) if item.is_dir() and item.name[:1] != b"."
        )
        scanned = ProgressLines("folders scanned")
        entries: list[Entry] = []
        for label, name in enumerate(classes):
            found = images_below(os.path.join(root, name))
            entries += [Entry(os.path.join(name, image), label) for image in found]
            scanned(label + 1, len(classes))
    except OSError as error:
        raise FileProblem(f"{folder}: the folder cannot be read: {error.strerror}") from error
    if not classes:
        raise DataError(
            f"{folder}: it has no sub-folders, so there are no classes; give a list of images, or "
            "put the images of each class into its own sub-folder"
        )
    return entries, [os.fsdecode(name) for name in classes]


def images_below(folder: bytes) -> Iterator[bytes]:
    """The paths of all images in a folder tree, relative to ``folder``, in byte order."""
    suffixes = tuple(suffix.encode() for suffix in IMAGE_SUFFIXES)
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(suffixes) and not name.startswith(b"."):
                yield os.path.relpath(os.path.join(place, name), folder)


def _leading_number(text: bytes) -> int:
    """The result of C's atoi: the leading digits, 0 without any, truncated to 32 bits."""
    found = _LEADING_NUMBER.match(text)
    digits = found[1] if found else b"0"
    if len(digits) > _MAX_DIGITS:
        # Further digits cannot matter, since the number exceeds 64 bits anyway.
        sign = b"-" if digits.startswith(b"-") else b"+"
        digits = sign + b"0" + digits.lstrip(b"+-").lstrip(b"0")[: _MAX_DIGITS + 1]
    number = int(digits)
    number = max(-(1 << 63), min(number, (1 << 63) - 1))
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)
