"""The verbs upgrade-net and upgrade-solver beyond the recorded cases: losses are reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import caffecompat
from caffecompat.cli.main import main
from caffecompat.proto.binary import dialects
from caffecompat.proto.text.parser import parse_text


def test_a_lossy_upgrade_is_written_and_reported_and_returns_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    source.write_text("layers { layer { name: 'r' type: 'relu' group: 2 pad: 3 } top: 'y' }")
    assert main(["upgrade_net", str(source), str(target)]) == 1
    assert target.read_text() == 'layer {\n  name: "r"\n  type: "ReLU"\n  top: "y"\n}\n'
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == f"wrote {target}"
    assert said.err.splitlines()[-1] == "2 settings could not be kept, see above"


def test_fields_that_no_old_layer_used_are_no_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Caffe's tool does not look at new_num and new_channels, on any type."""
    source, target = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    source.write_text("layers { layer { name: 'r' type: 'relu' new_num: 2 new_channels: 3 } }")
    assert main(["upgrade_net", str(source), str(target)]) == 0
    assert target.read_text() == 'layer {\n  name: "r"\n  type: "ReLU"\n}\n'
    said = capsys.readouterr()
    assert "layer 'r' (relu): dropped new_num, which no layer of the first" in said.out
    assert not said.err


@pytest.mark.parametrize("flag", ["", "--binary"])
def test_a_binary_net_of_a_fork_keeps_its_dialect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    text = "input: 'x' input_dim: [1, 2, 3, 4] layer { type: 'Permute' permute_param { order: 1 } }"
    source, target = tmp_path / "old.caffemodel", tmp_path / "new.caffemodel"
    source.write_bytes(dialects.to_dialect(parse_text(text, "NetParameter")[0], "ssd"))
    assert main(["upgrade-net", str(source), str(target), *flag.split()]) == 0
    data = target.read_bytes()
    assert dialects.dialect_of(data) == "ssd"
    net = dialects.from_dialect(data, "NetParameter", "ssd")[0]
    assert [layer.type for layer in net.layer] == ["Input", "Permute"]
    assert net.layer[1].permute_param.order == [1]
    assert "read by the numbers of the dialect 'ssd'" in capsys.readouterr().out


FORK_NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 3 dim: 5 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "Normalize" bottom: "conv" top: "norm"
        norm_param { across_spatial: false scale_filler { type: "constant" value: 20 } } }
layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool"
        pooling_param { pool: AVE kernel_size: 2 stride: 2 ceil_mode: false } }
layer { name: "perm" type: "Permute" bottom: "pool" top: "perm"
        permute_param { order: [0, 2, 3, 1] } }
"""


def test_a_snapshot_of_a_net_with_layers_of_forks_is_upgraded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their fields have numbers of this package's, which no other dialect has."""
    source, target = tmp_path / "old.caffemodel", tmp_path / "new.caffemodel"
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(FORK_NET)
    net = caffecompat.Net(prototxt, caffecompat.TEST)
    net.save(source)
    assert main(["upgrade-net", str(source), str(target)]) == 0
    out = capsys.readouterr().out
    assert "read by the numbers of the dialect 'caffecompat', and written by them" in out
    data = target.read_bytes()
    assert data == source.read_bytes()
    assert dialects.dialect_of(data) == "caffecompat"
    found = dialects.from_dialect(data, "NetParameter", "caffecompat")
    assert (found.left_out, len(found.message.layer)) == (0, 5)
    _, _, norm, pool, perm = found.message.layer
    assert norm.norm_param.scale_filler.value == 20
    assert pool.pooling_param.HasField("ceil_mode")
    assert perm.permute_param.order == [0, 2, 3, 1]
    again = caffecompat.Net(prototxt, target, caffecompat.TEST)
    for name in ("conv", "norm"):
        for one, other in zip(net.params[name], again.params[name], strict=True):
            assert (one.data == other.data).all()


def test_a_binary_solver(tmp_path: Path) -> None:
    source, target = tmp_path / "old.bin", tmp_path / "new.bin"
    old = parse_text("solver_type: ADAM base_lr: 3", "SolverParameter")[0]
    source.write_bytes(old.SerializeToString())
    assert main(["upgrade-solver", str(source), str(target)]) == 0
    new = parse_text("type: 'Adam' base_lr: 3", "SolverParameter")[0]
    assert target.read_bytes() == new.SerializeToString()
    both = parse_text("solver_type: ADAM type: 'SGD'", "SolverParameter")[0]
    source.write_bytes(both.SerializeToString())
    assert main(["upgrade-solver", str(source), str(target), "--binary"]) == 1


BAD = [
    ("upgrade-net", "", "nosuch: there is no such file"),
    ("upgrade-net", "layer { name: 'a' typ: 'b' }", ":1:19: layer 'a': unknown field 'typ'"),
    ("upgrade-net", "base_lr: 3 max_iter: 4", "this looks like a solver"),
    ("upgrade-net", "version https://git-lfs.github.com/spec/v1\n", "this is a Git LFS pointer"),
    ("upgrade-solver", "layer { name: 'a' }", "this looks like a net"),
    ("upgrade-solver", "solver_type: 7", "solver_type has no value 7"),
]


@pytest.mark.parametrize(("verb", "text", "sentence"), BAD)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, text: str, sentence: str
) -> None:
    source, target = tmp_path / ("old" if text else "nosuch"), tmp_path / "new"
    if text:
        source.write_text(text)
    target.write_text("as it was")
    assert main([verb, str(source), str(target)]) == 1
    assert sentence in capsys.readouterr().err
    assert target.read_text() == "as it was"


def test_text_given_as_binary_and_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "net.prototxt"
    source.write_text("layer { name: 'a' }")
    assert main(["upgrade-net", str(source), str(tmp_path / "new"), "--binary"]) == 1
    assert "this is text (perhaps a prototxt), expected a binary NetParameter" in (
        capsys.readouterr().err
    )
    for verb in ("upgrade-net", "upgrade-solver"):
        assert main([verb, str(source)]) == 2
        assert "target" in capsys.readouterr().err


def field(number: int, content: bytes) -> bytes:
    """A field of protobuf's wire format that holds bytes."""
    key = number << 3 | 2
    start = bytes([key]) if key < 128 else bytes([key & 127 | 128, key >> 7])
    return start + bytes([len(content)]) + content


NO_TEXT = b"\xff\xfd"
OLD_LAYER = field(1, field(1, b"c") + field(2, b"conv"))
NOT_UTF8 = {
    "an input": field(3, NO_TEXT) + b"\x20\x01\x20\x02\x20\x03\x20\x04",
    "a name of 2013": field(2, field(1, field(1, NO_TEXT) + field(2, b"relu"))),
    "a type of 2013": field(2, field(1, field(1, b"r") + field(2, NO_TEXT))),
    "a bottom of 2013": field(2, OLD_LAYER + field(2, NO_TEXT)),
    "a name of 2014": field(2, field(4, NO_TEXT) + b"\x28\x12"),
    "a top of 2014": field(2, field(4, b"r") + field(3, NO_TEXT) + b"\x28\x12"),
    "a name of today": field(100, field(1, NO_TEXT) + field(2, b"ReLU")),
    "a type of today": field(100, field(1, b"r") + field(2, NO_TEXT)),
    "a top of today": field(100, field(1, b"r") + field(2, b"ReLU") + field(4, NO_TEXT)),
    "the net's name": field(1, NO_TEXT) + field(100, field(1, b"r") + field(2, b"ReLU")),
}


@pytest.mark.parametrize("content", NOT_UTF8.values(), ids=NOT_UTF8.keys())
@pytest.mark.parametrize("verb", ["upgrade-net", "upgrade-solver", "summary"])
def test_strings_that_are_not_utf8_are_kept_or_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, content: bytes
) -> None:
    source, target = tmp_path / "old.caffemodel", tmp_path / "new.caffemodel"
    source.write_bytes(content)
    files = [str(source), str(target)] if verb.startswith("upgrade") else [str(source)]
    flags = ["--binary"] if verb.startswith("upgrade") else []
    code = main([verb, *files, *flags])
    said = capsys.readouterr()
    if code == 0:
        assert NO_TEXT in target.read_bytes()
    else:
        assert code == 1
        assert said.err.startswith("caffecompat: error: ")
        assert not target.exists() or "could not be kept" in said.err


@pytest.mark.parametrize("verb", ["upgrade-net", "upgrade-solver", "parse-log", "graph"])
def test_devices_and_pipes_are_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for source in ("/dev/zero", "/dev/urandom", str(pipe)):
        second = [str(tmp_path / "out")] if verb != "graph" else []
        assert main([verb, source, *second]) == 1
        assert "expected a file" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [pipe]


def test_a_file_above_the_limit_is_read_with_max_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "n.prototxt", tmp_path / "new.prototxt"
    source.write_text("name: 'n' # " + "x" * 100)
    monkeypatch.setattr("caffecompat.proto.files.MAX_PROTOTXT_BYTES", 50)
    assert main(["upgrade-net", str(source), str(target)]) == 1
    assert "more than the limit of 50" in capsys.readouterr().err
    assert not target.exists()
    assert main(["upgrade-net", str(source), str(target), "--max-bytes", "200"]) == 0
    assert target.read_text() == 'name: "n"\n'
