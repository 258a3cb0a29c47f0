"""Names of classes in a file beside a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from caffecompat.errors import CaffeError
from caffecompat.export.convert.image_preparation import read_labels

# Of Caffe's ilsvrc12 data, and of the model archives of DIGITS.
FILE_NAMES = ("synset_words.txt", "labels.txt")


def names_beside(paths: Sequence[Path], classes: int) -> tuple[Path, tuple[str, ...]] | None:
    """The first file of names in the folder of one of the paths that has a line for each class.

    Args:
        paths: of the weights and of the definition.
        classes: the number of classes of the net.

    Returns:
        the file and the names; None if there is no such file.
    """
    for folder in dict.fromkeys(path.parent for path in paths):
        for name in FILE_NAMES:
            try:
                names = read_labels(str(folder / name))
            except CaffeError:
                continue
            if len(names) == classes:
                return folder / name, names
    return None
