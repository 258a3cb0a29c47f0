"""Coordinate maps beyond what was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from caffecompat.pycaffe import coord_map as cm
from caffecompat.pycaffe.net_spec import layers as L


def test_maps_of_layers() -> None:
    data = L.Input(shape={"dim": [1, 2, 9, 8]})
    conv = L.Convolution(data, kernel_size=[3, 5], stride=[1, 2], pad=[0, 2], num_output=1)
    axis, scale, shift = cm.coord_map(conv.fn)
    assert axis == 1
    np.testing.assert_array_equal(scale, [1, 0.5])
    np.testing.assert_array_equal(shift, [-1, 0])
    again = cm.inverse(cm.inverse((axis, scale, shift)))
    np.testing.assert_array_equal(again[1], scale)
    np.testing.assert_array_equal(again[2], shift)
    assert cm.coord_map(L.TanH(data).fn) == (None, 1, 0)
    assert cm.coord_map(L.Crop(conv, data, axis=2, offset=3).fn)[2] == -3
    with pytest.raises(cm.UndefinedMapException, match="type Softmax"):
        cm.coord_map(L.Softmax(data).fn)


def test_cropping_twice() -> None:
    """A crop of a crop moves by the offset of the first."""
    data = L.Input(shape={"dim": [1, 1, 30, 30]})
    padded = L.Convolution(data, kernel_size=3, pad=10, num_output=1)
    first = L.Crop(padded, data, crop_param={"axis": 2, "offset": [4]})
    assert cm.crop(padded, data).fn.params["crop_param"] == {"axis": 2, "offset": [9]}
    assert cm.crop(first, data).fn.params["crop_param"] == {"axis": 2, "offset": [5]}


def test_branches_are_walked_once() -> None:
    """Forty layers that each read the last twice: the number of paths is 2 to the 40."""
    top = data = L.Input(shape={"dim": [1, 1, 30, 30]})
    for _ in range(40):
        top = L.Eltwise(top, top)
    assert cm.coord_map_from_to(top, data)[1:] == (1, 0)


def spatial(**fields: Any) -> Any:
    return L.Convolution(L.Input(shape={"dim": [1, 1, 30, 30]}), num_output=1, **fields)


def test_what_cannot_be_mapped() -> None:
    conv = spatial(kernel_size=3)
    data = conv.fn.inputs[0]
    other = L.Input(shape={"dim": [1]})
    with pytest.raises(RuntimeError, match="are they connected by spatial layers"):
        cm.coord_map_from_to(conv, other)
    deeper = L.Convolution(conv, kernel_size=3, axis=2, num_output=1)
    with pytest.raises(cm.AxisMismatchException, match="axis 2 and axis 1"):
        cm.coord_map_from_to(deeper, data)
    for fields in ({"kernel_h": 3, "kernel_w": 3}, {}):
        top = spatial(**fields)
        with pytest.raises(AssertionError, match="kernel"):
            cm.crop(top, top.fn.inputs[0])
    half = spatial(kernel_size=4, pad=5)
    with pytest.raises(AssertionError, match="noninteger offset"):
        cm.crop(half, half.fn.inputs[0])
    with pytest.raises(AssertionError, match="no layer between the two"):
        cm.crop(L.ReLU(data), data)
