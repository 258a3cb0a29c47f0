"""Notes on layers that their rules leave out."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from caffecompat.errors import NetError
from caffecompat.graph import Graph, build_graph, net_state
from caffecompat.proto import schema

TWO_SOURCES = """
layer { name: "data" type: "Input" top: "data" include { phase: TRAIN } }
layer { name: "data" type: "Input" top: "data" include { phase: TEST } }
layer { name: "score" type: "Sigmoid" bottom: "data" top: "score" }
"""


def graph(text: str, phase: str = "TRAIN", stages: tuple[str, ...] = ("",)) -> Graph:
    net = text_format.Parse(text, schema.new("NetParameter"))
    place = lambda name, occurrence: f"n.prototxt:{name}{occurrence}"  # noqa: E731
    return build_graph(net, net_state(net, phase, stages=stages), place)


def layer(rules: str) -> str:
    return (
        f'layer {{ name: "mnist" type: "Input" top: "data" {rules} }}\n'
        'layer { name: "flat" type: "DummyData" top: "flatdata" }\n'
        'layer { name: "score" type: "Sigmoid" bottom: "data" top: "score" }\n'
    )


@pytest.mark.parametrize(
    ("rules", "when"),
    [
        ("include { phase: TEST }", "only in phase TEST"),
        ("include { stage: 'deploy' }", "only with stage 'deploy'"),
        ("exclude { phase: TRAIN }", "not in phase TRAIN"),
        (
            "include { phase: TEST stage: 'a' } include { min_level: 2 max_level: 3 }",
            "only in phase TEST and with stage 'a' or from level 2 on and up to level 3",
        ),
        ("exclude { not_stage: 'b' }", "not without stage 'b'"),
        ("exclude { }", "not in every state"),
        ("include { phase: RUN }", "only in phase RUN"),
    ],
)
def test_a_blob_of_a_layer_left_out_is_named_as_such(rules: str, when: str) -> None:
    with pytest.raises(NetError) as raised:
        graph(layer(rules))
    assert str(raised.value) == (
        f"n.prototxt:score0: layer 'score' (Sigmoid): bottom 'data' exists {when} (it is made by "
        "n.prototxt:mnist0: layer 'mnist' (Input)); this net has phase TRAIN, level 0"
    )


def test_phase_run_of_my_caffe() -> None:
    """It stands for use outside of training and test; a rule with it is never met."""
    text = layer("include { phase: RUN } include { phase: TRAIN }")
    assert [node.name for node in graph(text).layers] == ["mnist", "flat", "score"]
    with pytest.raises(NetError) as raised:
        graph(layer("phase: RUN"))
    assert str(raised.value) == (
        "n.prototxt:mnist0: layer 'mnist' (Input): phase RUN comes from another Caffe version; "
        "give TRAIN or TEST, or remove it"
    )
    for followed in ("phase: TRAIN", "phase: TEST", ""):
        assert len(graph(layer(followed)).layers) == 3
    net = text_format.Parse(layer(""), schema.new("NetParameter"))
    net.name = "n"
    state = schema.new("NetState")
    state.phase = schema.enum_names("Phase")["RUN"]
    words = "the state of net 'n' has phase RUN, which .* version; give TRAIN or TEST$"
    with pytest.raises(NetError, match=words):
        build_graph(net, state, lambda name, occurrence: name)


AUTOENCODER = """
layer { name: "data" type: "Input" top: "data" include { phase: TRAIN } }
layer { name: "data" type: "Input" top: "data" include { phase: TEST stage: "test-on-train" } }
layer { name: "data" type: "Input" top: "data" include { phase: TEST stage: "test-on-test" } }
layer { name: "flatdata" type: "Sigmoid" bottom: "data" top: "flatdata" }
"""


def test_all_layers_that_would_make_a_blob_are_named_those_of_the_phase_first() -> None:
    """As Caffe's examples/mnist/mnist_autoencoder.prototxt."""
    with pytest.raises(NetError) as raised:
        graph(AUTOENCODER, "TEST")
    assert str(raised.value) == (
        "n.prototxt:flatdata0: layer 'flatdata' (Sigmoid): bottom 'data' exists only in phase TEST "
        "and with stage 'test-on-train' (it is made by n.prototxt:data1: layer 'data' (Input)), "
        "or only in phase TEST and with stage 'test-on-test' (it is made by n.prototxt:data2: "
        "layer 'data' (Input)), or only in phase TRAIN (it is made by n.prototxt:data0: layer "
        "'data' (Input)); this net has phase TEST, level 0"
    )
    assert graph(AUTOENCODER, "TEST", ("test-on-test",)).layers


def test_many_layers_that_would_make_a_blob() -> None:
    rules = "exclude { phase: TRAIN }", *(f"include {{ stage: '{c}' }}" for c in "abc")
    sources = "".join(f'layer {{ name: "n" type: "Input" top: "x" {rule} }}' for rule in rules)
    with pytest.raises(NetError) as raised:
        graph(sources + 'layer { name: "s" type: "Sigmoid" bottom: "x" top: "s" }')
    found = str(raised.value)
    assert found.index("with stage 'a'") < found.index("with stage 'c'") < found.index(", or ...;")
    assert "phase TRAIN (" not in found


def test_nothing_is_said_of_a_layer_whose_namesake_is_kept() -> None:
    assert graph(TWO_SOURCES).notes == []


def test_a_left_out_layer_is_reported_with_its_place() -> None:
    text = TWO_SOURCES + 'layer { name: "acc" type: "Input" top: "a" include { phase: TEST } }'
    assert graph(text, stages=("all",)).notes == [
        "n.prototxt:acc0: layer 'acc' (Input): left out by its rules: it exists only in phase "
        "TEST; this net has phase TRAIN, level 0, stage 'all'"
    ]


def test_a_blob_that_many_layers_miss_is_reported_once() -> None:
    text = layer("include { phase: TEST }") + (
        'layer { name: "more" type: "Sigmoid" bottom: "data" top: "more" }'
    )
    with pytest.raises(NetError) as raised:
        graph(text)
    assert len(str(raised.value).splitlines()) == 1
