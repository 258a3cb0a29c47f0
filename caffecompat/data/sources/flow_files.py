"""The samples of FloData layers: optical flow from Middlebury .flo files of a list.

A file has the number 202021.25 as a float, width and height as 32-bit integers, and for each pixel,
row by row, the flow in x and in y as floats; all little-endian.
Source of the semantics: flo_data_layer.cpp of FlowNet's Caffe.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import read_image_file
from caffecompat.data.sources.base import RawSample, Sample
from caffecompat.data.sources.image_lists.image_list import Entry, read_names
from caffecompat.data.sources.image_lists.image_samples import ImageSamples, ListSettings
from caffecompat.errors import DataError

_TAG = 202021.25
_HEADER = struct.Struct("<fii")


class FlowSamples(ImageSamples):
    """The flow files of a list, (2, H, W) float32 each.

    Args:
        path: the list: names separated by white space.
        taken: how they are taken.
        max_bytes: the largest size of the list.

    Raises:
        FileProblem, FormatError: the list cannot be read.
        DataError: it is empty, or shorter than ``skip``.
    """

    def __init__(self, path: str, taken: ListSettings, max_bytes: int | None = None) -> None:
        words = [word for line in read_names(path, max_bytes) for word in line.name.split()]
        entries = [Entry(word, 0) for word in words]
        super().__init__(path, entries, taken)

    def decode(self, raw: RawSample) -> Sample:
        return Sample(decode_flow(read_image_file(self._root + raw.key)), 0)


def decode_flow(data: bytes) -> NDArray[Any]:
    """The flow (2, H, W) in the bytes of a .flo file.

    Raises:
        DataError: the bytes are no such file, or it ends too early.
    """
    if len(data) < _HEADER.size:
        raise DataError(f"its {len(data)} bytes are not a .flo file")
    tag, width, height = _HEADER.unpack_from(data)
    if tag != _TAG:
        raise DataError("it is not a .flo file: it does not start with 202021.25")
    needed = width * height * 8
    if width < 1 or height < 1 or len(data) - _HEADER.size < needed:
        raise DataError(
            f"its header says {height}x{width} (height x width), but {len(data) - _HEADER.size} "
            "bytes follow"
        )
    values = np.frombuffer(data, "<f4", width * height * 2, _HEADER.size)
    flow = values.reshape(height, width, 2).transpose(2, 0, 1)
    return np.ascontiguousarray(flow, np.float32)
