"""Graph passes on published definitions: same outputs, and a second run changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from caffecompat.export.model import CaffeModel
from caffecompat.export.passes.fold_batch_norm import fold_batch_norm
from caffecompat.export.passes.fully_convolutional import fully_convolutional
from caffecompat.export.passes.remove_dropout import remove_dropout
from caffecompat.net.definition import read_definition
from tests.export.passes.models import layer_types, outputs, randomised

Pass = Callable[[CaffeModel], CaffeModel]
CASES: list[tuple[Pass, str, str]] = [
    (fully_convolutional, "bvlc_lenet/lenet", "InnerProduct"),
    (fully_convolutional, "bvlc_cifar10/cifar10_full", "InnerProduct"),
    (fully_convolutional, "squeezenet_v1.1/deploy", "InnerProduct"),
    (fold_batch_norm, "mobilenet_v1/mobilenet_deploy", "BatchNorm"),
    (fold_batch_norm, "resnet18_priv/deploy_resnet18-priv", "BatchNorm"),
    (remove_dropout, "squeezenet_v1.1/deploy", "Dropout"),
]


@pytest.mark.parametrize(
    ("rewrite", "name", "gone"), CASES, ids=lambda each: getattr(each, "__name__", each)
)
def test_published_nets(rewrite: Pass, name: str, gone: str, published: Path) -> None:
    definition = read_definition(published / f"{name}.prototxt")
    for layer in definition.message.layer:
        for shape in layer.input_param.shape:
            shape.dim[0] = 1
    model = randomised(definition)
    new = rewrite(model)
    assert gone not in layer_types(new).values()
    assert rewrite(new) is new
    before, after = outputs(model), outputs(new)
    assert before.keys() == after.keys()
    for blob, expected in before.items():
        size = float(np.abs(expected).max())
        np.testing.assert_allclose(
            after[blob].reshape(expected.shape) / size, expected / size, atol=2e-5
        )
