"""Fields of forks: the layer type supports them, or the net is refused."""

from __future__ import annotations

import pytest

from caffecompat.errors import LayerError
from caffecompat.layers import catalogue
from caffecompat.proto import schema
from caffecompat.proto.fork_fields import foreign_fields
from tests.net.nets import message, net

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 6 } } }
layer { name: "p" type: "Pooling" bottom: "x" top: "p"
        pooling_param { kernel_size: 3 stride: 2 %s } }
"""


def test_supported_field_of_a_fork() -> None:
    assert net(NET % "").blobs["p"].shape == (2, 3, 4, 3)
    assert net(NET % "ceil_mode: true").blobs["p"].shape == (2, 3, 4, 3)
    assert net(NET % "ceil_mode: false").blobs["p"].shape == (2, 3, 3, 2)


@pytest.mark.parametrize("field", ["pad_l: 1 pad_r: 1", "pool: AVE_EXC_PAD"])
def test_unsupported_field_of_a_fork(field: str) -> None:
    with pytest.raises(LayerError, match=r"layer 'p' \(Pooling\): pooling_param\.p.*not supported"):
        net(NET % field)


def test_lenient_nets_ignore_fields_but_no_enum_values() -> None:
    lenient = net(NET % "pad_l: 1", lenient=True)
    assert any("pooling_param.pad_l" in note for note in lenient.notes)
    with pytest.raises(LayerError, match="AVE_EXC_PAD"):
        net(NET % "pool: AVE_EXC_PAD", lenient=True)


@pytest.mark.parametrize("name", list(catalogue))
def test_fork_fields_of_layer_types_are_fields_of_forks(name: str) -> None:
    for path in catalogue.find(name).fork_fields:
        layer = schema.new("LayerParameter")
        parent, _, field = path.rpartition(".")
        target = getattr(layer, parent) if parent else layer
        setattr(target, field, getattr(target, field))
        assert foreign_fields(layer) == [path]


def test_bvlc_nets_have_none() -> None:
    assert foreign_fields(message(NET % "")) == []
