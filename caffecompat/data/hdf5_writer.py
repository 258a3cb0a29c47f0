"""Writing of HDF5 files as the HDF5Output layer does.  Source: hdf5.cpp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffecompat.weights.hdf5_input.hdf5_file import create_hdf5

_AXES = 4


def write_output(path: str, data: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
    """Writes the data sets ``data`` and ``label``, with trailing ones up to 4 axes.

    An existing file is replaced atomically.

    Raises:
        FileProblem: the file cannot be written.
    """
    with create_hdf5(Path(path)) as content:
        for name, values in (("data", data), ("label", labels)):
            shape = values.shape + (1,) * (_AXES - values.ndim)
            content[name] = np.ascontiguousarray(values, np.float32).reshape(shape)
