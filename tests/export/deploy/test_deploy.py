"""A deploy definition from a training definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.errors import CaffeError, ExportError
from caffecompat.export.deploy.definition import Deployed, DeployOptions, deploy
from caffecompat.net.definition import read_definition
from tests.net.nets import message
from tests.places import REPOSITORY

DATA = """
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { crop_size: 9 mirror: true } data_param { source: "none" batch_size: 8 } }
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 7 } data_param { source: "none" batch_size: 4 } }
"""
CONV = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" }
                      bias_filler { type: "constant" value: 0.2 } } }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
"""


def deployed(text: str, **options: Any) -> Deployed:
    return deploy(read_definition(message(text)), DeployOptions(**options))


def layers(found: Deployed) -> list[tuple[str, str, list[str], list[str]]]:
    return [(m.name, m.type, list(m.bottom), list(m.top)) for m in found.message.layer]


def loss(kind: str, bottoms: str = 'bottom: "fc" bottom: "label"', more: str = "") -> str:
    return f'layer {{ name: "loss" type: "{kind}" {bottoms} top: "loss" {more} }}'


FC = ("fc", "InnerProduct", ["conv"], ["fc"])
ACCURACY = 'layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" }'


def test_what_only_training_needs_goes() -> None:
    found = deployed(DATA + CONV + ACCURACY + loss("SoftmaxWithLoss"))
    assert layers(found) == [
        ("data", "Input", [], ["data"]),
        ("conv", "Convolution", ["data"], ["conv"]),
        ("drop", "Dropout", ["conv"], ["conv"]),
        FC,
        ("prob", "Softmax", ["fc"], ["prob"]),
    ]
    text = str(found.message)
    for word in ("filler", "lr_mult", "param {\n  }", "include", "phase", "mult"):
        assert word not in text
    assert list(found.message.layer[0].input_param.shape[0].dim) == [1, 3, 7, 7]
    notes = "\n".join(found.notes)
    assert "'acc' (Accuracy): removed, no prediction needs it" in notes
    assert "'loss' (SoftmaxWithLoss): its prediction takes its place, 'prob' (Softmax)" in notes
    assert "its top 'data' is replaced by an Input of 1x3x7x7" in notes
    assert "its files are missing, so 3 channels are assumed" in notes


def test_the_outputs_are_those_of_the_training_net() -> None:
    text = DATA + CONV + loss("SoftmaxWithLoss")
    found = deployed(text, batch=2)
    new = Net(found.message)
    inputs = (
        'layer { name: "data" type: "Input" top: "data" top: "label" '
        "input_param { shape { dim: 2 dim: 3 dim: 7 dim: 7 } shape { dim: 2 } } }"
    )
    old = Net(message(inputs + CONV + loss("SoftmaxWithLoss")))
    new.load_weights(old.to_weights())
    x = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    old.forward(data=x, label=torch.tensor([0.0, 3.0]))
    scores = old.blobs["fc"].data
    np.testing.assert_allclose(
        new.forward(data=x.numpy())["prob"], torch.tensor(np.asarray(scores)).softmax(1), atol=1e-6
    )


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (loss("SigmoidCrossEntropyLoss"), ("prob", "Sigmoid", ["fc"], ["prob"])),
        (loss("EuclideanLoss"), FC),
        (loss("EuclideanLoss", 'bottom: "label" bottom: "fc"'), FC),
        (loss("HingeLoss"), FC),
        (loss("InfogainLoss"), ("prob", "Softmax", ["fc"], ["prob"])),
        (loss("CenterLoss"), FC),
        (ACCURACY, FC),
        (
            'layer { name: "p" type: "Softmax" bottom: "fc" top: "p" }'
            'layer { name: "loss" type: "MultinomialLogisticLoss" bottom: "p" bottom: "label" }',
            ("p", "Softmax", ["fc"], ["p"]),
        ),
        (
            'layer { name: "d2" type: "Eltwise" bottom: "fc" bottom: "label" top: "d2" }'
            'layer { name: "l1" type: "Reduction" bottom: "d2" top: "l1" loss_weight: 1 }',
            FC,
        ),
    ],
)  # fmt: skip
def test_each_loss_becomes_its_prediction(
    text: str, last: tuple[str, str, list[str], list[str]]
) -> None:
    shapes = {"label": (4, 4)} if "Eltwise" in text else {}
    found = deployed(DATA + CONV + text, shapes={"data": (4, 3, 7, 7), **shapes})
    assert layers(found)[-1] == last
    assert layers(found)[0][0] == "data"


def test_the_axis_of_a_softmax_is_kept() -> None:
    more = loss("SoftmaxWithLoss", 'bottom: "conv" bottom: "label"', "softmax_param { axis: 2 }")
    found = deployed(DATA + CONV + more)
    assert found.message.layer[-1].softmax_param.axis == 2


def test_a_loss_of_phase_train_alone_counts_where_there_is_no_other() -> None:
    rule = "include { phase: TRAIN }"
    test_only = ACCURACY.replace("top:", "include { phase: TEST } top:")
    found = deployed(DATA + CONV + test_only + loss("SoftmaxWithLoss", more=rule))
    assert layers(found)[-1][0] == "prob"
    found = deployed(DATA + CONV + loss("SoftmaxWithLoss", more=rule))
    assert [name for name, *_ in layers(found)][-2:] == ["fc", "prob"]


def test_a_prediction_that_is_there_is_not_made_twice() -> None:
    softmax = 'layer { name: "p" type: "Softmax" bottom: "fc" top: "p" include { phase: TEST } }'
    found = deployed(
        DATA + CONV + softmax + loss("SoftmaxWithLoss", more="include { phase: TRAIN }")
    )
    assert [kind for _, kind, *_ in layers(found)].count("Softmax") == 1
    assert layers(found)[-1][0] == "p"


def test_several_losses_have_several_predictions_and_one_can_be_chosen() -> None:
    side = (
        'layer { name: "side" type: "InnerProduct" bottom: "conv" top: "side" '
        "inner_product_param { num_output: 4 } }"
        'layer { name: "loss1" type: "SoftmaxWithLoss" bottom: "side" bottom: "label" '
        'top: "loss1" loss_weight: 0.3 }'
    )
    found = deployed(DATA + CONV + side + loss("SoftmaxWithLoss"))
    assert Net(found.message).outputs == ["prob", "side_prob"]
    found = deployed(DATA + CONV + side + loss("SoftmaxWithLoss"), outputs=["prob"])
    assert "side" not in [name for name, *_ in layers(found)]
    with pytest.raises(ExportError, match="the net has no blob 'prop'; did you mean 'prob'"):
        deployed(DATA + CONV + side + loss("SoftmaxWithLoss"), outputs=["prop"])


def test_dropout_goes_on_request() -> None:
    text = DATA + CONV.replace('"conv" top: "conv" }', '"conv" top: "dropped" }')
    text = text.replace('InnerProduct" bottom: "conv"', 'InnerProduct" bottom: "dropped"')
    found = deployed(text + loss("SoftmaxWithLoss"), remove_dropout=True)
    assert [kind for _, kind, *_ in layers(found)] == [
        *("Input", "Convolution", "InnerProduct", "Softmax"),
    ]


def test_shapes_can_be_stated_for_data_layers_of_any_type() -> None:
    data = 'layer { name: "d" type: "NoSuchData" top: "data" top: "label" }'
    for shape, expected in (((2, 6, 5), [4, 2, 6, 5]), ((9, 2, 6, 5), [9, 2, 6, 5])):
        found = deployed(data + CONV + loss("SoftmaxWithLoss"), shapes={"data": shape}, batch=4)
        assert list(found.message.layer[0].input_param.shape[0].dim) == expected
    with pytest.raises(ExportError, match=r"not known here; state the shape with --shape data="):
        deployed(data + CONV + loss("SoftmaxWithLoss"))
    with pytest.raises(ExportError, match="no data layer has a top 'dat'; did you mean 'data'"):
        deployed(data + CONV + loss("SoftmaxWithLoss"), shapes={"dat": (3, 7, 7)})


def test_names_of_shared_parameters_stay() -> None:
    twin = CONV.replace('"conv"', '"twin"').split("layer {")[1]
    text = CONV.replace("lr_mult: 1", 'name: "w" lr_mult: 1')
    twin = "layer {" + twin.replace("lr_mult: 1", 'name: "w" lr_mult: 1')
    both = (
        'layer { name: "fc2" type: "InnerProduct" bottom: "twin" top: "fc2" '
        "inner_product_param { num_output: 4 } }"
    )
    pair = loss("ContrastiveLoss", 'bottom: "fc" bottom: "fc2" bottom: "label"')
    found = deployed(DATA + text + twin + both + pair)
    params = {m.name: [p.name for p in m.param] for m in found.message.layer if m.param}
    assert params == {"conv": ["w"], "twin": ["w"]}
    assert Net(found.message).outputs == ["fc", "fc2"]


def test_a_net_with_data_in_phase_train_alone() -> None:
    data = DATA[: DATA.rindex("layer")]
    found = deployed(data + CONV + loss("SoftmaxWithLoss"))
    assert "no data layer exists in phase TEST, so those of TRAIN count" in found.notes
    assert list(found.message.layer[0].input_param.shape[0].dim) == [1, 3, 9, 9]


def test_constants_of_dummy_data_stay() -> None:
    text = """
layer { name: "x" type: "DummyData" top: "x"
  dummy_data_param { shape { dim: 8 dim: 5 dim: 5 dim: 5 }
  data_filler { type: "gaussian" } } }
layer { name: "c" type: "DummyData" top: "c" dummy_data_param { shape { dim: 5 }
  data_filler { type: "constant" value: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
  inner_product_param { num_output: 5 } }
layer { name: "s" type: "Scale" bottom: "fc" bottom: "c" top: "s" scale_param { axis: 1 } }
"""
    found = deployed(text)
    assert [m.type for m in found.message.layer] == ["Input", "DummyData", "InnerProduct", "Scale"]
    assert found.message.layer[1].dummy_data_param.data_filler[0].value == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (CONV, "unknown bottom blob|no data or input layer"),
        (DATA, "no prediction: no output depends on a layer with parameters"),
        (
            DATA + CONV + 'layer { name: "r" type: "Reshape" bottom: "fc" top: "r" '
            "reshape_param { shape { dim: 4 dim: 2 dim: 2 } } }",
            "cannot be built: .*state it with --batch",
        ),
        (DATA.replace("crop_size", "scale") + CONV, "state it with --shape data=3x224x224"),
    ],
)
def test_what_cannot_be_deployed(text: str, problem: str) -> None:
    with pytest.raises(CaffeError, match=problem):
        deployed(text)


PAIRS = sorted((REPOSITORY / "prototxt").glob("*_train_val.prototxt"))
PAIRS = [p for p in PAIRS if Path(str(p).replace("train_val", "deploy")).exists()]


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_the_nets_of_the_paper_become_their_deploy_definitions(path: Path) -> None:
    expected = read_definition(str(path).replace("train_val", "deploy")).message
    shape = tuple(expected.layer[0].input_param.shape[0].dim)
    found = deploy(read_definition(path), DeployOptions(shapes={"data": shape}))
    assert found.message == expected


PUBLISHED = [
    ("bvlc_alexnet", "train_val", "deploy"),
    ("bvlc_reference_caffenet", "train_val", "deploy"),
    ("bvlc_finetune_flickr_style", "train_val", "deploy"),
    ("squeezenet_v1.0", "train_val", "deploy"),
    ("squeezenet_v1.1", "train_val", "deploy"),
    ("places365_alexnet", "train_val_alexnet", "deploy_alexnet_places365"),
    ("vgg16_places365", "train_val_vgg16", "deploy_vgg16_places365"),
    ("bvlc_lenet", "lenet_train_test", "lenet"),
    ("bvlc_cifar10", "cifar10_quick_train_test", "cifar10_quick"),
    ("bvlc_cifar10", "cifar10_full_train_test", "cifar10_full"),
]


@pytest.mark.parametrize(("folder", "old", "new"), PUBLISHED, ids=lambda text: str(text))
def test_published_pairs(folder: str, old: str, new: str, published: Path) -> None:
    expected = read_definition(published / folder / f"{new}.prototxt").message
    shape = tuple(expected.layer[0].input_param.shape[0].dim)
    definition = read_definition(published / folder / f"{old}.prototxt")
    found = Net(deploy(definition, DeployOptions(shapes={"data": shape})).message, shapes_only=True)
    wanted = Net(expected, shapes_only=True)
    assert [b.type for b in found.layers] == [b.type for b in wanted.layers]
    assert [b.shapes for b in found.layers] == [b.shapes for b in wanted.layers]
    parameters = [
        [tuple(p.shape) for p in net.params[n]] for net in (found, wanted) for n in net.params
    ]
    assert parameters[: len(parameters) // 2] == parameters[len(parameters) // 2 :]
