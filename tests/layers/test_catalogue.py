"""The catalogue as ``caffecompat layers`` shows it."""

from __future__ import annotations

import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caffecompat.cli.main import load_verb, main, verb_names, verb_parser
from caffecompat.cli.verbs.description.layers import _descriptions
from caffecompat.doctor.examination import ExaminationOptions, examine
from caffecompat.errors import LayerError, UnknownName
from caffecompat.layers import Layer, catalogue
from caffecompat.layers._catalogue import Catalogue
from caffecompat.layers._module_index import modules_by_type
from caffecompat.layers._python_equivalent import PythonEquivalent
from caffecompat.net import Net
from caffecompat.proto.input_layers import INPUT
from caffecompat.proto.schema import Message
from caffecompat.proto.text.parser import parse_text

# BVLC Caffe 1.0's registered types.
BVLC = """
AbsVal Accuracy ArgMax BNLL BatchNorm BatchReindex Bias Clip Concat ContrastiveLoss Convolution Crop
Data Deconvolution Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten HDF5Data
HDF5Output HingeLoss Im2col ImageData InfogainLoss InnerProduct Input LRN LSTM LSTMUnit Log MVN
MemoryData MultinomialLogisticLoss PReLU Parameter Pooling Power Python RNN ReLU Reduction Reshape
SPP Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax SoftmaxWithLoss Split Swish TanH
Threshold Tile WindowData
"""


def test_every_type_of_bvlc_is_there() -> None:
    names = BVLC.split()
    assert len(names) == 61
    assert sorted(set(names) - set(catalogue)) == []


@pytest.mark.parametrize("name", BVLC.split())
def test_every_type_of_bvlc_has_a_file_of_its_name(name: str) -> None:
    module = catalogue.find(name).__module__.rpartition(".")[2]
    assert module.replace("_", "") == name.lower()


def test_no_file_has_two_types() -> None:
    types = Counter(
        name for each in modules_by_type("caffecompat.layers").values() for name in each
    )
    assert len(types) > 200
    assert [module for module, count in types.items() if count > 1] == []


# A type, or a type of a fork, and what it is, in a line.
HEAD = r"{}( of [^:]+)?: [a-z0-9].*\."


def built_in() -> dict[str, type[Layer]]:
    """All types but those that other tests have registered."""
    found = {name: catalogue.find(name) for name in catalogue}
    return {n: layer for n, layer in found.items() if layer.__module__.startswith("caffecompat.")}


def test_every_file_begins_alike() -> None:
    other = []
    for layer in built_in().values():
        kind = layer.type
        if issubclass(layer, PythonEquivalent):
            kind = layer.python_layers[0][1]
        head = (sys.modules[layer.__module__].__doc__ or "").partition("\n")[0]
        if not re.fullmatch(HEAD.format(kind), head):
            other.append(head)
    assert other == []


def test_every_type_names_its_source() -> None:
    texts = {name: " ".join(_descriptions(layer)) for name, layer in built_in().items()}
    without = [name for name, text in texts.items() if not re.search(r"Sources?:\s", text)]
    assert without == ["BoxData"]
    assert "An extension of caffecompat" in texts["BoxData"]


def sources(layer: type[Layer]) -> str:
    """The text of the class and of the classes it derives from, up to Layer."""
    classes = [
        c for c in layer.__mro__ if issubclass(c, Layer) and c.__module__ != Layer.__module__
    ]
    return "\n".join(inspect.getsource(c) for c in classes)


# Fields that the base class alone reads: in a message that the type makes for it, or in a set-up
# that the type replaces.
OF_THE_BASE = {"CCCP": {"convolution_param"}, "POOLING3D": {"pooling3d_param"}}


@pytest.mark.parametrize("name", list(catalogue))
def test_settings_name_what_the_type_reads(name: str) -> None:
    layer = catalogue.find(name)
    read = set(re.findall(r"message\.(\w+_param)\b", sources(layer)))
    read -= OF_THE_BASE.get(name, set())
    assert len(set(layer.settings())) == len(layer.settings())
    assert read <= set(layer.settings()), f"{name} reads {read}"


@pytest.mark.parametrize("name", list(catalogue))
def test_every_type_has_a_page(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", name]) == 0
    out = capsys.readouterr().out
    title = catalogue.find(name).type
    assert out.startswith(f"{title}\n{'=' * len(title)}\n\n")
    assert "bottoms: " in out


def test_page_of_pooling(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", "Pooling"]) == 0
    out = capsys.readouterr().out
    assert "temporal_stride" not in out
    for line in (
        "  pool: MAX | AVE | STOCHASTIC = MAX",
        "  ceil_mode: bool = true",
        "  kernel_size: uint32",
        "  stride: uint32 = 1",
        "  global_pooling: bool = false",
        "  round_mode: CEIL | FLOOR = CEIL",
    ):
        assert line in out.splitlines()


def test_page_of_a_type_described_elsewhere_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", "LSTM"]) == 0
    out = capsys.readouterr().out
    assert "See Recurrent. Source" in out.replace("\n", " ")
    assert "\nRecurrent: The base class of RNN and LSTM" in out
    assert "`" not in out
    assert "recurrent_param {" in out
    published = out.partition("A layer type of forks of Caffe")[0]
    assert "lstm_param {" not in published, "a fork's message, which the type does not read"


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, name in zip(lines[:-1], catalogue, strict=True):
        assert line.startswith(f"{name} ")
    assert all(len(line.split()) > 2 for line in lines)


def test_unknown_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", "Poolin"]) == 1
    assert "unknown layer type 'Poolin'; did you mean 'Pooling'?" in capsys.readouterr().err


@pytest.fixture
def forks() -> Catalogue[Layer]:
    """A catalogue of its own: one type of two forks, one of BVLC's that a fork changed."""
    found: Catalogue[Layer] = Catalogue("caffecompat.layers.fillers")

    class First(Layer):
        @classmethod
        def fits(cls, message: Any) -> bool | None:
            return True if message.HasField("bn_param") else None

    class Second(Layer):
        @classmethod
        def fits(cls, message: Any) -> bool | None:
            return False if message.HasField("bn_param") else None

    class Published(Layer):
        pass

    class Changed(Layer):
        @classmethod
        def fits(cls, message: Any) -> bool | None:
            return True if message.HasField("lstm_param") else None

    found.register("BN", fork="PSPNet, ICNet")(First)
    found.register("BN", fork="SegNet")(Second)
    found.register("LSTM")(Published)
    found.register("LSTM", fork="Lisa")(Changed)
    return found


def layer_message(text: str) -> Message:
    return parse_text(text, "LayerParameter")[0]


@pytest.mark.parametrize(
    ("text", "dialect", "chosen"),
    [
        ("type: 'BN' bn_param { }", "", "PSPNet, ICNet"),
        ("type: 'BN' bn_param { }", "segnet", "PSPNet, ICNet"),
        ("type: 'BN'", "SegNet", "SegNet"),
        ("type: 'BN'", "icnet", "PSPNet, ICNet"),
        ("type: 'LSTM'", "", ""),
        ("type: 'LSTM'", "lisa", "Lisa"),
        ("type: 'LSTM' lstm_param { num_output: 2 }", "", "Lisa"),
    ],
)
def test_the_definition_or_the_dialect_tells_the_fork(
    forks: Catalogue[Layer], text: str, dialect: str, chosen: str
) -> None:
    assert forks.choose(layer_message(text), dialect).fork == chosen


@pytest.mark.parametrize("dialect", ["", "enet"])
def test_nothing_tells_the_fork(forks: Catalogue[Layer], dialect: str) -> None:
    with pytest.raises(LayerError) as caught:
        forks.choose(layer_message("type: 'BN'"), dialect, "net.prototxt:3 (layer 'bn')")
    assert str(caught.value) == (
        "net.prototxt:3 (layer 'bn'): several forks of Caffe define the type 'BN' differently "
        "(PSPNet, ICNet; SegNet), and this definition does not tell which is meant; state one of "
        "them, as in dialect='segnet' (--dialect segnet)"
    )


def test_names_of_types_with_several_definitions(forks: Catalogue[Layer]) -> None:
    assert list(forks) == ["BN (PSPNet, ICNet)", "BN (SegNet)", "LSTM", "LSTM (Lisa)"]
    assert "BN" in forks
    assert forks.find("BN (SegNet)").fork == "SegNet"
    assert forks.find("LSTM").fork == ""
    with pytest.raises(LayerError, match="several forks"):
        forks.find("BN")


@pytest.mark.parametrize("dialect", ["", "segnet", "SegNet", "icnet", "Lisa", "bvlc"])
def test_dialects_that_a_definition_has(forks: Catalogue[Layer], dialect: str) -> None:
    forks.check_dialect(dialect)


def test_a_dialect_that_no_definition_has(forks: Catalogue[Layer]) -> None:
    with pytest.raises(UnknownName) as caught:
        forks.check_dialect("xyz")
    assert str(caught.value) == ("unknown dialect 'xyz'; known: bvlc, icnet, lisa, pspnet, segnet")
    with pytest.raises(UnknownName, match="unknown dialect 'segnett'; did you mean 'segnet'"):
        forks.check_dialect("segnett")


def test_bvlc_is_a_dialect(forks: Catalogue[Layer]) -> None:
    assert forks.choose(layer_message("type: 'LSTM'"), "bvlc").fork == ""


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in verb_names()
        if "--dialect" in verb_parser(name, load_verb(name)).format_help()
    ],
)
def test_every_verb_refuses_an_unknown_dialect(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        verb_parser(name, load_verb(name)).parse_args(["--dialect", "openvin"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "argument --dialect: unknown dialect 'openvin'; did you mean 'openvino'?" in said


@pytest.mark.parametrize(
    "build",
    [
        lambda path: Net(path, dialect="nosuch"),
        lambda path: examine(path, ExaminationOptions(dialect="nosuch")),
    ],
)
def test_python_refuses_an_unknown_dialect(build: Callable[[Path], object], tmp_path: Path) -> None:
    """Of a net whose types each have one definition, too."""
    path = tmp_path / "net.prototxt"
    path.write_text('input: "x" input_shape { dim: 2 dim: 3 }')
    with pytest.raises(UnknownName, match=r"unknown dialect 'nosuch'; known: .*, openvino, "):
        build(path)


def test_a_dialect_that_the_net_does_not_need(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text('input: "x" input_shape { dim: 2 dim: 3 }')
    assert Net(path, dialect="FaceBoxes").inputs == ["x"]


def test_input_layers_have_one_name() -> None:
    """That of the type, which definitions, weight files and conversions write."""
    assert catalogue.find(INPUT).type == INPUT == "Input"
