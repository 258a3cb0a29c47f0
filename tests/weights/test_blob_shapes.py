"""Which blob is which parameter."""

from __future__ import annotations

import numpy as np
import pytest

from caffecompat.weights import match_shape
from caffecompat.weights.blob_shapes import current_shape


@pytest.mark.parametrize(
    ("blob", "legacy", "net", "fits"),
    [
        ((5, 24), False, (5, 24), True),
        ((24, 5), False, (5, 24), False),
        ((1, 1, 5, 24), True, (5, 24), True),
        ((1, 1, 5, 24), False, (5, 24), False),
        ((5, 24, 1, 1), True, (5, 24), False),
        ((1, 1, 1, 5), True, (5,), True),
        ((1, 1, 1, 5), True, (1, 5), True),
        ((1, 1, 1, 1), True, (), True),
        ((5, 1, 1, 1), True, (5,), False),
        ((6, 4, 3, 2), True, (6, 4, 3, 2), True),
        ((1, 4, 3, 2), True, (4, 3, 2), True),
        ((4, 3, 2), False, (1, 4, 3, 2), False),
        ((1, 2, 3, 4), True, (1, 1, 2, 3, 4), False),
        ((0, 0, 0, 5), True, (5,), False),
    ],
)
def test_fit(blob: tuple[int, ...], legacy: bool, net: tuple[int, ...], fits: bool) -> None:
    array = np.arange(np.prod(blob), dtype=np.float32).reshape(blob)
    fitted = match_shape(array, legacy, list(net))
    assert (fitted is not None) == fits
    if fitted is not None:
        assert fitted.shape == net
        assert np.shares_memory(fitted, array)


@pytest.mark.parametrize(
    ("kind", "index", "sizes", "shape"),
    [
        ("Convolution", 0, (6, 4, 3, 2), (6, 4, 3, 2)),
        ("Convolution", 0, (1, 1, 3, 2), (1, 1, 3, 2)),
        ("Deconvolution", 0, (1, 4, 3, 2), (1, 4, 3, 2)),
        ("Convolution", 1, (1, 1, 1, 6), (6,)),
        ("InnerProduct", 0, (1, 1, 5, 24), (5, 24)),
        ("InnerProduct", 0, (1, 1, 1, 24), (1, 24)),
        ("InnerProduct", 0, (5, 24, 1, 1), (5, 24, 1, 1)),
        ("InnerProduct", 1, (1, 1, 1, 5), (5,)),
        ("PReLU", 0, (1, 1, 1, 7), (7,)),
        ("PReLU", 0, (1, 7, 1, 1), (1, 7, 1, 1)),
        ("", 0, (1, 1, 5, 24), (1, 1, 5, 24)),
        ("", 1, (1, 1, 1, 5), (1, 1, 1, 5)),
    ],
)
def test_todays_shape(
    kind: str, index: int, sizes: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    assert current_shape(kind, index, sizes) == shape
