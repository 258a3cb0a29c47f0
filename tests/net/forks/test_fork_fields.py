"""Fields of forks: the layer type supports them, they change nothing, or the net is refused."""

from __future__ import annotations

from typing import Any

import pytest

from caffecompat.errors import LayerError, TextError
from caffecompat.layers import catalogue
from caffecompat.net.definition import read_definition
from caffecompat.proto import schema
from caffecompat.proto.descriptors import layout
from caffecompat.proto.fork_fields import effective_fields, foreign_fields
from caffecompat.proto.fork_meanings import NO_FORK, has_no_effect, meaning_of, meanings
from caffecompat.proto.schema import Message
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


def test_only_a_field_that_a_layer_type_does_not_support_is_noted() -> None:
    text = NET % "ceil_mode: true temporal_stride: 2" + (
        'layer { name: "d" type: "AnnotatedData" top: "d" include { stage: "never" } '
        "transform_param { distort_param { hue_prob: 0.5 } } }"
    )
    assert [note for note in read_definition(message(text)).notes if "other Caffe" in note] == [
        "pooling_param.temporal_stride of 'p' is a field of other Caffe versions, which the layer "
        "type does not support"
    ]


def test_unsupported_field_of_a_fork_says_whose_it_is_and_what_it_does() -> None:
    with pytest.raises(LayerError) as caught:
        net(NET % "temporal_stride: 2")
    assert str(caught.value).endswith(
        "layer 'p' (Pooling): pooling_param.temporal_stride: from the Caffe of C3D, where it is "
        "the stride along time; not supported by this layer type; remove it, or ignore it with "
        "lenient=True (--lenient)"
    )


LOSS = """
layer { name: "x" type: "Input" top: "x" top: "t"
        input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
layer { name: "l" type: "HingeLoss" bottom: "x" bottom: "t" top: "l"
        loss_param { normalization: PRE_FIXED } }
"""


def test_lenient_nets_ignore_fields_but_no_enum_values() -> None:
    lenient = net(NET % "temporal_stride: 2", lenient=True)
    assert any("pooling_param.temporal_stride" in note for note in lenient.notes)
    for flag in (False, True):
        with pytest.raises(LayerError, match=r"PRE_FIXED.*; remove it, or give another value$"):
            net(LOSS, lenient=flag)
    # Both ways of the message.
    net(LOSS.replace("normalization: PRE_FIXED", ""))
    net(LOSS.replace("PRE_FIXED", "VALID"))


@pytest.mark.parametrize(
    "text",
    [
        NET % "norm_region: WITHIN_CHANNEL",
        NET % "engine: MKL2017",
        NET.replace("bottom", 'engine: "MKLDNN" forward_type: FLOAT16 bottom') % "",
        NET % "torch_pooling: false",
        "default_forward_type: FLOAT16 global_grad_scale: 1000 eltwise_mem_sharing: false"
        + NET % "",
    ],
)
def test_fields_without_effect_are_accepted_in_silence(text: str) -> None:
    built = net(text)
    assert built.blobs["p"].shape == (2, 3, 4, 3)
    assert built.notes == []
    assert foreign_fields(message(text))
    assert effective_fields(message(text)) == []


@pytest.mark.parametrize("name", list(catalogue))
def test_fork_fields_of_layer_types_are_fields_of_forks(name: str) -> None:
    layer_class = catalogue.find(name)
    for path in (*layer_class.fork_fields, *layer_class.ignored_fork_fields):
        layer = schema.new("LayerParameter")
        set_field(layer, path)
        assert foreign_fields(layer) == [path]


def test_no_layer_type_uses_two_fields_that_a_layer_can_have_only_one_of() -> None:
    fields = layout(schema.message_class("LayerParameter").DESCRIPTOR).fields
    exclusive = {name for name, field in fields.items() if field.group}
    used = {
        (name, definition): exclusive.intersection(definition.fork_fields)
        for name in catalogue
        for definition in catalogue.definitions(name.partition(" (")[0])
    }
    assert [key for key, names in used.items() if len(names) > 1] == []
    assert sum(map(len, used.values())) > 60


def set_field(layer: Message, path: str) -> None:
    """Sets the field of a path like ``"pooling_param.pool: NAME"`` to that or to any value."""
    place, _, value = path.partition(": ")
    *parents, name = place.split(".")
    for parent in parents:
        layer = getattr(layer, parent)
    field = layer.DESCRIPTOR.fields_by_name[name]
    repeated = layout(layer.DESCRIPTOR).fields[name].repeated
    if field.message_type is not None:
        (getattr(layer, name).add if repeated else getattr(layer, name).SetInParent)()
        return
    given: Any = "a" if field.type == field.TYPE_STRING else 1
    if field.enum_type is not None:
        names = field.enum_type.values_by_name
        given = (names[value] if value else field.enum_type.values[0]).number
    if repeated:
        getattr(layer, name).append(given)
    else:
        setattr(layer, name, given)


def test_bvlc_nets_have_none() -> None:
    assert foreign_fields(message(NET % "")) == []


def test_unknown_text_of_a_known_fork_is_explained() -> None:
    with pytest.raises(TextError) as caught:
        message("layer { name: 'f' type: 'OPData' op_transform_param { size: 8 } }")
    assert "from another Caffe, where it holds the settings of OPData" in str(caught.value)


ROWS = list(meanings().values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.message}.{row.field}")
def test_every_meaning_is_of_something_that_bvlc_caffe_lacks(row) -> None:  # type: ignore[no-untyped-def]
    field, _, value = row.field.partition("=")
    descriptor = schema.new(row.message).DESCRIPTOR
    assert row.effect in ("none", "values", "type")
    assert row.sentence
    entry = descriptor.fields_by_name.get(field)
    if value:
        assert entry is not None
        known = entry.enum_type.values_by_name
        # What nothing here reads need not be in the schema: the text is refused with the sentence.
        assert value not in known or known[value].number in schema.FORK_NUMBERS or row.message == ""
    elif entry is None:
        assert row.effect != "none" or row.fork == NO_FORK
    else:
        assert entry.number in schema.FORK_NUMBERS or row.fork == "Park and Ok"


def test_engines_have_no_effect_anywhere() -> None:
    assert has_no_effect("ConvolutionParameter", "engine=MKLDNN")
    assert has_no_effect("AnyParameter", "engine")
    assert meaning_of("PoolingParameter", "kernel_size") is None
