"""Values and gradients that are easily got wrong, by hand."""

from __future__ import annotations

from math import log, tanh
from pathlib import Path

import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from caffecompat.proto.schema import new
from tests.layers.messages import distinct, made, run
from tests.layers.single import call


def gradient(type_name: str, text: str, values: list[float]) -> list[float]:
    x = torch.tensor([values], requires_grad=True)
    (y,) = run(type_name, text, x)
    y.sum().backward()
    assert x.grad is not None
    return [round(g, 6) for g in x.grad[0].tolist()]


@pytest.mark.parametrize(
    ("type_name", "text", "expected"),
    [
        ("ReLU", "", [0, 0, 1]),
        ("ReLU", "relu_param { negative_slope: 0.5 }", [0.5, 0.5, 1]),
        ("ELU", "elu_param { alpha: -0.5 }", [-0.18394, -0.5, 1]),
        ("AbsVal", "", [-1, 0, 1]),
        ("Clip", "clip_param { min: -1 max: 0 }", [1, 1, 0]),
        ("Clip", "clip_param { min: 0 max: -1 }", [0, 0, 0]),
    ],
)
def test_gradients_at_kinks(type_name: str, text: str, expected: list[float]) -> None:
    assert gradient(type_name, text, [-1.0, 0.0, 1.0]) == expected


def test_prelu_takes_the_slope_at_zero() -> None:
    x = torch.tensor([[-1.0, 0.0, 1.0]], requires_grad=True)
    slope = torch.tensor([0.1, 0.2, 0.3])
    (y,) = run("PReLU", "", x, parameters=[slope])
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.tensor([[0.1, 0.2, 1.0]]))


def test_clip_with_min_above_max_gives_min() -> None:
    (y,) = run("Clip", "clip_param { min: 2 max: 1 }", torch.tensor([0.0, 1.5, 3.0]))
    assert y.tolist() == [2, 2, 2]


def test_exp_with_a_shift_that_no_number_holds() -> None:
    (y,) = run("Exp", "exp_param { base: 10 shift: 1e23 }", torch.tensor([[-1.0, 2.0]]))
    assert y.tolist() == [[float("inf"), float("inf")]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("power: 0", 1),
        ("power: 0 shift: 0 scale: 0", 1),
        ("power: 3 scale: 0 shift: 2", 8),
        ("power: 3 scale: 0", 0),
    ],
)
def test_power_without_its_bottom_is_constant(text: str, expected: float) -> None:
    (y,) = run("Power", f"power_param {{ {text} }}", torch.tensor([0.0, 2.0, float("inf")]))
    assert y.tolist() == [expected] * 3


def test_eltwise_ties() -> None:
    bottoms = [torch.zeros(2, requires_grad=True) for _ in range(3)]
    (y,) = run("Eltwise", "eltwise_param { operation: MAX }", *bottoms)
    y.sum().backward()
    gradients = [b.grad for b in bottoms]
    assert all(g is not None for g in gradients)
    assert [g.tolist() for g in gradients if g is not None] == [[0, 0], [1, 1], [0, 0]]


def test_arg_max_ties_go_to_the_larger_index() -> None:
    x = torch.tensor([[1.0, 3.0, 3.0, 2.0, 3.0]])
    assert run("ArgMax", "", x)[0].tolist() == [[[4]]]
    text = "argmax_param { top_k: 3 out_max_val: true }"
    assert run("ArgMax", text, x)[0].tolist() == [[[4, 2, 1], [3, 3, 3]]]


def test_arg_max_of_fewer_values_than_top_k_is_refused_in_a_later_pass_too() -> None:
    layer = made("ArgMax", "argmax_param { top_k: 30 }", (5, 3, 2, 5))
    with pytest.raises(LayerError, match="top_k is 30, but there are 10 values"):
        layer.forward(torch.zeros(5, 1, 2, 5))


@pytest.mark.parametrize(
    ("type_name", "text"),
    [
        ("Clip", "clip_param { min: -1 max: 1 }"),
        ("ReLU", "relu_param { negative_slope: 0.5 }"),
        ("ArgMax", "argmax_param { axis: 1 out_max_val: true }"),
        ("SPP", "spp_param { pyramid_height: 1 }"),
        ("Exp", "exp_param { scale: 0 }"),
    ],
)
def test_a_value_that_is_no_number_is_not_hidden(type_name: str, text: str) -> None:
    """docs/deviations.md: here Caffe passes over NaN, or makes 0 of it."""
    x = torch.tensor([0.5, float("nan"), -2]).view(1, 3, 1, 1)
    (y,) = run(type_name, text, x)
    assert y.isnan().any()
    assert run("ReLU", "", torch.tensor([-float("inf")]))[0].item() == 0


def test_dropout_keeps_its_share_and_scales() -> None:
    x = torch.ones(200, 500)
    (y,) = run("Dropout", "dropout_param { dropout_ratio: 0.3 }", x)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (y == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert y.double().mean().item() == pytest.approx(1, abs=0.01)


def test_dropout_depends_on_pass_and_name_only() -> None:
    x = torch.ones(3, 50)
    layer, again = made("Dropout", "", (3, 50)), made("Dropout", "", (3, 50))
    first = layer.forward(x)
    assert torch.equal(first, again.forward(x))
    assert not torch.equal(first[0], first[1])
    assert layer.noise is not None
    layer.noise.position += 1
    assert not torch.equal(first, layer.forward(x))


def test_dropout_is_identity_in_test() -> None:
    x = distinct((3, 5))
    assert run("Dropout", "", x, phase="TEST")[0] is x


@pytest.mark.parametrize("size", [5, 7, 2**31 - 1])
def test_lrn_sums_no_more_channels_than_there_are(size: int) -> None:
    """A window of 2^31 channels would take hours, one beyond all channels takes no longer."""
    x = distinct((2, 3, 4, 5))
    text = "lrn_param {{ local_size: {} alpha: {} beta: 0.5 k: 2 }}"
    total = (x * x).sum(1, keepdim=True)
    (y,) = run("LRN", text.format(size, size), x)
    torch.testing.assert_close(y, x / (2 + total).sqrt())


def test_lrn_divides_by_the_whole_window_at_borders() -> None:
    x = torch.full((1, 3, 1, 1), 2.0)
    text = "lrn_param { local_size: 5 alpha: 5 beta: 1 k: 2 }"
    assert run("LRN", text, x)[0].flatten().tolist() == pytest.approx([2 / 14] * 3)
    text = "lrn_param { local_size: 3 alpha: 9 beta: 1 k: 7 norm_region: WITHIN_CHANNEL }"
    assert run("LRN", text, x)[0].flatten().tolist() == pytest.approx([2 / 5] * 3)


def test_mvn_gradient_leaves_eps_out() -> None:
    x = distinct((2, 3, 4, 5)).requires_grad_()
    top_gradient = distinct((2, 3, 4, 5), seed=1)
    (y,) = run("MVN", "mvn_param { eps: 0.5 }", x)
    y.backward(top_gradient)

    def mean(values: Tensor) -> Tensor:
        return values.mean((2, 3), keepdim=True)

    deviation = (x - mean(x)).square().mean((2, 3), keepdim=True).sqrt() + 0.5
    expected = (top_gradient - mean(top_gradient) - y * mean(top_gradient * y)) / deviation
    assert x.grad is not None
    assert torch.allclose(x.grad, expected.detach())


def test_recurrent_state_continues_and_is_dropped() -> None:
    layer = made("LSTM", "recurrent_param { num_output: 3 }", (4, 2, 5), (4, 2))
    parameters = [distinct(spec.shape, seed) for seed, spec in enumerate(layer.specs)]
    x = distinct((4, 2, 5))
    going_on = torch.ones(4, 2, dtype=torch.float64)
    first = call(layer, [x, going_on], parameters)[0]
    second = call(layer, [x, going_on], parameters)[0]
    assert not torch.allclose(first, second)
    beginning = going_on.clone()
    beginning[0] = 0
    third = call(layer, [x, beginning], parameters)[0]
    assert torch.allclose(first, third)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("frozen", [(), (0, 1), (-1,)], ids=["all", "weights frozen", "x frozen"])
@pytest.mark.parametrize("type_name", ["LSTM", "RNN"])
def test_a_run_in_one_operator_is_what_its_steps_are(
    type_name: str, frozen: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    cont = torch.ones(22, 2, dtype=dtype)
    cont[0], cont[4, 1], cont[9, 0] = 0, 0, 0.25

    def values_and_gradients() -> list[Tensor]:
        layer = made(type_name, "recurrent_param { num_output: 3 }", (22, 2, 5), (22, 2))
        leaves = [distinct(spec.shape, seed).to(dtype) for seed, spec in enumerate(layer.specs)]
        leaves.append(distinct((22, 2, 5), seed=9).to(dtype))
        for leaf in leaves:
            leaf.requires_grad_()
        for i in frozen:
            leaves[i].requires_grad_(False)
        tops = [call(layer, [leaves[-1], cont], leaves[:-1])[0] for _ in range(2)]
        given = [distinct(y.shape, seed).to(dtype) for seed, y in enumerate(tops)]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        return [*tops, *torch.autograd.grad(tops, wanted, given)]

    layer = f"caffecompat.layers.{type_name.lower()}.{type_name}"
    with monkeypatch.context() as in_runs:
        in_runs.setattr(f"{layer}.min_run_length", 4)
        in_runs.delattr(f"{layer}.step")
        by_runs = values_and_gradients()
    monkeypatch.setattr(f"{layer}.min_run_length", 100)
    monkeypatch.delattr(f"{layer}.run")
    for expected, found in zip(values_and_gradients(), by_runs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_maximum_chooses_also_where_values_are_not_finite(dtype: torch.dtype) -> None:
    inf, nan = float("inf"), float("nan")
    a = torch.tensor([2, 0, 1, nan, 1, inf, -0.0], dtype=dtype, requires_grad=True)
    b = torch.tensor([1, 3, 1, 1, nan, 1, 0.0], dtype=dtype, requires_grad=True)
    (y,) = run("Eltwise", "eltwise_param { operation: MAX }", a, b)
    assert str(y.tolist()) == "[2.0, 3.0, 1.0, 1.0, nan, inf, 0.0]"
    diff = torch.tensor([inf, nan, 1, 2, 3, 4, -inf], dtype=dtype)
    of_a, of_b = torch.autograd.grad(y, (a, b), diff)
    assert str(of_a.tolist()) == "[inf, 0.0, 0.0, 0.0, 0.0, 4.0, 0.0]"
    assert str(of_b.tolist()) == "[0.0, nan, 1.0, 2.0, 3.0, 0.0, -inf]"


def test_maximum_of_bottoms_of_two_types() -> None:
    a, b = torch.tensor([1.5, 2.5]).bfloat16(), torch.tensor([2.5, 1.5])
    (y,) = run("Eltwise", "eltwise_param { operation: MAX }", a, b)
    assert y.tolist() == [2.5, 2.5]


def test_reshape_of_an_empty_batch() -> None:
    layer = made("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }", (2, 3, 4))
    assert call(layer, [distinct((0, 3, 4))], [])[0].shape == (0, 12)
    with pytest.raises(LayerError, match="2x3x4 has 24 elements and cannot be reshaped to -1x7"):
        made("Reshape", "reshape_param { shape { dim: -1 dim: 7 } }", (2, 3, 4))


@pytest.mark.parametrize("type_name", ["SoftmaxWithLoss", "InfogainLoss"])
def test_losses_of_16_bits_are_computed_in_32(type_name: str) -> None:
    scores, labels = distinct((6, 40)).bfloat16(), torch.arange(6.0)
    bottoms = [scores, labels, torch.eye(40)][: 3 if type_name == "InfogainLoss" else 2]
    with torch.autocast("cpu", torch.bfloat16):
        (loss,) = run(type_name, "", *bottoms)
    expected = torch.nn.functional.cross_entropy(scores.float(), labels.long())
    torch.testing.assert_close(loss, expected)


def test_infogain_matrix_of_a_file_keeps_its_bits(tmp_path: Path) -> None:
    matrix = new("BlobProto")
    matrix.data.extend([0.1, 0.0, 0.0, 0.1])
    (tmp_path / "h.binaryproto").write_bytes(matrix.SerializeToString())
    text = f'infogain_loss_param {{ source: "{tmp_path}/h.binaryproto" }}'
    (loss,) = run("InfogainLoss", text, torch.zeros(1, 2).bfloat16(), torch.zeros(1))
    assert loss.item() == pytest.approx(0.1 * log(2), rel=1e-6)


def test_accuracy_counts_many_classes_in_16_bits() -> None:
    scores = torch.zeros(1, 300, dtype=torch.bfloat16)
    (share,) = run("Accuracy", "accuracy_param { top_k: 299 }", scores, torch.zeros(1))
    assert share.item() == 0, "299 others are as good"


def test_recurrent_state_continues_with_a_bottom_of_16_bits() -> None:
    layer = made("LSTM", "recurrent_param { num_output: 3 }", (4, 2, 5), (4, 2))
    parameters = [distinct(spec.shape, seed).float() for seed, spec in enumerate(layer.specs)]
    bottoms = [distinct((4, 2, 5)).bfloat16(), torch.ones(4, 2)]
    with torch.autocast("cpu", torch.bfloat16):
        first, second = (call(layer, bottoms, parameters)[0] for _ in range(2))
    assert first.dtype == torch.float32
    assert not torch.allclose(first, second)


def test_recurrent_layers_take_another_number_of_streams() -> None:
    layer = made("RNN", "recurrent_param { num_output: 3 }", (4, 2, 5), (4, 2))
    parameters = [distinct(spec.shape, seed) for seed, spec in enumerate(layer.specs)]
    for streams in (2, 3):
        x, cont = distinct((4, streams, 5)), torch.ones(4, streams, dtype=torch.float64)
        assert call(layer, [x, cont], parameters)[0].shape == (4, streams, 3)


def test_streams_keep_their_states_while_there_are_fewer() -> None:
    layer = made("RNN", "recurrent_param { num_output: 1 }", (1, 2, 1), (1, 2))
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    parameters = [one, zero, one, one, zero]

    def states(*values: float) -> list[float]:
        """h of each stream after a step of these values, from the top tanh(h)."""
        x = torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1)
        top = call(layer, [x, torch.ones(1, len(values), dtype=torch.float64)], parameters)[0]
        return top.atanh().flatten().tolist()

    assert states(0.5, -0.3) == pytest.approx([tanh(0.5), tanh(-0.3)])
    assert states(0.25) == pytest.approx([tanh(0.25 + tanh(0.5))])
    first = tanh(tanh(0.25 + tanh(0.5)))
    assert states(0, 0) == pytest.approx([first, tanh(tanh(-0.3))])
    assert states(0, 0, 1) == pytest.approx([0, 0, tanh(1)])


def test_names_of_recurrent_parameters_follow_their_number() -> None:
    layer = made("LSTM", "recurrent_param { num_output: 3 }", (4, 2, 5), (4, 2), (2, 7))
    names = [spec.name for spec in layer.specs]
    assert names == ["weight_x", "bias", "weight_x_static", "weight_h"]
    assert type(layer).parameter_names(4) == names
    assert type(layer).parameter_names(3) == ["weight_x", "bias", "weight_h"]


def test_multiply_adds_of_a_sequence() -> None:
    layer = made("LSTM", "recurrent_param { num_output: 3 }", (4, 2, 5), (4, 2), (2, 7))
    per_step, once = 12 * 5 + 12 * 3, 12 * 7
    assert layer.multiply_adds([(4, 2, 5), (4, 2), (2, 7)], [(4, 2, 3)]) == 2 * (
        4 * per_step + once
    )


def test_split_tops_hold_gradients_of_their_own() -> None:
    x = distinct((2, 3)).requires_grad_()
    a, b = run("Split", "", x, tops=2)
    given = (torch.ones_like(x), 2 * torch.ones_like(x))
    (total,) = torch.autograd.grad((a, b), x, given)
    assert a is not b
    assert torch.equal(total, 3 * torch.ones_like(x))


@pytest.mark.parametrize(
    ("type_name", "text", "first", "second"),
    [
        ("Flatten", "", (2, 3, 4, 5), (3, 2, 6, 7)),
        ("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", (1, 2, 5, 6), (3, 2, 8, 7)),
        ("Slice", "", (2, 4), (3, 6)),
        ("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }", (2, 3, 4), (3, 5, 2)),
        ("SPP", "spp_param { pyramid_height: 2 }", (1, 2, 5, 6), (2, 3, 9, 7)),
        ("MVN", "", (2, 3, 4, 5), (1, 2, 5, 3)),
        ("Reduction", "reduction_param { operation: MEAN axis: 1 }", (2, 3, 4), (3, 5, 2)),
    ],
)
def test_inputs_of_another_size(
    type_name: str, text: str, first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    tops = 2 if type_name == "Slice" else 1
    x = distinct(second)
    resized = call(made(type_name, text, first, tops=tops), [x], [])
    fresh = run(type_name, text, x, tops=tops)
    assert all(torch.equal(a, b) for a, b in zip(resized, fresh, strict=True))


def test_arg_max_of_one_axis_looks_at_single_values() -> None:
    x = torch.tensor([4.0, -1.0, 2.0])
    assert run("ArgMax", "", x)[0].tolist() == [[[0]], [[0]], [[0]]]
    text = "argmax_param { out_max_val: true }"
    assert run("ArgMax", text, x)[0].tolist() == [[[0], [4]], [[0], [-1]], [[0], [2]]]
    text = "argmax_param { axis: 0 top_k: 2 }"
    assert run("ArgMax", text, x)[0].tolist() == [0, 2]
    with pytest.raises(LayerError, match="the bottom has no axes"):
        made("ArgMax", "", ())


@pytest.mark.parametrize(("type_name", "expected"), [("Scale", [3, 6]), ("Bias", [4, 5])])
def test_a_second_bottom_without_axes_needs_no_axis(type_name: str, expected: list[float]) -> None:
    """The default axis 1 does not exist in this bottom."""
    (y,) = run(type_name, "", torch.tensor([1.0, 2.0]), torch.tensor(3.0))
    assert y.tolist() == expected


def test_scale_with_a_bias_checks_the_axis_of_a_second_bottom_without_axes() -> None:
    with pytest.raises(LayerError, match="axis is 1"):
        run("Scale", "scale_param { bias_term: true }", torch.zeros(2), torch.tensor(3.0))
