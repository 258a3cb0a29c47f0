"""The pass that removes Dropout layers."""

from __future__ import annotations

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.export.passes.remove_dropout import remove_dropout
from tests.export.passes.models import layer_types, net_text, outputs, random_model, snapshot

FC = (
    'name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 4 }'
)


def drop(bottom: str, top: str, name: str = "drop") -> str:
    return f'name: "{name}" type: "Dropout" bottom: "{bottom}" top: "{top}"'


def tanh(bottom: str, top: str, name: str = "tanh") -> str:
    return f'name: "{name}" type: "TanH" bottom: "{bottom}" top: "{top}"'


SUM = 'name: "sum" type: "Eltwise" bottom: "fc" bottom: "d" top: "sum"'


@pytest.mark.parametrize(
    ("layers", "left"),
    [
        ([FC, drop("fc", "fc"), tanh("fc", "fc")], 0),
        ([FC, drop("fc", "d"), tanh("d", "out")], 0),
        ([FC, drop("fc", "d")], 0),
        ([FC, drop("fc", "d"), drop("d", "e", "drop2")], 0),
        ([drop("data", "d")], 1),
        ([FC, drop("fc", "d"), drop("fc", "e", "drop2")], 2),
        # In place on the top: the other reader of its bottom must not see that.
        ([FC, drop("fc", "d"), tanh("d", "d"), SUM], 0),
    ],
)
def test_names_and_values_of_outputs_stay(layers: list[str], left: int) -> None:
    model = random_model(net_text((2, 3, 5), *layers))
    before = snapshot(model)
    new = remove_dropout(model)
    assert snapshot(model) == before
    assert list(layer_types(new).values()).count("Dropout") == left
    expected, found = outputs(model), outputs(new)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    Net(new.definition, strict=True)


def test_a_net_without_dropout_stays_as_it_is() -> None:
    model = random_model(net_text((2, 3), FC))
    assert remove_dropout(model) is model
