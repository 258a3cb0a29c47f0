"""Databases, lists of images and HDF5 data."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from caffecompat.reporting.table import Column, print_table
from caffecompat.reporting.terminal import printable
from caffecompat.reporting.units import counted, format_shape

_IMAGE_LINE = re.compile(
    r"[^\"'#{}]+\.(jpe?g|png|bmp|gif|tiff?|webp|p[gpb]m)([ \t,;]+\S+)?\s*", re.IGNORECASE
)
_LINES_LOOKED_AT = 50
_LONGEST_LINE = 8192
_MOST_DATA_SETS = 1000


def print_database(path: Path, backend: str) -> None:
    """Prints the kind of a database, and the command that describes it."""
    article = "an" if backend == "LMDB" else "a"
    print(f"{printable(str(path))}: a folder with {article} {backend} database")
    print(f"what is in it: caffecompat dataset info {shlex.quote(str(path))}")


def print_data_sets(path: Path, max_bytes: int | None) -> bool:
    """Prints the data sets of an HDF5 file without groups; whether it is one."""
    found = _data_sets(path, max_bytes)
    if found:
        print(
            "format: HDF5, data for HDF5Data layers, whose tops have the names of the data sets\n"
        )
        print_table((Column("data set", is_name=True), Column("shape")), found)
    return bool(found)


def _data_sets(path: Path, max_bytes: int | None) -> list[tuple[str, str]]:
    """Names and shapes of the data sets, none for all other files."""
    from caffecompat.weights.hdf5_input.hdf5_file import SIGNATURE, open_hdf5
    from caffecompat.weights.mapped import read_head

    if not read_head(path, len(SIGNATURE)).startswith(SIGNATURE):
        return []
    with open_hdf5(path, max_bytes) as file:
        found = []
        for name in file.members()[:_MOST_DATA_SETS]:
            entry = file.describe(name)
            if entry is None:
                return []
            found.append((name, format_shape(entry.shape or ())))
        return found


def is_image_list(text: str) -> bool:
    """Whether most of the first lines are names of image files, with a label or without."""
    lines = text.splitlines()[:_LINES_LOOKED_AT]
    return 2 * sum(1 for line in lines if _IMAGE_LINE.fullmatch(line)) > len(lines)


def print_image_list(path: Path, max_bytes: int | None) -> None:
    """Prints what a list of images holds, and the command that makes a database of it."""
    from caffecompat.data.sources.image_lists.image_list import read_list
    from caffecompat.errors import DataError

    try:
        labels = [entry.label for entry in read_list(str(path), max_bytes=max_bytes)]
    except DataError as error:
        print("format: text, a list of images")
        print(printable(str(error)))
        return
    print(
        f"format: text, a list of {counted(len(labels), 'image')} with labels from "
        f"{min(labels)} to {max(labels)}, for convert-imageset and ImageData layers"
    )
    target = shlex.quote(f"{path.stem}_lmdb")
    print(
        "to make a database of them: caffecompat convert-imageset --encoded "
        f"{shlex.quote(_image_root(path))} {shlex.quote(str(path))} {target}"
    )


def _image_root(path: Path) -> str:
    """The folder that the names of a list start from, if it is this one or the list's own."""
    from caffecompat.weights.mapped import read_head

    first = os.fsdecode(read_head(path, _LONGEST_LINE)).splitlines()[0].rpartition(" ")[0]
    beside = os.path.join(path.parent, "")
    return next((root for root in ("./", beside) if os.path.isfile(root + first)), "ROOT/")
