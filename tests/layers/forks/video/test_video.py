"""Layers of clips of video, against plain loops."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run
from tests.net.nets import net


@pytest.mark.parametrize(
    ("type_name", "field"),
    [("CONVOLUTION3D", "convolution_param"), ("Convolution3D", "convolution3d_param")],
)
def test_convolution_over_time(type_name: str, field: str) -> None:
    x, weight, bias = distinct((2, 2, 4, 5, 6), 1), distinct((3, 2, 3, 2, 2), 2), distinct((3,), 3)
    text = (
        f"{field} {{ num_output: 3 kernel_size: 2 kernel_depth: 3 pad: 1 stride: 2 temporal_pad: 1 "
        "temporal_stride: 1 }"
    )
    (y,) = run(type_name, text, x, parameters=[weight, bias])
    whole = np.pad(x.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1), (1, 1)])
    assert y.shape == (2, 3, 4, 3, 4)
    for n, o, t, i, j in product(range(2), range(3), range(4), range(3), range(4)):
        patch = whole[n, :, t : t + 3, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        expected = (patch * weight[o].numpy()).sum() + float(bias[o])
        assert abs(float(y[n, o, t, i, j]) - expected) < 1e-9
    with pytest.raises(LayerError, match="it must have 5 axes"):
        made(type_name, text, (2, 2, 5, 6))
    with pytest.raises(LayerError, match="kernel_depth 0; both must be given"):
        made(type_name, f"{field} {{ num_output: 1 kernel_size: 2 }}", x.shape)


@pytest.mark.parametrize(
    ("type_name", "field"), [("POOLING3D", "pooling_param"), ("Pooling3D", "pooling3d_param")]
)
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_pooling_over_time(type_name: str, field: str, method: str) -> None:
    x = distinct((1, 2, 5, 6, 5), 1)
    pad = 1 if method == "AVE" else 0
    text = (
        f"{field} {{ pool: {method} kernel_size: 3 kernel_depth: 2 stride: 2 temporal_stride: 2 "
        f"pad: {pad} }}"
    )
    (y,) = run(type_name, text, x)
    sizes = [math.ceil((5 - 2) / 2) + 1, *(math.ceil((n + 2 * pad - 3) / 2) + 1 for n in (6, 5))]
    assert list(y.shape) == [1, 2, *sizes]
    for c, t, i, j in product(range(2), *map(range, sizes)):
        starts = (2 * t, 2 * i - pad, 2 * j - pad)
        ends = (min(2 * t + 2, 5), min(starts[1] + 3, 6 + pad), min(starts[2] + 3, 5 + pad))
        divisor = math.prod(e - s for s, e in zip(starts, ends, strict=True))
        a, b, d = (slice(max(s, 0), e) for s, e in zip(starts, ends, strict=True))
        patch = x[0, c, a, b, d]
        expected = patch.max() if method == "MAX" else patch.sum() / divisor
        assert abs(float(y[0, c, t, i, j]) - float(expected)) < 1e-9


def test_old_net_of_clips() -> None:
    built = net(
        """
        input: "x" input_shape { dim: 1 dim: 3 dim: 4 dim: 6 dim: 6 }
        layers { name: "c" type: CONVOLUTION3D bottom: "x" top: "c"
          convolution_param { num_output: 2 kernel_size: 3 kernel_depth: 3 pad: 1
                              temporal_pad: 1 } }
        layers { name: "p" type: POOLING3D bottom: "c" top: "p"
          pooling_param { pool: MAX kernel_size: 2 kernel_depth: 1 stride: 2
                          temporal_stride: 1 } }
        """
    )
    assert built.blobs["p"].shape == (1, 2, 4, 3, 3)
    assert [tuple(blob.data.shape) for blob in built.params["c"]] == [(2, 3, 3, 3, 3), (2,)]


def test_settings_of_synopsys_are_refused() -> None:
    with pytest.raises(LayerError, match="kernel_h is of Synopsys' Pooling3D"):
        made("Pooling3D", "pooling3d_param { kernel_size: 2 kernel_h: 2 }", (1, 1, 3, 3, 3))


def test_batch_norm_with_eps_outside_of_the_root() -> None:
    x = distinct((2, 3, 4), 1)
    mean, variance = torch.tensor([0.5, 1, 2]).double(), torch.tensor([4.0, 9, 1]).double()
    text = "batch_norm_param { eps: 0.5 add_eps_before_sqrt: false }"
    blobs = [mean * 2, variance * 2, torch.tensor([2.0]).double()]
    (y,) = run("BatchNorm", text, x, parameters=blobs, phase="TEST")
    root = variance.sqrt().view(3, 1) + 0.5
    torch.testing.assert_close(y, (x - mean.view(3, 1)) / root)
