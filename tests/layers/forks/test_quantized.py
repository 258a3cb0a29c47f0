"""Quantised layers of Ristretto and DeePhi, against loops over their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run
from tests.layers.single import call


def even(x: float) -> float:
    """The nearest whole number, ties to the even one."""
    below = math.floor(x)
    if x - below == 0.5:
        return below + below % 2
    return below + (x - below > 0.5)


def fixed(x: float, bits: int, fraction: int) -> float:
    most, least = 2 ** (bits - 1) - 1, -(2 ** (bits - 1))
    return even(min(max(x * 2**fraction, least), most)) / 2**fraction


def mini(x: float, mantissa: int, exponent: int) -> float:
    if x == 0:
        return 0.0
    power = math.floor(math.log2(abs(x)))
    bias = 2 ** (exponent - 1) - 1
    if power + bias < 0:
        return 0.0
    steps = 2**mantissa
    share = even((abs(x) / 2.0**power - 1) * steps)
    if power + bias > 2**exponent - 1:
        power, share = 2**exponent - 1 - bias, steps - 1
    return math.copysign((1 + share / steps) * 2.0**power, x)


def each(x: torch.Tensor, rule: object, *settings: int) -> torch.Tensor:
    assert callable(rule)
    values = [rule(float(v), *settings) for v in x.flatten()]
    return torch.tensor(values, dtype=x.dtype).reshape(x.shape)


CONVOLUTION = "convolution_param { num_output: 2 kernel_size: 2 }"


def convolved(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    n, _, h, w = x.shape
    y = torch.zeros(n, len(weight), h - 1, w - 1, dtype=x.dtype)
    for i, o, r, c in np.ndindex(*y.shape):
        y[i, o, r, c] = (x[i, :, r : r + 2, c : c + 2] * weight[o]).sum() + bias[o]
    return y


def test_dynamic_fixed_point() -> None:
    x, weight, bias = 3 * distinct((2, 2, 3, 4)), distinct((2, 2, 2, 2), 1), distinct((2,), 2)
    text = f"""{CONVOLUTION} quantization_param {{ bw_layer_in: 6 fl_layer_in: 4 bw_layer_out: 7
               fl_layer_out: 3 bw_params: 5 fl_params: 4 }}"""
    (y,) = run("ConvolutionRistretto", text, x, parameters=(weight, bias), phase="TEST")
    inner = convolved(each(x, fixed, 6, 4), each(weight, fixed, 5, 4), each(bias, fixed, 5, 4))
    assert (each(x, fixed, 6, 4) != x).any()
    assert each(x, fixed, 6, 4).max() == (2**5 - 1) / 16
    torch.testing.assert_close(y, each(inner, fixed, 7, 3), rtol=0, atol=0)


def test_minifloat() -> None:
    x = torch.tensor([[0.0, 1.0, -1.0625, 1.9, 1.97, 300.0, -1e-3, 0.013]], dtype=torch.float64)
    weight = torch.eye(8, dtype=torch.float64)
    text = """inner_product_param { num_output: 8 bias_term: false }
              quantization_param { precision: MINIFLOAT mant_bits: 3 exp_bits: 4 }"""
    (y,) = run("FcRistretto", text, x, parameters=(weight,), phase="TEST")
    torch.testing.assert_close(y, each(x, mini, 3, 4), rtol=0, atol=0)
    # Ties to even, a mantissa that becomes 2, the largest number, and one that is too small.
    assert y[0].tolist()[:7] == [0, 1, -1, 1.875, 2.0, 300.0 // 32 * 32, 0]


def test_powers_of_two_leave_the_bias() -> None:
    x = torch.tensor([[1.0, 0.25]], dtype=torch.float64)
    weight = torch.tensor([[0.3, -3.0], [0.0, 1e-5]], dtype=torch.float64)
    bias = torch.tensor([0.1, 0.0], dtype=torch.float64)
    text = """inner_product_param { num_output: 2 } quantization_param {
              precision: INTEGER_POWER_OF_2_WEIGHTS exp_min: -8 exp_max: -1 }"""
    (y,) = run("FcRistretto", text, x, parameters=(weight, bias), phase="TEST")
    exact = torch.tensor([[0.25 - 0.5 * 0.25 + 0.1, 2**-8 + 0.25 * 2**-8]], dtype=torch.float64)
    torch.testing.assert_close(y, each(exact, fixed, 32, 16), rtol=0, atol=0)


def test_training_rounds_parameters_at_random_and_activations_not() -> None:
    text = """inner_product_param { num_output: 400 bias_term: false }
              quantization_param { bw_params: 4 fl_params: 1 bw_layer_in: 4 fl_layer_in: 0 }"""
    x = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    weight = torch.full((400, 1), 0.9, dtype=torch.float64, requires_grad=True)
    layer = made("FcRistretto", text, x.shape)
    (y,) = call(layer, [x], [weight])
    used = (y / 0.3).flatten()
    assert set(used.detach().round(decimals=6).tolist()) == {0.5, 1.0}
    assert abs(float(used.detach().mean()) - 0.9) < 0.05
    assert torch.equal(call(layer, [x], [weight])[0], y)
    y.sum().backward()
    assert weight.grad is not None
    assert x.grad is not None
    torch.testing.assert_close(weight.grad, torch.full_like(weight, 0.3))
    torch.testing.assert_close(x.grad, used.detach().sum().reshape(1, 1))
    layer.noise.position += 1
    assert not torch.equal(call(layer, [x], [weight])[0], y)


def test_fields_of_other_quantisers_are_refused() -> None:
    text = "inner_product_param { num_output: 1 } quantization_param { %s }"
    for field, message in (
        ("th_layer_in: 3", "th_layer_in is of another Caffe"),
        ("fl_params: 3 fl_params: 4", "fl_params has 2 values"),
        ("bw_params: 65", "bw_params is 65"),
        ("precision: MINIFLOAT exp_bits: 9", "exp_bits 9"),
    ):
        with pytest.raises(LayerError, match=message):
            made("FcRistretto", text % field, (1, 2))


def away(x: float) -> float:
    return math.copysign(math.floor(abs(x) + 0.5), x)


def at_position(x: float, bits: int, p: int) -> float:
    most, least = 2 ** (bits - 1) - 1, -(2 ** (bits - 1))
    return min(max(away(x * 2.0**p), least), most) / 2.0**p


def best(x: torch.Tensor, bits: int, method: str) -> int:
    low, high = -(2 ** (bits - 1)) - 0.5, 2 ** (bits - 1) - 0.5
    first = math.floor(math.log2(1 / max(float(x.min()) / low, float(x.max()) / high)))
    if method == "OVER_FLOW":
        return first

    def seen(v: torch.Tensor) -> torch.Tensor:
        return 1 / (1 + (-v).exp()) if method == "DIFF_S_SIGMOID" else v

    errors = [
        float(((seen(x) - seen(each(x, at_position, bits, first + k))) ** 2).sum())
        for k in range(10 if method == "DIFF_S_SIGMOID" else 5)
    ]
    return first + errors.index(min(errors))


@pytest.mark.parametrize("method", ["OVER_FLOW", "DIFF_S", "DIFF_S_SIGMOID"])
def test_fixed_neuron_finds_its_position_and_keeps_it(method: str) -> None:
    x = distinct((2, 3, 4)) * 1.37
    x[0, 0, 0] = 9.0
    text = f"fixed_param {{ bit_width: 5 fixed_method: {method} }}"
    position = torch.zeros(1, dtype=torch.float64)
    (y,) = run("FixedNeuron", text, x, parameters=(position,))
    assert position.item() == best(x, 5, method)
    (again,) = run("FixedNeuron", text, x, parameters=(position,), phase="TEST")
    torch.testing.assert_close(again, y, rtol=0, atol=0)
    step = 2.0 ** -position.item()
    assert ((y / step) % 1 == 0).all()
    assert y.max() <= 15 * step
    assert y.min() >= -16 * step


def test_fixed_neuron_rounds_ties_up_and_truncates_behind_data() -> None:
    x = torch.tensor([-0.75, -0.25, 0.25, 0.74, 100.0, -100.0], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    (y,) = run("FixedNeuron", "fixed_param { bit_width: 4 }", x, parameters=(one,), phase="TEST")
    assert y.tolist() == [-0.5, 0.0, 0.5, 0.5, 3.5, -4.0]
    text = "fixed_param { bit_width: 4 follow_data_layer: true }"
    (y,) = run("FixedNeuron", text, x, parameters=(one,), phase="TEST")
    assert y.tolist() == [-0.5, 0.0, 0.0, 0.5, 100.0, -100.0]
    off = "fixed_param { enable: false }"
    assert torch.equal(run("FixedNeuron", off, x, parameters=(one,))[0], x)


def test_fixed_neuron_of_zeros() -> None:
    position = torch.zeros(1)
    (y,) = run("FixedNeuron", "", torch.zeros(3, 2), parameters=(position,))
    assert not y.any()
    assert position.item() == 32767


@pytest.mark.parametrize("method", ["OVER_FLOW", "DIFF_S"])
def test_parameters_of_fixed_point(method: str) -> None:
    x, weight, bias = distinct((1, 2, 3, 3)), distinct((2, 2, 2, 2), 1) * 1.7, distinct((2,), 2)
    text = f"{CONVOLUTION} fixed_param {{ bit_width: 4 fixed_method: {method} }}"
    (y,) = run("ConvolutionFixed", text, x, parameters=(weight, bias))
    used = [each(b, at_position, 4, best(b, 4, method)) for b in (weight, bias)]
    torch.testing.assert_close(y, convolved(x, *used))
    flat = distinct((2, 4))
    text = f"""inner_product_param {{ num_output: 2 }}
               fixed_param {{ bit_width: 4 fixed_method: {method} }}"""
    (z,) = run("InnerProductFixed", text, flat, parameters=(weight[0].reshape(2, 4), bias))
    inner = each(weight[0], at_position, 4, best(weight[0], 4, method)).reshape(2, 4)
    torch.testing.assert_close(z, flat @ inner.T + used[1])
    with pytest.raises(LayerError, match="DIFF_A is not for this type"):
        made("ConvolutionFixed", f"{CONVOLUTION} fixed_param {{ fixed_method: DIFF_A }}", x.shape)


def test_deephi_resize() -> None:
    x = distinct((2, 2, 3, 7))
    text = "deephi_resize_param { new_height: 5 new_width: 3 }"
    (y,) = run("DeephiResize", text, x)
    for i, j in np.ndindex(5, 3):
        expected = x[:, :, int(i * 3 / 5 + 1e-9), int(j * 7 / 3 + 1e-9)]
        assert torch.equal(y[:, :, i, j], expected)
    text = "deephi_resize_param { resize_type: BILINEAR scale_h: 2 scale_w: 1 }"
    (z,) = run("DeephiResize", text, x)
    assert tuple(z.shape) == (2, 2, 6, 7)
    torch.testing.assert_close(z[:, :, 1], 0.75 * x[:, :, 0] + 0.25 * x[:, :, 1])
    torch.testing.assert_close(z[:, :, 0], x[:, :, 0])
    with pytest.raises(LayerError, match="use_dpu"):
        made("DeephiResize", "deephi_resize_param { use_dpu: true }", x.shape)
    with pytest.raises(LayerError, match="set both scale_h and scale_w"):
        made("DeephiResize", "deephi_resize_param { scale_h: 2 }", x.shape)
