"""What layers refuse, with the sentence they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from caffecompat.errors import FileProblem, LayerError
from caffecompat.layers import catalogue
from tests.layers.messages import made

Shapes = list[tuple[int, ...]]

REFUSED: list[tuple[str, str, Shapes, int, str]] = [
    ("ArgMax", "argmax_param { top_k: 7 axis: 1 }", [(2, 6)], 1, "top_k is 7, but there are 6"),
    ("BatchNorm", "", [(5,)], 1, "the bottom is 5, it needs channels"),
    ("BatchNorm", "param { lr_mult: 1 }", [(2, 3)], 1, "lr_mult 1; .* write lr_mult: 0"),
    ("BatchReindex", "", [(5, 3), (4, 1)], 1, "must have one axis"),
    ("Bias", "bias_param { num_axes: -2 }", [(2, 3)], 1, "num_axes is -2"),
    ("Clip", "", [(2, 3)], 1, "both min and max"),
    ("Concat", "concat_param { axis: 1 concat_dim: 1 }", [(2, 3)], 1, "exclude each other"),
    ("Concat", "concat_param { axis: 2 }", [(2, 3)], 1, "axis is 2, but the bottom has 2 axes"),
    ("Concat", "", [(2, 3, 4), (2, 3, 5)], 1, "2x3x4, 2x3x5; all axes but 1 must agree"),
    ("Concat", "", [(2, 3), (2, 3, 1)], 1, "must agree"),
    ("Crop", "crop_param { offset: 1 offset: 2 offset: 3 }", [(2, 3, 5, 6)] * 2, 1, "offset is"),
    ("Crop", "crop_param { offset: 2 }", [(2, 3, 5, 6), (2, 3, 4, 4)], 1, "axis 2 .* offset 2"),
    ("Crop", "", [(2, 3, 5, 6), (2, 3, 4)], 1, "axis 3 cannot be cropped"),
    ("Deconvolution", "convolution_param { kernel_size: 2 }", [(1, 2, 3, 4)], 1, "num_output"),
    (
        "DummyData",
        "dummy_data_param { shape { dim: 2 dim: 0 } }",
        [],
        1,
        "2x0 has an extent below 1",
    ),
    (
        "DummyData",
        "dummy_data_param { num: 2 channels: 3 height: 0 width: 4 }",
        [],
        1,
        "2x3x0x4 has an extent below 1",
    ),
    ("Im2col", "convolution_param { kernel_size: 3 }", [(2, 6)], 1, "at least one spatial axis"),
    (
        "Deconvolution",
        "convolution_param { num_output: 1 kernel_size: 2 pad: 9 }",
        [(1, 2, 3, 4)],
        1,
        "would be empty",
    ),
    ("Dropout", "dropout_param { dropout_ratio: 1 }", [(2, 3)], 1, "dropout_ratio is 1"),
    ("Eltwise", "", [(2, 3), (2, 1)], 1, "2x3, 2x1; they must have the same shape"),
    ("Eltwise", "eltwise_param { coeff: 1 }", [(2, 3)] * 2, 1, "coeff is given 1 times"),
    (
        "Eltwise",
        "eltwise_param { operation: PROD coeff: 1 coeff: 2 }",
        [(2, 3)] * 2,
        1,
        "SUM, not for PROD",
    ),
    ("Embed", "embed_param { input_dim: 3 }", [(2,)], 1, "num_output is missing"),
    ("Embed", "embed_param { num_output: 3 }", [(2,)], 1, "input_dim is missing"),
    ("Exp", "exp_param { base: -2 }", [(2, 3)], 1, "base is -2"),
    ("Filter", "", [(2, 3), (3,)], 1, "one number per item"),
    ("Filter", "", [(2, 3), (2,)], 2, "2 bottoms and 2 tops"),
    ("Flatten", "flatten_param { axis: 3 end_axis: 1 }", [(2, 3, 4, 5)], 1, "more than one axis"),
    ("Im2col", "", [(1, 2, 3, 4)], 1, "kernel_size is given 0 times"),
    ("InfogainLoss", "", [(2, 3), (2,)], 1, "matrix is missing"),
    ("InfogainLoss", "", [(2, 3), (2,), (2, 3)], 1, "matrix is 2x3, but there are 3 classes"),
    ("InfogainLoss", "loss_param { normalize: true }", [(2, 3), (2,), (3, 3)], 1, "normalize"),
    ("InnerProduct", "", [(2, 3)], 1, "num_output is missing"),
    ("InnerProduct", "inner_product_param { num_output: 0 }", [(2, 3)], 1, "num_output is 0"),
    ("InnerProduct", "inner_product_param { num_output: 2 axis: 3 }", [(2, 3)], 1, "axis is 3"),
    ("Log", "log_param { base: 1 }", [(2, 3)], 1, "base is 1"),
    ("Log", "log_param { base: 0 }", [(2, 3)], 1, "base is 0"),
    ("LRN", "lrn_param { local_size: 4 }", [(1, 2, 5, 6)], 1, "local_size is 4"),
    ("LRN", "", [(2, 3)], 1, "4 axes"),
    ("LSTM", "", [(4, 2, 3), (4, 2)], 1, "num_output is missing"),
    ("LSTM", "recurrent_param { num_output: 5 }", [(4, 2, 3), (4, 3)], 1, r"cont \(T, N\)"),
    ("LSTM", "recurrent_param { num_output: 5 }", [(4, 2), (4, 2)], 1, r"x \(T, N, ...\)"),
    (
        "RNN",
        "recurrent_param { num_output: 5 expose_hidden: true }",
        [(4, 2, 3), (4, 2)],
        1,
        "2 bottoms and 1 tops",
    ),
    (
        "RNN",
        "recurrent_param { num_output: 5 expose_hidden: true }",
        [(4, 2, 3), (4, 2), (1, 3, 5)],
        2,
        r"states \(1, N, 5\)",
    ),
    ("LSTMUnit", "", [(1, 2, 3), (1, 2, 9), (1, 2)], 2, "1xNx4D"),
    ("MultinomialLogisticLoss", "", [(2, 3), (2, 3)], 1, "2 items need 2 labels"),
    ("MVN", "", [(2, 3, 4, 5, 6)], 1, "at most 4 axes"),
    ("Parameter", "parameter_param { shape { dim: 0 } }", [], 1, "must be positive"),
    ("PReLU", "", [(4,)], 1, "channels along axis 1"),
    ("Reduction", "reduction_param { axis: 2 }", [(2, 3)], 1, "axis is 2"),
    ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", [(2, 3)], 1, "-1 once"),
    ("Reshape", "reshape_param { shape { dim: -2 } }", [(2, 3)], 1, "-1 once"),
    (
        "Reshape",
        "reshape_param { shape { dim: 2 dim: 4 } }",
        [(2, 3)],
        1,
        "cannot be reshaped to 2x4",
    ),
    (
        "Reshape",
        "reshape_param { shape { dim: 4 dim: -1 } }",
        [(2, 3)],
        1,
        "cannot be reshaped to 4x-1",
    ),
    ("Reshape", "reshape_param { axis: 3 }", [(2, 3)], 1, "do not fit the bottom 2x3"),
    ("Reshape", "reshape_param { num_axes: -2 }", [(2, 3)], 1, "num_axes is -2"),
    (
        "Reshape",
        "reshape_param { shape { dim: 2 dim: 3 dim: 0 } }",
        [(2, 3)],
        1,
        "has no axis 2 to copy",
    ),
    ("Scale", "scale_param { num_axes: 2 }", [(2, 3)], 1, "do not exist in the bottom 2x3"),
    ("Scale", "", [(2, 3), (2,)], 1, "operand 2 does not match the bottom 2x3 from axis 1"),
    ("Slice", "", [(2, 5)], 2, "does not divide into 2 equal parts"),
    ("Slice", "slice_param { slice_point: 3 slice_point: 2 }", [(2, 5)], 3, "must increase"),
    ("Slice", "slice_param { slice_point: 5 }", [(2, 5)], 2, "lie inside axis 1"),
    ("Slice", "slice_param { slice_point: 2 }", [(2, 5)], 3, "slice_point is given 1 times"),
    ("Slice", "slice_param { axis: 1 slice_dim: 1 }", [(2, 4)], 2, "exclude each other"),
    ("Softmax", "softmax_param { axis: -3 }", [(2, 5)], 1, "axis is -3"),
    ("SPP", "spp_param { pyramid_height: 3 }", [(1, 2, 5, 6)], 1, "too small for 4 x 4 bins"),
    ("SPP", "", [(1, 2, 5, 6)], 1, "pyramid_height is missing"),
    ("SPP", "spp_param { pyramid_height: 2 pool: STOCHASTIC }", [(1, 2, 5, 6)], 1, "MAX or AVE"),
    ("Tile", "", [(2, 3)], 1, "tiles is missing"),
]


def infer(type_name: str, text: str, shapes: Shapes, tops: int) -> None:
    """Sets a layer up and runs it as a net does when it is built."""
    layer = made(type_name, text, *shapes, tops=tops)
    blank = {spec.name: torch.zeros(spec.shape) for spec in layer.specs}
    layer.infer(*(torch.zeros(shape) for shape in shapes), **blank)


@pytest.mark.parametrize(("type_name", "text", "shapes", "tops", "words"), REFUSED)
def test_refused(type_name: str, text: str, shapes: Shapes, tops: int, words: str) -> None:
    with pytest.raises(LayerError, match=words) as caught:
        infer(type_name, text, shapes, tops)
    assert str(caught.value).startswith(f"layer 'one' ({type_name}): ")


@pytest.mark.parametrize(
    ("type_name", "text", "bottoms", "words"),
    [
        (
            "Embed",
            "embed_param { num_output: 2 input_dim: 3 bias_term: false }",
            [torch.tensor([2.0, 3.0])],
            "outside 0 to 2",
        ),
        (
            "BatchReindex",
            "",
            [torch.zeros(3, 2), torch.tensor([0.0, 3.0])],
            "outside 0 to 2, the items",
        ),
        (
            "MultinomialLogisticLoss",
            "",
            [torch.ones(2, 3), torch.tensor([0.0, 3.0])],
            "outside 0 to 2",
        ),
        (
            "InfogainLoss",
            "",
            [torch.ones(2, 3), torch.tensor([0.0, 3.0]), torch.eye(3)],
            "outside 0 to 2",
        ),
        ("HingeLoss", "", [torch.ones(2, 3), torch.tensor([0.0, 3.0])], "outside 0 to 2"),
    ],
)
def test_indices_and_labels_out_of_range(
    type_name: str, text: str, bottoms: list[torch.Tensor], words: str
) -> None:
    layer = made(type_name, text, *(tuple(b.shape) for b in bottoms))
    blank = {spec.name: torch.zeros(spec.shape) for spec in layer.specs}
    with pytest.raises(LayerError, match=words):
        layer.forward(*bottoms, **blank)


def test_missing_infogain_file_is_named_with_its_layer(tmp_path: Path) -> None:
    text = f"infogain_loss_param {{ source: '{tmp_path / 'none.binaryproto'}' }}"
    with pytest.raises(FileProblem, match=r"layer 'one' \(InfogainLoss\): .*none.binaryproto"):
        made("InfogainLoss", text, (2, 3), (2,))


def test_types_that_work_in_place() -> None:
    """A top may take its bottom's name only where Caffe's result is the right one."""
    own = {
        name
        for name in catalogue
        if catalogue.find(name).__module__.startswith("caffecompat")
        and not catalogue.find(name).fork
    }
    in_place = {name for name in own if catalogue.find(name).in_place}
    ends = {
        name
        for name in own
        if 0 in (catalogue.find(name).bottoms.max, catalogue.find(name).tops.max)
    }
    assert in_place - ends == {
        *("BNLL", "BatchNorm", "Bias", "Clip", "Dropout", "ELU", "Exp", "LRN", "Log", "MVN"),
        *("PReLU", "Power", "Python", "ReLU", "Scale", "Sigmoid", "Softmax", "Swish", "TanH"),
        "Threshold",
    }
