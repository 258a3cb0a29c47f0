"""Unknown layer types: who defines them, and a layer of one's own to start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.cli.main import main
from caffecompat.errors import NetError, UnknownLayerType, UnknownName
from caffecompat.layers import catalogue
from caffecompat.layers.forks._known_types import forks_of, layer_to_start_from, origin_of
from tests.net.nets import net
from tests.programs import run_program

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "k" type: "DenseCRF" bottom: "x" bottom: "x" top: "y" }
"""
OTHERS = """
layer { name: "a" type: "Frobnicate9" bottom: "x" top: "z" }
layer { name: "b" type: "Convolutio" bottom: "x" top: "c" }
"""


def test_the_forks_of_a_known_type() -> None:
    with pytest.raises(UnknownName) as caught:
        net(NET)
    assert isinstance(caught.value, UnknownLayerType)
    assert caught.value.name == "DenseCRF"
    first, *rest = str(caught.value).splitlines()
    assert first == "unknown layer type 'DenseCRF' in layer 'k'; it is defined by DeepLab"
    assert "    bottoms, tops = exactly(2), exactly(1)" in rest


def test_all_unknown_types_at_once_with_one_layer_to_start_from() -> None:
    with pytest.raises(NetError) as caught:
        net(NET + OTHERS)
    text = str(caught.value)
    assert "unknown layer type 'DenseCRF' in layer 'k'; it is defined by DeepLab" in text
    assert "'Frobnicate9' in layer 'a'; no fork that defines it is known here" in text
    assert "unknown layer type 'Convolutio' in layer 'b'; did you mean 'Convolution'?" in text
    assert text.count("@register") == 1


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("DenseCRF", "it is defined by DeepLab"),
        ("Softmaxwithloss", "did you mean 'SoftmaxWithLoss'?"),
        ("BatchNormalization", "did you mean 'BatchNorm'?"),
        ("Upsampel", "did you mean 'Upsample'?"),
        ("Frobnicate", "no fork that defines it is known here"),
    ],
)
def test_where_a_type_comes_from_or_what_is_meant(name: str, origin: str) -> None:
    assert origin_of(name, catalogue) == f"; {origin}"
    with pytest.raises(UnknownLayerType) as caught:
        net(NET.replace("DenseCRF", name))
    assert f"unknown layer type '{name}' in layer 'k'; {origin}" in str(caught.value)
    assert f"@register('{name}')" in str(caught.value)


def test_the_shown_layer_can_be_copied_from_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    assert main(["summary", str(tmp_path / "net.prototxt")]) == 1
    sentences, _, code = capsys.readouterr().err.partition("\n\n")
    assert all(line.startswith("caffecompat: error: ") for line in sentences.split("\n"))
    assert code == layer_to_start_from("DenseCRF", 2, 1)


def test_no_type_of_bvlc_is_that_of_a_fork() -> None:
    own = [name for name in catalogue if not catalogue.find(name).fork]
    assert [name for name in own if forks_of(name)] == []


SCRIPT = """
import numpy

import caffecompat
import mine

net = caffecompat.Net("net.prototxt")
print([tuple(net.blobs[name].shape) for name in net.outputs])
assert net.forward(x=numpy.ones((2, 3))) is not None
"""


@pytest.mark.parametrize(
    ("bottoms", "tops", "shapes"),
    [
        (1, 1, "[(2, 3)]"),
        (3, 2, "[(2, 3), (2, 3)]"),
        (0, 2, "[(1, 3, 224, 224), (1, 3, 224, 224)]"),
    ],
)
def test_the_layer_to_start_from_runs_as_it_stands(
    tmp_path: Path, bottoms: int, tops: int, shapes: str
) -> None:
    code = layer_to_start_from("Kept", bottoms, tops)
    assert len(code.splitlines()) <= 17
    (tmp_path / "mine.py").write_text(code)
    wiring = " ".join(["bottom: 'x'"] * bottoms + [f"top: 't{i}'" for i in range(tops)])
    source = "layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 3 } } }"
    text = f"layer {{ name: 'k' type: 'Kept' {wiring} }}"
    (tmp_path / "net.prototxt").write_text(text if bottoms == 0 else f"{source}\n{text}")
    script = SCRIPT if bottoms else SCRIPT.replace("x=numpy.ones((2, 3))", "")
    found = run_program(["-c", script], tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == shapes
