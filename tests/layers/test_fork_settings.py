"""Fields of forks in BVLC Caffe's layer types, against plain loops."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from caffecompat.layers.fillers import fill
from caffecompat.proto.text.parser import parse_text
from tests.layers.messages import distinct, made, run
from tests.net.nets import net

Window = tuple[int, int, int, int, int]


def elements(x: np.ndarray, windows: list[Window], at: tuple[int, ...]) -> list[float]:
    """The elements of one window; each axis has (kernel, stride, pad before, after, dilation)."""
    places = []
    for axis, (kernel, stride, before, _, dilation) in enumerate(windows):
        start = at[axis] * stride - before
        inside = [start + dilation * k for k in range(kernel)]
        places.append([p for p in inside if 0 <= p < x.shape[axis]])
    return [float(x[tuple(place)]) for place in product(*places)]


def extent(size: int, window: Window, ceil: bool, clip: bool) -> int:
    kernel, stride, before, after, dilation = window
    span = size + before + after - (dilation * (kernel - 1) + 1)
    count = (-(-span // stride) if ceil else span // stride) + 1
    return count - 1 if clip and (count - 1) * stride >= size + before else count


def pooled(x: Tensor, windows: list[Window], method: str, ceil: bool = True) -> np.ndarray:
    clip = any(before or after for _, _, before, after, _ in windows)
    sizes = x.shape[2:]
    shape = [extent(n, w, ceil, clip) for n, w in zip(sizes, windows, strict=True)]
    out = np.zeros((*x.shape[:2], *shape))
    for n, c in product(range(x.shape[0]), range(x.shape[1])):
        for at in product(*map(range, shape)):
            found = elements(x[n, c].numpy(), windows, at)
            divisor = len(found)
            if method == "AVE":
                divisor = 1
                for axis, (kernel, stride, before, after, _) in enumerate(windows):
                    start = at[axis] * stride - before
                    divisor *= min(start + kernel, sizes[axis] + after) - start
            place = (n, c, *at)
            out[place] = max(found) if method == "MAX" else sum(found) / divisor
    return out


@pytest.mark.parametrize("method", ["MAX", "AVE", "AVE_EXC_PAD"])
@pytest.mark.parametrize("sides", [(0, 1, 0, 1), (1, 0, 2, 1), (1, 1, 1, 1), (2, 0, 1, 2)])
@pytest.mark.parametrize("ceil", [True, False])
def test_pooling_with_a_padding_for_each_side(
    method: str, sides: tuple[int, int, int, int], ceil: bool
) -> None:
    top, bottom, left, right = sides
    x = distinct((2, 2, 7, 6), seed=3)
    text = (
        f"pooling_param {{ pool: {method} kernel_size: 3 stride: 2 ceil_mode: {str(ceil).lower()} "
        f"pad_t: {top} pad_b: {bottom} pad_l: {left} pad_r: {right} }}"
    )
    windows = [(3, 2, top, bottom, 1), (3, 2, left, right, 1)]
    (y,) = run("Pooling", text, x)
    np.testing.assert_allclose(y, pooled(x, windows, method, ceil), atol=1e-12)


def test_pooling_without_the_padding_in_the_divisor() -> None:
    x = distinct((1, 2, 5, 6), seed=4)
    for pad in (1, 2):
        text = f"pooling_param {{ pool: AVE_TF kernel_size: 3 stride: 2 pad: {pad} }}"
        (y,) = run("Pooling", text, x)
        windows = [(3, 2, pad, pad, 1)] * 2
        np.testing.assert_allclose(y, pooled(x, windows, "AVE_EXC_PAD"), atol=1e-12)


@pytest.mark.parametrize(
    ("text", "shape", "windows"),
    [
        (
            "kernel_size: [2, 3, 2] stride: [1, 2, 2] pad: [0, 1, 1]",
            (1, 2, 3, 5, 4),
            [(2, 1, 0, 0, 1), (3, 2, 1, 1, 1), (2, 2, 1, 1, 1)],
        ),
        ("kernel_size: 2 stride: [1, 2, 2]", (2, 1, 3, 4, 5), [(2, s, 0, 0, 1) for s in (1, 2, 2)]),
        ("kernel_size: 3 stride: 2 pad: 1 dilation: 1", (2, 3, 7), [(3, 2, 1, 1, 1)]),
    ],
)
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_pooling_over_other_numbers_of_axes(
    text: str, shape: tuple[int, ...], windows: list[Window], method: str
) -> None:
    x = distinct(shape, seed=5)
    (y,) = run("Pooling", f"pooling_param {{ pool: {method} {text} }}", x)
    np.testing.assert_allclose(y, pooled(x, windows, method), atol=1e-12)


def test_pooling_with_gaps_in_its_windows() -> None:
    x = distinct((1, 2, 9, 8), seed=6)
    (y,) = run("Pooling", "pooling_param { kernel_size: 3 stride: 1 dilation: [2, 3] }", x)
    np.testing.assert_allclose(y, pooled(x, [(3, 1, 0, 0, 2), (3, 1, 0, 0, 3)], "MAX"))
    with pytest.raises(LayerError, match="dilation is for MAX pooling only"):
        made("Pooling", "pooling_param { pool: AVE kernel_size: 3 dilation: 2 }", x.shape)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kernel_size: 3 pad: 1 pad_l: 1", "pad_l, pad_r, pad_t and pad_b are for two spatial"),
        ("kernel_size: 2 pad_l: 2", "must be smaller than the kernel"),
        ("kernel_size: [2, 2, 2]", "kernel_size is given 3 times for 2 spatial axes"),
        ("kernel_size: 2 axis: 2", "axis is 2, the channels must be along axis 1"),
    ],
)
def test_pooling_settings_that_contradict(text: str, sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        made("Pooling", f"pooling_param {{ {text} }}", (1, 2, 6, 6))


@pytest.mark.parametrize("sides", [(0, 1, 2, 0), (1, 0, 0, 3), (0, -1, 2, 1)])
def test_convolution_and_deconvolution_with_a_padding_for_each_side(
    sides: tuple[int, int, int, int],
) -> None:
    top, bottom, left, right = sides
    x = distinct((2, 2, 6, 5), seed=7)
    padding = f"pad_t: {top} pad_b: {bottom} pad_l: {left} pad_r: {right}"
    text = f"convolution_param {{ num_output: 3 kernel_size: 3 stride: 2 {padding} }}"
    weight, bias = distinct((3, 2, 3, 3), seed=8), distinct((3,), seed=9)
    (y,) = run("Convolution", text, x, parameters=[weight, bias])
    whole = np.pad(x.numpy(), [(0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (left, right)])
    whole = whole[:, :, : whole.shape[2] + min(bottom, 0)]
    rows, columns = (whole.shape[2] - 3) // 2 + 1, (whole.shape[3] - 3) // 2 + 1
    assert y.shape == (2, 3, rows, columns)
    for n, o, i, j in product(range(2), range(3), range(rows), range(columns)):
        patch = whole[n, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        expected = (patch * weight[o].numpy()).sum() + float(bias[o])
        assert abs(float(y[n, o, i, j]) - expected) < 1e-9
    if min(sides) < 0:
        return
    weight = distinct((2, 3, 3, 3), seed=8)
    (back,) = run("Deconvolution", text, x, parameters=[weight, bias])
    plain = "convolution_param { num_output: 3 kernel_size: 3 stride: 2 }"
    (full,) = run("Deconvolution", plain, x, parameters=[weight, bias])
    height, width = full.shape[2:]
    assert torch.equal(back, full[:, :, top : height - bottom, left : width - right])


def test_relu6() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 3.0, 6.0, 7.5], dtype=torch.float64)
    (y,) = run("ReLU", "relu_param { relu6: true negative_slope: 0.5 }", x)
    assert y.tolist() == [-1, -0.25, 0, 3, 6, 6]
    assert run("ReLU", "", x)[0][-1] == 7.5


def test_dropout_that_scales_in_the_test_phase() -> None:
    x = distinct((4, 5), seed=2)
    text = "dropout_param { dropout_ratio: 0.4 scale_train: false }"
    (tested,) = run("Dropout", text, x, phase="TEST")
    torch.testing.assert_close(tested, x * (1 - torch.tensor(0.4).item()), rtol=0, atol=1e-7)
    (trained,) = run("Dropout", text, x)
    kept = trained != 0
    assert torch.equal(trained[kept], x[kept])
    assert 0 < int(kept.sum()) < x.numel()


def test_dropout_that_samples_in_the_test_phase() -> None:
    x = torch.ones(2000, dtype=torch.float64)
    text = "dropout_param { dropout_ratio: 0.25 sample_weights_test: true }"
    (y,) = run("Dropout", text, x, phase="TEST")
    assert set(y.tolist()) == {0, 1 / 0.75}
    assert 0.2 < float((y == 0).double().mean()) < 0.3


def test_pixel_shuffle() -> None:
    x = distinct((2, 8, 3, 2), seed=1)
    (y,) = run("Reshape", "reshape_param { pixelshuffler: 2 }", x)
    assert y.shape == (2, 2, 6, 4)
    for n, c, h, w in product(range(2), range(8), range(3), range(2)):
        assert y[n, c // 4, 2 * h + c % 4 // 2, 2 * w + c % 2] == x[n, c, h, w]


def test_inner_product_with_rows_of_norm_1() -> None:
    x, weight, top = distinct((3, 4), seed=1), distinct((2, 4), seed=2), distinct((3, 2), seed=3)
    text = "inner_product_param { num_output: 2 bias_term: false normalize: true }"
    before = weight.clone()
    weight.requires_grad_()
    (y,) = run("InnerProduct", text, x, parameters=[weight])
    unit = before / (before.square().sum(1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(y, x @ unit.t())
    torch.testing.assert_close(weight.detach(), unit)
    y.backward(top)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, top.t() @ x)
    kept = before.clone()
    (tested,) = run("InnerProduct", text, x, parameters=[kept], phase="TEST")
    torch.testing.assert_close(tested, x @ unit.t())
    assert torch.equal(kept, before)


def test_inner_product_with_more_axes() -> None:
    text = "inner_product_param { num_output: 2 bias_term: false min_top_axes: 4 }"
    (y,) = run("InnerProduct", text, distinct((3, 5)), parameters=[distinct((2, 5))])
    assert y.shape == (3, 2, 1, 1)


def test_loss_with_class_weights() -> None:
    x, labels = distinct((4, 3), seed=1), torch.tensor([0.0, 2, 1, 2], dtype=torch.float64)
    text = (
        "loss_param { weight_by_label_freqs: true class_weighting: 0.5 class_weighting: 2 "
        "class_weighting: 3 ignore_label: 1 }"
    )
    x.requires_grad_()
    (loss,) = run("SoftmaxWithLoss", text, x, labels)
    loss.backward()
    p = np.exp(x.detach().numpy())
    p /= p.sum(1, keepdims=True)
    weights = np.array([0.5, 3, 0, 3])
    at = p[range(4), [0, 2, 1, 2]]
    assert abs(float(loss.detach()) + (weights * np.log(at)).sum() / 3) < 1e-9
    expected = p.copy()
    expected[range(4), [0, 2, 1, 2]] -= 1
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, expected * weights[:, None] / 3, atol=1e-9)


@pytest.mark.parametrize("type_name", ["SoftmaxWithLoss", "SigmoidCrossEntropyLoss"])
def test_loss_with_a_divisor_of_its_own(type_name: str) -> None:
    x = distinct((4, 3), seed=1)
    second = torch.ones(4 if type_name == "SoftmaxWithLoss" else (4, 3), dtype=torch.float64)
    (whole,) = run(type_name, "loss_param { normalization: NONE }", x, second)
    text = "loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 8 }"
    (loss,) = run(type_name, text, x, second)
    torch.testing.assert_close(loss, whole / 8)


def test_accuracy_of_distances() -> None:
    x = torch.tensor([[3.0, 1, 2], [0.5, 4, 1]])
    labels = torch.tensor([1.0, 2])
    assert float(run("Accuracy", "accuracy_param { min_is_better: true }", x, labels)[0]) == 0.5
    assert float(run("Accuracy", "", x, labels)[0]) == 0


def test_filled_parameter() -> None:
    built = net(
        "layer { name: 'p' type: 'Parameter' top: 'p' parameter_param { shape { dim: 2 } "
        "blob_filler { type: 'constant' value: 3 } } }"
    )
    assert built.params["p"][0].data.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        ("type: 'diagonal' diag_val: 4", (2, 3, 1, 2), {(0, 0): 2.0, (1, 1): 0.5}),
        ("type: 'identity'", (2, 2), {(0, 0): 1.0, (1, 1): 1.0}),
    ],
)
def test_fillers_of_forks(
    text: str, shape: tuple[int, ...], expected: dict[tuple[int, int], float]
) -> None:
    message = parse_text(text, "FillerParameter")[0]
    values = fill(message, shape, torch.Generator())
    wanted = torch.zeros(shape)
    for place, value in expected.items():
        wanted[place] = value
    assert torch.equal(values, wanted)


def test_rows_of_norm_1() -> None:
    message = parse_text("type: 'gaussian_unitball'", "FillerParameter")[0]
    values = fill(message, (5, 3, 2), torch.Generator().manual_seed(1))
    torch.testing.assert_close(values.flatten(1).norm(dim=1), torch.ones(5))


def test_memory_data_of_any_shape() -> None:
    built = net(
        "layer { name: 'm' type: 'MemoryData' top: 'd' memory_data_param { dim: [2, 3, 4] } }"
    )
    assert built.blobs["d"].shape == (2, 3, 4)
