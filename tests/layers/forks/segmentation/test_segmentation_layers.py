"""Fork layers for dense prediction, against loops over their definitions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.errors import CaffeError, LayerError
from caffecompat.layers import BuildOptions, Context, catalogue
from caffecompat.layers._counter_rng import Noise
from caffecompat.proto.text.parser import parse_text
from tests.layers.messages import distinct, made, message, run
from tests.layers.single import call

PSPNET, SEGNET = "BN (DeepLab, PSPNet, TSN)", "BN (SegNet, ENet)"


@pytest.mark.parametrize(
    ("text", "tops", "chosen"),
    [
        ("bn_param { slope_filler { value: 1 } }", 1, PSPNET),
        ("bn_param { frozen: true }", 1, PSPNET),
        ("param { } param { } param { } param { }", 1, PSPNET),
        ("bn_param { scale_filler { value: 1 } }", 1, SEGNET),
        ("bn_param { bn_mode: INFERENCE } param { } param { }", 1, SEGNET),
        ("", 3, SEGNET),
    ],
)
def test_fields_tell_which_bn_is_meant(text: str, tops: int, chosen: str) -> None:
    layer = message("BN", text, tops)
    assert catalogue.choose(layer) is catalogue.find(chosen)


def test_nothing_tells_which_bn_is_meant() -> None:
    with pytest.raises(LayerError, match=r"several forks .*'BN'.*dialect="):
        catalogue.choose(message("BN", "param { } param { }"))
    assert catalogue.choose(message("BN"), "segnet") is catalogue.find(SEGNET)
    assert catalogue.choose(message("BN"), "pspnet") is catalogue.find(PSPNET)


def test_bn_of_pspnet() -> None:
    x = distinct((2, 3, 2, 4))
    slope, bias, mean = (distinct((1, 3, 1, 1), seed) for seed in (1, 2, 3))
    variance = distinct((1, 3, 1, 1), 4).abs() + 0.5
    given = (slope, bias, mean, variance)
    wanted = (x - mean) / (variance + 1e-3).sqrt() * slope + bias
    for text, phase in (("eps: 1e-3", "TEST"), ("eps: 1e-3 frozen: true", "TRAIN")):
        (y,) = run(PSPNET, f"bn_param {{ {text} }}", x, parameters=given, phase=phase)
        torch.testing.assert_close(y, wanted)
    kept = [p.clone() for p in given]
    (y,) = run(PSPNET, "bn_param { momentum: 0.75 eps: 1e-3 }", x, parameters=kept)
    values = x.transpose(0, 1).reshape(3, -1).numpy()
    for c in range(3):
        m, v = values[c].mean(), values[c].var()
        found = (values[c] - m) / np.sqrt(v + 1e-3) * float(slope[0, c]) + float(bias[0, c])
        np.testing.assert_allclose(y.transpose(0, 1)[c].flatten(), found)
        np.testing.assert_allclose(kept[2][0, c], 0.75 * mean[0, c] + 0.25 * m)
        np.testing.assert_allclose(kept[3][0, c], 0.75 * variance[0, c] + 0.25 * v)


def test_parameters_of_a_frozen_bn_are_not_learned() -> None:
    for text, learned in (
        ("frozen: true", [False] * 4),
        ("momentum: 0", [True, True, False, False]),
    ):
        layer = made(PSPNET, f"bn_param {{ {text} }}", (2, 3, 4, 4))
        assert [spec.learned for spec in layer.specs] == learned
        assert all(spec.shape == (1, 3, 1, 1) for spec in layer.specs)


def test_bn_of_segnet() -> None:
    x = distinct((2, 3, 2, 4))
    scale, shift = distinct((1, 3, 1, 1), 1), distinct((1, 3, 1, 1), 2)
    y, mean, variance = run(
        SEGNET, "bn_param { bn_mode: LEARN }", x, parameters=(scale, shift), tops=3, phase="TEST"
    )
    values = x.transpose(0, 1).reshape(3, -1).numpy()
    for c in range(3):
        m = values[c].mean()
        v = (values[c] ** 2).mean() - m * m
        found = (values[c] - m) / np.sqrt(v + 1e-9) * float(scale[0, c]) + float(shift[0, c])
        np.testing.assert_allclose(y.transpose(0, 1)[c].flatten(), found)
        np.testing.assert_allclose([mean[0, c].item(), variance[0, c].item()], [m, v])
    (y,) = run(SEGNET, "bn_param { bn_mode: INFERENCE }", x, parameters=(scale, shift))
    torch.testing.assert_close(y, x * scale + shift)


def resized(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation with aligned corners, pixel by pixel."""
    h, w = plane.shape
    result = np.zeros((height, width))
    for i, j in product(range(height), range(width)):
        y = i * (h - 1) / (height - 1) if height > 1 else 0.0
        x = j * (w - 1) / (width - 1) if width > 1 else 0.0
        top, left = int(y), int(x)
        below, right = min(top + 1, h - 1), min(left + 1, w - 1)
        dy, dx = y - top, x - left
        result[i, j] = (1 - dy) * ((1 - dx) * plane[top, left] + dx * plane[top, right]) + dy * (
            (1 - dx) * plane[below, left] + dx * plane[below, right]
        )
    return result


@pytest.mark.parametrize(
    ("text", "height", "width"),
    [
        ("height: 9 width: 4", 9, 4),
        ("zoom_factor: 3", 13, 16),
        ("shrink_factor: 2", 3, 3),
        ("shrink_factor: 2 zoom_factor: 3", 7, 7),
        ("shrink_factor: 2 height: 9 width: 9", 3, 3),
        ("shrink_factor: 2 zoom_factor: 3 height: 2 width: 8", 2, 8),
        ("height: 1 width: 1", 1, 1),
        ("height: 5 width: 6", 5, 6),
    ],
)
def test_sizes_and_values_of_interp(text: str, height: int, width: int) -> None:
    x = distinct((2, 2, 5, 6))
    (y,) = run("Interp", f"interp_param {{ {text} }}", x)
    for n, c in product(range(2), range(2)):
        np.testing.assert_allclose(y[n, c], resized(x[n, c].numpy(), height, width), atol=1e-12)


def test_interp_crops_and_takes_the_size_of_a_second_bottom() -> None:
    x = distinct((1, 1, 6, 7))
    (y,) = run("Interp", "interp_param { pad_beg: -1 pad_end: -2 zoom_factor: 2 }", x)
    np.testing.assert_allclose(y[0, 0], resized(x[0, 0, 1:4, 1:5].numpy(), 5, 7), atol=1e-12)
    (y,) = run("Interp", "interp_param { }", x, torch.zeros(3, 5, 4, 9))
    np.testing.assert_allclose(y[0, 0], resized(x[0, 0].numpy(), 4, 9), atol=1e-12)
    with pytest.raises(LayerError, match="no output size"):
        made("Interp", "", (1, 1, 6, 7))
    with pytest.raises(LayerError, match="they crop"):
        made("Interp", "interp_param { pad_beg: 1 height: 2 width: 2 }", (1, 1, 6, 7))


def test_the_dialect_openvino_zooms_by_whole_pixels() -> None:
    text = """input: 'x' input_shape { dim: 1 dim: 1 dim: 4 dim: 5 }
    layer { name: 'r' type: 'Interp' bottom: 'x' top: 'y' interp_param { zoom_factor: 2 } }"""
    definition, _ = parse_text(text, "NetParameter")
    assert Net(definition).blobs["y"].shape == (1, 1, 7, 9)
    assert Net(definition, dialect="openvino").blobs["y"].shape == (1, 1, 8, 10)


def test_pooled_values_go_back_to_where_they_came_from() -> None:
    x = distinct((2, 3, 5, 6))
    pooled, mask = run("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", x, tops=2)
    text = 'bottom: "a" bottom: "b" upsample_param { upsample_h: 5 upsample_w: 6 }'
    (y,) = run("Upsample (SegNet)", text, pooled, mask)
    wanted = np.zeros((2, 3, 5, 6))
    for n, c, i, j in np.ndindex(*pooled.shape):
        row, column = divmod(int(mask[n, c, i, j]), 6)
        wanted[n, c, row, column] = pooled[n, c, i, j]
    np.testing.assert_array_equal(y, wanted)
    assert (y[wanted != 0] == x[wanted != 0]).all()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", (6, 8)),
        ("scale: 3", (9, 12)),
        ("scale_h: 2 scale_w: 3", (6, 12)),
        ("scale: 2 pad_out_h: true", (5, 8)),
        ("scale: 2 pad_out_w: true", (6, 7)),
    ],
)
def test_sizes_of_the_upsample_with_a_mask(text: str, size: tuple[int, int]) -> None:
    given = (torch.ones(1, 1, 3, 4), torch.zeros(1, 1, 3, 4))
    (y,) = run("Upsample (SegNet)", f"upsample_param {{ {text} }}", *given)
    assert y.shape[2:] == size


def test_the_number_of_bottoms_tells_which_upsample_is_meant() -> None:
    for bottoms, chosen in (
        ('bottom: "a"', "Upsample (YOLOv3)"),
        ('bottom: "a" bottom: "b"', "Upsample (SegNet)"),
    ):
        assert catalogue.choose(message("Upsample", bottoms)) is catalogue.find(chosen)


def test_a_mask_of_a_larger_plane_is_refused() -> None:
    with pytest.raises(LayerError, match="the mask points outside of the top's plane 6x8"):
        run("Upsample (SegNet)", "", torch.ones(1, 1, 3, 4), torch.full((1, 1, 3, 4), 48.0))


def test_nearest_upsampling() -> None:
    x = distinct((2, 3, 2, 4))
    for name, text in (
        ("Upsample (YOLOv3)", "upsample_param { scale: 3 }"),
        ("UpsampleDarknet", "upsample_darknet_param { stride: 3 }"),
    ):
        (y,) = run(name, text, x)
        for n, c, i, j in np.ndindex(2, 3, 6, 12):
            assert y[n, c, i, j] == x[n, c, i // 3, j // 3]


def test_dice_loss_and_its_gradient() -> None:
    x, y = distinct((2, 1, 3, 4)).requires_grad_(), (distinct((2, 1, 3, 4), 1) > 0).double()
    (loss,) = run("DiceCoefLoss", "", x, y)
    parts = []
    for a, b in zip(x.detach().numpy(), y.numpy(), strict=True):
        parts.append((2 * (a * b).sum() + 1) / ((a * a).sum() + (b * b).sum() + 1))
    np.testing.assert_allclose(loss.item(), 1 - np.mean(parts))
    loss.backward()
    assert x.grad is not None
    for n, part in enumerate(parts):
        a, b = x.detach()[n], y[n]
        divisor = (a * a).sum() + (b * b).sum() + 1
        torch.testing.assert_close(x.grad[n], (2 * part * a - 2 * b) / divisor)


def test_f_measure() -> None:
    shape = (2, 1, 3, 4)
    b = torch.sigmoid(distinct(shape))
    g = (distinct(shape, 1) > 0).double()
    g[1] = 0
    r, p = (distinct(shape, seed).abs() for seed in (2, 3))
    loss, scores = run("WeightedFmeasureLoss", "", b, g, r, p, tops=2)
    recall = (b * g * r)[0].sum() / (g * r)[0].sum()
    precision = (b * g * p)[0].sum() / (b * p)[0].sum()
    f = 2 * recall * precision / (recall + precision)
    background = (p * b * b)[1].sum() / (2 * p[1].sum())
    torch.testing.assert_close(loss, (1 - f + background) / 2)
    torch.testing.assert_close(scores[:, 0], torch.stack((f, torch.zeros(()).double())))


def test_f_measure_with_a_margin() -> None:
    b = torch.tensor([0.9, 0.7, 0.1, 0.3]).reshape(1, 1, 2, 2)
    g = torch.tensor([1.0, 1, 0, 0]).reshape(1, 1, 2, 2)
    ones = torch.ones(1, 1, 2, 2)
    text = "weighted_fmeasure_loss_param { margin: 0.3 }"
    (loss,) = run("WeightedFmeasureLoss", text, b, g, ones, ones)
    # 0.9 and 0.1 count as right.
    recall, precision = 1.7 / 2, 1.7 / (1.7 + 0.3)
    assert loss.item() == pytest.approx(1 - 2 * recall * precision / (recall + precision))


def test_segmentation_scores() -> None:
    scores = torch.zeros(1, 3, 1, 5)
    predicted, labels = [0, 0, 1, 1, 1], [0, 1, 1, 255, 0]
    for pixel, winner in enumerate(predicted):
        scores[0, winner, 0, pixel] = 1
    truth = torch.tensor(labels).float().reshape(1, 1, 1, 5)
    text = "seg_accuracy_param { ignore_label: 255 }"
    layer = made("SegAccuracy", text, scores.shape, truth.shape)
    for _ in range(2):
        (top,) = call(layer, (scores, truth), ())
        # Class 0: 1 of 2 pixels, union 3. Class 1: 1 of 2, union 3. Class 2 does not occur.
        np.testing.assert_allclose(top.flatten(), [2 / 4, 1 / 2, (1 / 3 + 1 / 3 + 1) / 3])
    layer = made("SegAccuracy", f"{text[:-1]} reset: false }}", scores.shape, truth.shape)
    call(layer, (scores, truth), ())
    (top,) = call(layer, (scores, torch.tensor(predicted).float().reshape(1, 1, 1, 5)), ())
    assert top.flatten()[0] == pytest.approx(7 / 9)


def test_of_equal_scores_the_last_class_wins() -> None:
    (top,) = run("SegAccuracy", "", torch.zeros(1, 3, 1, 1), torch.full((1, 1, 1, 1), 2.0))
    assert top.flatten()[0] == 1


def test_merge_crop() -> None:
    a, b = distinct((2, 1, 2, 3)).requires_grad_(), distinct((2, 2, 5, 5), 1).requires_grad_()
    (y,) = run("MergeCrop", "", a, b)
    middle = b[:, :, 1:3, 1:4]
    torch.testing.assert_close(y, torch.cat((a, middle), 1))
    y.sum().backward()
    assert b.grad is None
    assert a.grad is not None
    assert (a.grad == 1).all()
    text = "mergecrop_param { operation: ADD forward: false backward: true backward: true }"
    (y,) = run("MergeCrop", text, a, b[:, :1])
    torch.testing.assert_close(y, middle[:, :1])


NET = """
input: 'data' input_shape {{ dim: 1 dim: 1 dim: 24 dim: 26 }}
layer {{ name: 'c1' type: 'Convolution' bottom: 'data' top: 'c1'
  convolution_param {{ num_output: 1 kernel_size: 3 pad: {pad} }} }}
layer {{ name: 'r1' type: 'ReLU' bottom: 'c1' top: 'c1' }}
layer {{ name: 'p1' type: 'Pooling' bottom: 'c1' top: 'p1'
  pooling_param {{ pool: AVE kernel_size: 2 stride: 2 }} }}
layer {{ name: 'p2' type: 'Pooling' bottom: 'p1' top: 'p2'
  pooling_param {{ pool: AVE kernel_size: 2 stride: 2 }} }}
layer {{ name: 'u2' type: 'Deconvolution' bottom: 'p2' top: 'u2'
  convolution_param {{ num_output: 1 kernel_size: 4 stride: 2 }} }}
layer {{ name: 'a' type: '{crop}' bottom: 'u2' bottom: 'p1' top: 'a' }}
layer {{ name: 'u' type: 'Deconvolution' bottom: 'a' top: 'u'
  convolution_param {{ num_output: 1 kernel_size: 4 stride: 2 }} }}
layer {{ name: 'b' type: '{crop}' bottom: 'u' bottom: 'data' top: 'b' }}
"""


@pytest.mark.parametrize("crop", ["CROP", "AutoCrop"])
def test_crops_find_their_offset(crop: str) -> None:
    """An impulse that went down and up again is where it was."""
    definition, _ = parse_text(NET.format(crop=crop, pad=8), "NetParameter")
    net = Net(definition)
    assert net.blobs["a"].shape == net.blobs["p1"].shape
    assert net.blobs["b"].shape[2:] == (24, 26)
    delta = torch.zeros(1, 1, 3, 3)
    delta[0, 0, 1, 1] = 1
    # A triangle whose middle is that of the kernel: bilinear interpolation.
    side = torch.tensor([0.25, 0.75, 0.75, 0.25])
    for layer in net.layers:
        if layer.module is not None and layer.type in ("Convolution", "Deconvolution"):
            weight, bias = layer.module.blobs()
            kernel = delta if layer.type == "Convolution" else torch.outer(side, side)
            weight.data.copy_(kernel)
            bias.data.zero_()
    x = torch.zeros(1, 1, 24, 26)
    x[0, 0, 8:12, 12:16] = 1
    with torch.no_grad():
        net.forward(data=x)
    y = net.blobs["b"].data.numpy()[0, 0]
    rows, columns = np.indices(y.shape)
    centre = [(axis * y).sum() / y.sum() for axis in (rows, columns)]
    np.testing.assert_allclose(centre, [9.5, 13.5], atol=1e-4)


def test_crops_that_cannot_be_aligned() -> None:
    definition, _ = parse_text(NET.format(crop="CROP", pad=0), "NetParameter")
    first = definition.layer[0].convolution_param
    first.kernel_size[:] = [5]
    words = "between the planes of 'u' and 'data' is -1, -1; .*; give the convolutions .* more pad"
    with pytest.raises(CaffeError, match=words):
        Net(definition)
    first.pad[:] = [1]
    assert Net(definition).blobs["b"].shape == (1, 1, 24, 26)
    first.kernel_size[:], first.pad[:] = [2], [1]
    with pytest.raises(CaffeError, match=r"is 1.5, 1.5; .*; use a Crop layer with offset"):
        Net(definition)
    definition.layer[7].type = "Crop"
    definition.layer[7].crop_param.offset[:] = [1]
    assert Net(definition).blobs["b"].shape == (1, 1, 24, 26)
    definition.layer[6].convolution_param.stride[:] = [4]
    definition.layer[7].type = "CROP"
    with pytest.raises(CaffeError, match="planes of 'u' and 'data' have different scales, 0"):
        Net(definition)


@pytest.mark.parametrize("ignored", [None, 7])
def test_precision_and_recall(ignored: int | None) -> None:
    scores = torch.tensor([0.9, 0.5, 0.4, 0.1, 0.8, 0.3, 0.7], dtype=torch.float64)
    labels = torch.tensor([1, 0, 1, 0, 7, 0, 1], dtype=torch.float64)
    text = "" if ignored is None else f"precision_recall_param {{ ignore_label: {ignored} }}"
    tops = [float(top) for top in run("PR", text, scores, labels, tops=5)]
    hits = 2 if ignored else 3
    precision, recall = hits / (hits + 1), hits / (hits + 1)
    expected = [precision, recall, (hits + 2) / (hits + 4), 2 / 3, precision]
    np.testing.assert_allclose(tops, expected)
    empty = [float(top) for top in run("PR", "", scores - 1, 0 * labels, tops=5)]
    assert empty == [0, 0, 1, 1, 0]


DROPOUT = "python_param {{ module: 'spatial_dropout' layer: 'SpatialDropoutLayer' param_str: {} }}"


def test_channels_are_dropped_as_in_enet() -> None:
    """Whole channels of a sample; the phase is that of param_str, and TEST has the factor too."""
    x = distinct((40, 6, 2, 3))
    settings = r""" "{\'phase\': \'TRAIN\', \'p\': \'0.25\'}" """
    layer = message("Python", DROPOUT.format(settings))
    made_layer = catalogue.choose(layer)(Context("TEST", "layer 'd'", BuildOptions(seed=7)))
    made_layer.noise = Noise(7, "d", torch.zeros((), dtype=torch.int64))
    made_layer.setup(layer, [x.shape])
    y = made_layer.forward(x)
    factors = (y / x).flatten(2).round(decimals=6)
    assert torch.equal(factors, factors[..., :1].expand_as(factors))
    assert factors.abs().unique().tolist() == [0.0, 1.333333]
    assert 0.1 < float((factors == 0).double().mean()) < 0.4
    layer = message("Python", DROPOUT.format(settings.replace("TRAIN", "TEST")))
    resting = catalogue.choose(layer)(Context("TRAIN", "layer 'd'", BuildOptions()))
    resting.setup(layer, [x.shape])
    torch.testing.assert_close(resting.forward(x), x / 0.75)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("\"{'phase': 'TRAIN', 'p': 'x'}\"", "p is 'x', expected a number"),
        ("\"{'phase': 'TRAIN', 'p': '1'}\"", r"p is 1, it must be in \(0, 1\)"),
    ],
)
def test_probabilities_of_enet_that_are_none(settings: str, sentence: str) -> None:
    layer = message("Python", DROPOUT.format(settings))
    with pytest.raises(LayerError, match=sentence):
        catalogue.choose(layer)(Context("TRAIN", "layer 'd'", BuildOptions())).setup(
            layer, [(1, 2)]
        )
