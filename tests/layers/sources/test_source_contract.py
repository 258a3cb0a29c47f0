"""The contract of the layer types that give a net its data."""

from __future__ import annotations

from fractions import Fraction

import pytest

from caffecompat.layers import Source, catalogue
from tests.layers.messages import message

SOURCES = sorted(
    name
    for name in catalogue
    if issubclass(catalogue.find(name), Source)
    and catalogue.find(name).__module__.startswith("caffecompat.")
)


def source_of(type_name: str) -> type[Source]:
    found = catalogue.find(type_name)
    assert issubclass(found, Source)
    return found


# One image in each pass.
WITHOUT_BATCH_SIZE = {"Python (RoIDataLayer of py-faster-rcnn)"}


@pytest.mark.parametrize("type_name", SOURCES)
def test_batch_sizes_of_sources(type_name: str) -> None:
    """A source finds the batch size in its definition and multiplies it there, or has none."""
    layer = source_of(type_name)
    assert layer.batch_size(message(type_name)) is None
    if type_name in WITHOUT_BATCH_SIZE:
        assert not layer.batch_param
        return
    texts = {
        "Input": "input_param { shape { dim: 6 dim: 2 } }",
        "DummyData": "dummy_data_param { shape { dim: 6 dim: 2 } shape { dim: 3 } }",
    }
    definition = message(
        type_name, texts.get(type_name, f"{layer.batch_param} {{ batch_size: 6 }}")
    )
    assert layer.batch_size(definition) == 6
    layer.scale_batch(definition, Fraction(1, 3))
    # The shape of values that a net's user gives is not the definition's to change.
    assert layer.batch_size(definition) == (6 if layer.is_input else 2)
    if type_name == "DummyData":
        assert [list(shape.dim) for shape in definition.dummy_data_param.shape] == [[2, 2], [1]]
        old = message(type_name, "dummy_data_param { num: 4 num: 6 channels: 1 }")
        layer.scale_batch(old, Fraction(3, 2))
        assert list(old.dummy_data_param.num) == [6, 9]


@pytest.mark.parametrize("type_name", SOURCES)
def test_sources_that_cut_batches_state_their_batch_size(type_name: str) -> None:
    """Otherwise the shard of a rank would be unknown."""
    layer = source_of(type_name)
    assert layer.batch_param or not layer.reads_shard
    assert layer.filled_by_user or not layer.is_input
