"""A net whose wiring is refused, and the same one changed as the message says: it runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import caffecompat
from caffecompat.errors import NetError
from tests.net.nets import message, net

INPUT = (
    "layer { name: 'in' type: 'Input' top: 'data' input_param { shape { dim: 2 dim: 3 } } } "
    "layer { name: 'label' type: 'DummyData' top: 'label' dummy_data_param { shape { dim: 2 } } } "
)
IN_PLACE = "layer { name: 'relu' type: 'ReLU' bottom: 'data' top: '%s' } "
POWER = "layer { name: 'power' type: 'Power' bottom: 'data' top: 'power' } "
TOP = "layer { name: '%s' type: 'Sigmoid' bottom: '%s' top: '%s' } "
SHARED = (
    "layer { name: 'one' type: 'InnerProduct' bottom: 'data' top: 'one' param { name: 'w' %s } "
    "inner_product_param { num_output: 3 bias_term: false } } "
    "layer { name: 'two' type: 'InnerProduct' bottom: 'one' top: 'two' param { name: 'w' %s } "
    "inner_product_param { num_output: 3 bias_term: false } } "
)
RULES = "layer { name: 'relu' type: 'ReLU' bottom: 'data' top: 'relu' %s } "
INCLUDE, EXCLUDE = "include { phase: TEST }", "exclude { phase: TRAIN }"

# Layers that are refused, the words of the refusal, the same layers as the words advise.
CASES = [
    (
        POWER + IN_PLACE % "data",
        "layer 'relu' (ReLU): works in place on 'data', which another layer reads, too; "
        "Caffe refuses such nets, give the top another name",
        [POWER + IN_PLACE % "relu"],
    ),
    (
        TOP % ("first", "data", "same") + TOP % ("second", "data", "same"),
        "top 'same' is already the top of layer 'first'; give it another name, or make the layer "
        "in-place (same name at the same position of bottom and top)",
        [
            TOP % ("first", "data", "same") + TOP % ("second", "data", "other"),
            TOP % ("first", "data", "same") + TOP % ("second", "same", "same"),
        ],
    ),
    (
        SHARED % ("lr_mult: 2", "lr_mult: 3"),
        "shared parameter 'w' has lr_mult 3 here and 2 in an earlier layer; give the same value "
        "or leave it out",
        [SHARED % ("lr_mult: 2", "lr_mult: 2"), SHARED % ("lr_mult: 2", "")],
    ),
    (
        SHARED % ("decay_mult: 0", "decay_mult: 1"),
        "shared parameter 'w' has decay_mult 1 here and 0 in an earlier layer; give the same value "
        "or leave it out",
        [SHARED % ("decay_mult: 0", "decay_mult: 0"), SHARED % ("decay_mult: 0", "")],
    ),
    (
        SHARED % ("", "} param { lr_mult: 2 } param { lr_mult: 2"),
        "has 3 params, but the layer has only 1 parameter blob; remove the last 2",
        [SHARED % ("", "")],
    ),
    (
        RULES % (INCLUDE + EXCLUDE),
        "has both include and exclude rules; give one kind only",
        [RULES % INCLUDE, RULES % EXCLUDE],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[1])
def test_what_a_refusal_advises_runs(case: tuple[str, str, list[str]]) -> None:
    bad, words, fixes = case
    with pytest.raises(NetError) as caught:
        net(INPUT + bad, strict=True)
    assert words in str(caught.value)
    for fix in fixes:
        built = net(INPUT + fix, strict=True)
        for name in built.forward():
            assert np.isfinite(np.asarray(built.blobs[name].data)).all()


def test_the_shared_parameter_takes_the_value_that_is_given_once() -> None:
    built = net(INPUT + SHARED % ("lr_mult: 2 decay_mult: 0", ""), phase="train")
    assert [(entry.lr_mult, entry.decay_mult) for entry in built.learnable] == [(2.0, 0.0)]


@pytest.mark.parametrize("phase", ["train", "test", caffecompat.TRAIN, caffecompat.TEST, 0, 1])
def test_phases(phase: Any) -> None:
    text = INPUT + RULES % INCLUDE
    with pytest.raises(NetError) as caught:
        net(text, phase="deploy")
    words = "it must be 'train' or 'test', or caffecompat.TRAIN (0) or TEST (1)"
    assert words in str(caught.value)
    built = caffecompat.Net(message(text), phase=phase)
    assert ("relu" in built.forward()) == (phase in ("test", 1))
