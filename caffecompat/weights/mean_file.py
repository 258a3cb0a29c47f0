"""Mean files (``.binaryproto``): one BlobProto with the mean image of a database."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import DataError, FormatError
from caffecompat.input_files import open_input
from caffecompat.output_files import atomic_write
from caffecompat.reporting.units import format_shape
from caffecompat.weights.encodings.blob_proto import blob_parts, read_blob
from caffecompat.weights.encodings.npy import SIGNATURE, read_npy
from caffecompat.weights.encodings.wire import Message
from caffecompat.weights.file_type import SINGLE_ARRAY, looks_like_net, other_file_type
from caffecompat.weights.format import HEAD_BYTES
from caffecompat.weights.mapped import map_file

IMAGE_AXES = 3


def read_mean(path: str | os.PathLike[str], max_bytes: int | None = None) -> np.ndarray:
    """The mean image in a ``.binaryproto``: float32 (C, H, W), channels in the file's order.

    Accepts the legacy sizes 1, C, H, W and a shape of four or three axes, in single or double
    precision. (Caffe misreads three axes as (1, 3, C, H) and then fails.)

    Args:
        path: the file.
        max_bytes: the largest accepted size; None for no limit, since the file is mapped.

    Raises:
        FileProblem: missing, a folder, or unreadable.
        FormatError: empty, damaged, of another type, or not one image.
    """
    path = Path(path)
    data = map_file(path, max_bytes)
    head = bytes(data[:HEAD_BYTES])
    kind = "a caffemodel" if looks_like_net(head) else other_file_type(head, path)
    if kind not in (None, SINGLE_ARRAY):
        raise FormatError(f"{path}: this is {kind}; expected a mean file (.binaryproto)")
    mean = read_blob(Message.whole(data, str(path)), "mean").data
    if mean.ndim == IMAGE_AXES + 1 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != IMAGE_AXES or not mean.size:
        raise FormatError(
            f"{path}: the mean is {format_shape(mean.shape)}, expected 1 x channels x height x "
            "width"
        )
    return mean


def read_mean_values(
    path: str | os.PathLike[str], max_bytes: int | None = None
) -> NDArray[np.float32]:
    """A mean as pycaffe's scripts keep it: a mean file, or a ``.npy`` file.

    Args:
        path: the file; its content tells which it is.
        max_bytes: the largest accepted size.

    Returns:
        (C, H, W), or (C,) of a ``.npy`` with one value for each channel.

    Raises:
        FileProblem: missing, a folder, or unreadable.
        FormatError: as for :func:`read_mean`, or a ``.npy`` of another shape.
    """
    with open_input(path) as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return read_mean(path, max_bytes)
    mean = read_npy(path, max_bytes)
    if mean.ndim not in (1, IMAGE_AXES) or not mean.size:
        raise FormatError(
            f"{path}: the mean has shape {mean.shape}, expected one value per channel or channels "
            "x height x width"
        )
    return mean.astype(np.float32)


def write_mean(array: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Writes a mean image with the legacy sizes 1, C, H, W, as Caffe's compute_image_mean does.

    Args:
        array: (C, H, W), written as float32.
        path: the file, written atomically.

    Raises:
        DataError: ``array`` does not have three axes.
        FileProblem: the file cannot be written.
    """
    if array.ndim != IMAGE_AXES:
        raise DataError(f"{path}: the mean has {array.ndim} axes, expected channels, height, width")
    with atomic_write(path) as file:
        for part in blob_parts(array[np.newaxis], legacy=True):
            file.write(part)
