"""Mean files: one BlobProto (``.binaryproto``) with the mean image of a database."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from caffecompat.errors import DataError, FormatError
from caffecompat.output_files import atomic_write
from caffecompat.weights.blob import blob_parts, read_blob
from caffecompat.weights.file_type import SINGLE_ARRAY, foreign_kind, looks_like_net
from caffecompat.weights.format import HEAD
from caffecompat.weights.mapped import map_file
from caffecompat.weights.wire import Message

IMAGE_AXES = 3


def read_mean(path: str | os.PathLike[str], max_bytes: int | None = None) -> np.ndarray:
    """The mean image in a ``.binaryproto``: float32 (C, H, W), channels in the file's order.

    Takes the old sizes 1, C, H, W and a shape of four or three axes, single or double precision.
    (Caffe misreads three axes as (1, 3, C, H) and then fails.)

    Args:
        path: the file.
        max_bytes: the largest size to accept; None for any, since the file is mapped.

    Raises:
        FileProblem: missing, a folder, or unreadable.
        FormatError: empty, damaged, of another kind, or not one image.
    """
    path = Path(path)
    data = map_file(path, max_bytes)
    head = bytes(data[:HEAD])
    kind = "a caffemodel" if looks_like_net(head) else foreign_kind(head, path)
    if kind not in (None, SINGLE_ARRAY):
        raise FormatError(f"{path}: this is {kind}; expected a mean file (.binaryproto)")
    mean = read_blob(Message.whole(data, str(path)), "mean").data
    if mean.ndim == IMAGE_AXES + 1 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != IMAGE_AXES or not mean.size:
        shape = "x".join(map(str, mean.shape)) or "()"
        raise FormatError(f"{path}: the mean is {shape}, expected 1 x channels x height x width")
    return mean


def write_mean(array: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Writes a mean image with the old sizes 1, C, H, W, as Caffe's compute_image_mean does.

    Args:
        array: (C, H, W), written as float32.
        path: the file, either complete or not there afterwards.

    Raises:
        DataError: ``array`` has no three axes.
        FileProblem: the file cannot be written.
    """
    if array.ndim != IMAGE_AXES:
        raise DataError(f"{path}: the mean has {array.ndim} axes, expected channels, height, width")
    with atomic_write(path) as file:
        for part in blob_parts(array[np.newaxis], legacy=True):
            file.write(part)
