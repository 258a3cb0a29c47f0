"""Rounding of tensors against C's round."""

from __future__ import annotations

import ctypes
import ctypes.util

import numpy as np
import pytest
import torch

from caffecompat.layers._rounding import round_away


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_numbers_near_halves(name: str) -> None:
    exact = np.dtype(name).type
    halves = np.array([0, 0.5, 1.5, 2.5, 7.5, 1023.5], exact)
    near = [np.nextafter(halves, exact(0)), halves, np.nextafter(halves, exact(9e9))]
    values = np.concatenate([*near, *(-part for part in near)])
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    library.round.restype, library.round.argtypes = ctypes.c_double, [ctypes.c_double]
    wanted = [library.round(float(value)) for value in values]
    assert round_away(torch.from_numpy(values)).tolist() == wanted
