"""A file that is not what a reader expects, and what the message about it advises: that is read."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.errors import FormatError, UnknownName
from caffecompat.proto import files, schema
from caffecompat.proto.binary.nets import read_binary_net
from caffecompat.proto.text.parser import parse_text
from tests.commands import Run, refused, verb_runner

NET = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "ip" top: "loss" }
"""
SOLVER = "net: 'net.prototxt' base_lr: 0.1 lr_policy: 'fixed' max_iter: 1"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb beside a net and a solver; returns its error, "" when it succeeded."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)
    return verb_runner(capfd)


def net(text: str) -> Any:
    return parse_text(text, "NetParameter")[0]


def test_a_solver_in_the_place_of_a_net(run: Run) -> None:
    words = (
        "a net was expected; give the net that it names, or give the solver to train --solver or "
        "upgrade-solver"
    )
    refused(lambda: Net("solver.prototxt"), words)
    assert Net("net.prototxt").forward()
    assert words in run("summary solver.prototxt")
    assert not run("summary net.prototxt")
    assert not run("train --solver solver.prototxt --cpu --no-log")
    assert words in run("upgrade-net solver.prototxt new.prototxt")
    assert not run("upgrade-solver solver.prototxt new.prototxt")


def test_a_net_in_the_place_of_a_solver(run: Run) -> None:
    words = (
        "a solver was expected; give a solver that names it in its net field, or give the net to "
        "summary, upgrade-net or test --model"
    )
    assert words in run("train --solver net.prototxt --cpu --no-log")
    assert not run("train --solver solver.prototxt --cpu --no-log")
    assert not run("summary net.prototxt")
    assert words in run("upgrade-solver net.prototxt new.prototxt")
    assert not run("upgrade-net net.prototxt new.prototxt")
    Net("net.prototxt").save("net.caffemodel")
    assert not run("test --model net.prototxt --weights net.caffemodel --iterations 1")


# What stands in the file, the words about it, and how the file is made that they want.
OTHER_KINDS = [
    (
        gzip.compress(NET.encode()),
        "this is a gzip archive; unpack it first",
        gzip.decompress,
    ),
    (
        NET.encode("utf-16"),
        "this is UTF-16 text; save it as UTF-8",
        lambda data: data.decode("utf-16").encode("utf-8"),
    ),
    (
        b"version https://git-lfs.github.com/spec/v1\n",
        "this is a Git LFS pointer, not the file itself (run: git lfs pull)",
        lambda _: NET.encode(),  # what that command puts into the place of the pointer
    ),
    (
        b"<html><body>404</body></html>",
        "this is a web page, not the file itself (download the raw file)",
        lambda _: NET.encode(),
    ),
    (b"", "the file is empty", lambda _: NET.encode()),
    (b'{"name": 3}', "this is JSON or YAML", lambda _: NET.encode()),
]


@pytest.mark.parametrize(
    ("data", "words", "remedy"), OTHER_KINDS, ids=[words for _, words, _ in OTHER_KINDS]
)
def test_files_of_other_kinds(
    run: Run, data: bytes, words: str, remedy: Callable[[bytes], bytes]
) -> None:
    path = Path("other.prototxt")
    path.write_bytes(data)
    assert words in run("summary other.prototxt")
    refused(lambda: Net(path), words)
    path.write_bytes(remedy(data))
    assert not run("summary other.prototxt")
    assert Net(path).forward()


def test_binary_files_in_the_place_of_text(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    Net("net.prototxt").save("net.caffemodel")
    Path("net.caffemodel").rename("other.prototxt")
    words = "(perhaps a .caffemodel or .binaryproto; caffecompat inspect tells)"
    assert words in run("summary other.prototxt")
    assert main(["inspect", "other.prototxt"]) == 0
    assert "caffemodel" in capfd.readouterr().out


def test_text_in_the_place_of_a_binary_file(run: Run) -> None:
    words = "this is text (perhaps a prototxt), expected a binary NetParameter"
    assert words in run("upgrade-net --binary net.prototxt new.prototxt")
    assert not run("upgrade-net net.prototxt new.prototxt")


def test_binary_files_above_what_protobuf_reads(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Net("net.prototxt").save("net.caffemodel")
    monkeypatch.setattr(files, "MAX_BINARY_BYTES", 20)
    words = "that a binary message can have; inspect and convert read weight files of any size"
    assert words in run("upgrade-net net.caffemodel new.caffemodel")
    assert not run("inspect net.caffemodel")
    assert not run("convert net.caffemodel net.npz")


def test_a_net_that_lacks_what_the_schema_requires(run: Run) -> None:
    clip = 'layer { name: "c" type: "Clip" bottom: "ip" top: "c" clip_param { min: 0 %s } }'
    Path("net.prototxt").write_text(NET + clip % "max: 1")
    Net("net.prototxt", seed=3).save("net.caffemodel")
    whole = Path("net.caffemodel").read_bytes()
    damaged = net(NET + clip % "max: 1")
    damaged.layer[1].CopyFrom(schema.message_class("NetParameter").FromString(whole).layer[1])
    damaged.layer[3].clip_param.ClearField("max")
    Path("net.caffemodel").write_bytes(damaged.SerializePartialToString())
    words = (
        "it would lack layer[3].clip_param.max, without which no Caffe reads it; the source is "
        "damaged: add the field to a prototxt of the net, or copy the source again"
    )
    assert words in run("upgrade-net net.caffemodel new.caffemodel")
    Path("net.prototxt").write_text(NET + clip % "")
    refused(lambda: Net("net.prototxt"), "clip_param needs max")
    Path("net.prototxt").write_text(NET + clip % "max: 1")
    assert Net("net.prototxt", weights="net.caffemodel").forward()
    Path("net.caffemodel").write_bytes(whole)
    assert not run("upgrade-net net.caffemodel new.caffemodel")


@pytest.mark.parametrize(
    ("layer", "field", "dialects"),
    [
        ("type: 'Permute' permute_param { order: 1 }", "permute_param", ["ssd", "nvcaffe"]),
        ("type: 'BatchNorm' forward_type: FLOAT16", "forward_type", ["nvcaffe"]),
        ("type: 'BN' bn_param { }", "bn_param", []),
    ],
)
def test_dialects_without_a_number(
    tmp_path: Path, layer: str, field: str, dialects: list[str]
) -> None:
    made, path = net(f"layer {{ name: 'l' {layer} }}"), tmp_path / "net.bin"
    with pytest.raises(FormatError) as caught:
        files.write_binary(made, path, "vgg2013")
    written = f"no number for LayerParameter.{field}; write text"
    dialects = ["caffecompat", *dialects]
    others = f", or the dialect {' or '.join(map(repr, dialects))}"
    assert str(caught.value).endswith(written + others)
    files.write_text(made, path)
    assert files.read_net(path)[0] == made
    for dialect in dialects:
        files.write_binary(made, path, dialect)
        assert read_binary_net(path, dialect)[0] == made


def test_an_unknown_dialect(tmp_path: Path) -> None:
    with pytest.raises(UnknownName) as caught:
        files.write_binary(net("name: 'n'"), tmp_path / "net.bin", "sdd")
    found = re.search(r"; did you mean '(.*)'\?", str(caught.value))
    assert found is not None
    files.write_binary(net("name: 'n'"), tmp_path / "net.bin", found[1])


def test_layers_with_settings_of_two_fork_types(tmp_path: Path) -> None:
    kind = schema.message_class("NetParameter", "ssd")
    layer = {"name": "n", "type": "Normalize", "permute_param": {}, "norm_param": {"eps": 0.5}}
    path = tmp_path / "net.bin"
    path.write_bytes(kind(layer=[layer]).SerializeToString())
    words = "; read the file with caffecompat.proto.binary.nets.read_binary_net, which does that"
    refused(lambda: files.read_binary(path, "NetParameter", "ssd"), words)
    found, _ = read_binary_net(path, "ssd")
    assert found.layer[0].norm_param.eps == 0.5
