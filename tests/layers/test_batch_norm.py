"""BatchNorm's statistics over several passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.layers.messages import distinct, made
from tests.net.nets import net


def statistics(channels: int) -> dict[str, Tensor]:
    shapes = {"mean": channels, "variance": channels, "scale_factor": 1}
    return {name: torch.zeros(n, dtype=torch.float64) for name, n in shapes.items()}


def test_two_passes_move_the_statistics() -> None:
    text = "batch_norm_param { moving_average_fraction: 0.5 }"
    layer = made("BatchNorm", text, (2, 3, 5, 4))
    kept = statistics(3)
    a, b = distinct((2, 3, 5, 4), 1), distinct((2, 3, 5, 4), 2)
    layer.forward(a, **kept)
    layer.forward(b, **kept)
    means = [x.mean((0, 2, 3)) for x in (a, b)]
    variances = [x.var((0, 2, 3)) for x in (a, b)]
    assert kept["scale_factor"].tolist() == [1.5]
    assert torch.allclose(kept["mean"], 0.5 * means[0] + means[1])
    assert torch.allclose(kept["variance"], 0.5 * variances[0] + variances[1])


def test_global_statistics_are_divided_and_left_alone() -> None:
    layer = made("BatchNorm", "", (2, 3, 4), phase="TEST")
    kept = statistics(3)
    kept["mean"][:], kept["variance"][:], kept["scale_factor"][:] = 3, 8, 2
    before = {name: value.clone() for name, value in kept.items()}
    x = distinct((2, 3, 4)).requires_grad_()
    y = layer.forward(x, **kept)
    y.sum().backward()
    assert torch.allclose(y, (x - 1.5) / (4 + 1e-5) ** 0.5)
    assert x.grad is not None
    assert torch.allclose(x.grad, torch.full_like(x, (4 + 1e-5) ** -0.5))
    assert all(torch.equal(kept[name], before[name]) for name in kept)


def test_scale_factor_zero_means_zero_statistics() -> None:
    layer = made("BatchNorm", "batch_norm_param { eps: 0.25 }", (2, 3), phase="TEST")
    kept = statistics(3)
    kept["mean"][:], kept["variance"][:] = 5, 7
    x = distinct((2, 3))
    assert torch.allclose(layer.forward(x, **kept), x * 2)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_one_value_per_channel_has_no_variance(shape: tuple[int, ...]) -> None:
    layer = made("BatchNorm", "", shape)
    kept = statistics(3)
    y = layer.forward(distinct(shape), **kept)
    assert torch.allclose(y, torch.zeros_like(y), atol=1e-12)
    assert not kept["variance"].any()
    assert torch.equal(kept["mean"], distinct(shape).flatten())


def test_one_value_per_channel_in_a_net() -> None:
    """Shapes are inferred, trained and compiled where m / (m - 1) would divide by zero."""
    small = net(
        """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 5 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" convolution_param {
        num_output: 2 kernel_size: 1 weight_filler { type: "constant" value: 1 } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
        pooling_param { pool: AVE global_pooling: true } }
layer { name: "bn" type: "BatchNorm" bottom: "pool" top: "bn" }
layer { name: "loss" type: "Reduction" bottom: "bn" top: "loss" loss_weight: 1 }
""",
        phase="train",
    )
    small.blobs["x"].data[...] = 0.5
    small.compile(backend="aot_eager")
    result = small.run(0)
    result.loss.backward()
    assert float(result.loss.detach()) == 0
    assert [p.tolist() for p in small.params["bn"]] == [[1.5, 1.5], [0, 0], [1]]
    gradient = small.params["conv"][0].grad
    assert gradient is not None
    assert not gradient.any()


def test_batch_statistics_in_test_phase_move_too() -> None:
    text = "batch_norm_param { use_global_stats: false }"
    layer = made("BatchNorm", text, (4, 3), phase="TEST")
    kept = statistics(3)
    y = layer.forward(distinct((4, 3)), **kept)
    assert torch.allclose(y.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert kept["scale_factor"].tolist() == [1]
