"""Files of messages: text and binary, and files that are something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import caffecompat.proto
from caffecompat.errors import FileProblem, FormatError, NetError, SolverError, TextError
from caffecompat.proto import files, schema

NET = 'name: "n"\nlayer {\n  name: "a"\n  type: "ReLU"\n}\n'
# A NetParameter with name "n" and one layer named "ab".
BINARY = b"\x0a\x01n\xa2\x06\x04\x0a\x02ab"


def test_text_goes_out_and_in(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    net, source = files.read_text(path, "NetParameter")
    assert source.path == str(path)
    assert source.place("a") == f"{path}:2"
    files.write_text(net, tmp_path / "again.prototxt")
    assert (tmp_path / "again.prototxt").read_text() == NET


def test_binary_bytes_are_pinned(tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(BINARY)
    net = files.read_binary(tmp_path / "net", "NetParameter")
    assert net.name == "n"
    assert [layer.name for layer in net.layer] == ["ab"]
    files.write_binary(net, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == BINARY


def test_our_extension_is_skipped_by_those_who_do_not_know_it() -> None:
    state = schema.new("SolverState")
    state.iter = 3
    state.random_seed = 5
    # Number 5000, wire type 0: readers of BVLC's schema pass over it as an unknown field.
    assert state.SerializeToString() == b"\x08\x03\xc0\xb8\x02\x05"


def test_nets_and_solvers_are_upgraded_on_reading(tmp_path: Path) -> None:
    path = tmp_path / "old.prototxt"
    path.write_text('layers { name: "r" type: RELU }\n')
    net, source = files.read_net(path)
    assert [layer.type for layer in net.layer] == ["ReLU"]
    assert len(source.notes) == 1
    assert source.place("r") == f"{path}:1"
    path.write_text("solver_type: ADAM")
    solver, source = files.read_solver(str(path))
    assert solver.type == "Adam"
    assert len(source.notes) == 1
    path.write_text("base_lr: 0.5")
    assert files.read_solver(path)[1].notes == ()


def test_the_public_readers_return_the_message_alone(tmp_path: Path) -> None:
    path = tmp_path / "old.prototxt"
    path.write_text('layers { name: "r" type: RELU }\n')
    assert caffecompat.proto.read_net(path) == files.read_net(path)[0]
    path.write_text("solver_type: ADAM")
    assert caffecompat.proto.read_solver(path) == files.read_solver(path)[0]


def test_lenient_reading_goes_through(tmp_path: Path) -> None:
    path = tmp_path / "fork.prototxt"
    path.write_text("fork: 1 name: 'n'")
    with pytest.raises(TextError):
        files.read_net(path)
    net, source = files.read_net(path, lenient=True)
    assert net.name == "n"
    assert len(source.warnings) == 1
    path.write_text("fork: 1 base_lr: 2")
    assert len(files.read_solver(path, lenient=True)[1].warnings) == 1


def test_both_kinds_of_layers_keep_the_order_of_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "both.prototxt"
    path.write_text(
        "layers { name: 'a' type: INPUT top: 'x' input_param { shape { dim: 2 dim: 3 } } }\n"
        "layer { name: 'b' type: 'ReLU' bottom: 'x' top: 'x' }\n"
        "layers { name: 'c' type: INNER_PRODUCT bottom: 'x' top: 'y' blobs_lr: 2\n"
        "  inner_product_param { num_output: 4 } }\n"
        "layer { name: 'd' type: 'Softmax' bottom: 'y' top: 'p' }"
    )
    net, source = files.read_net(path)
    assert [(layer.name, layer.type) for layer in net.layer] == [
        ("a", "Input"),
        ("b", "ReLU"),
        ("c", "InnerProduct"),
        ("d", "Softmax"),
    ]
    assert net.layer[2].param[0].lr_mult == 2
    assert not net.layers
    assert "joined layer and layers entries in the order of their lines" in source.notes
    assert source.place("d") == f"{path}:5"


def test_a_failing_upgrade_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "both.prototxt"
    path.write_text("name: 'n'\nlayers { name: 'b' } layer { name: 'a' }")
    with pytest.raises(NetError) as raised:
        files.read_net(path)
    assert str(raised.value) == (
        f"{path}:2: the net has both layer (e.g. 'a' on line 2) and layers (e.g. 'b' on line 2) "
        "entries, whose order is unknown; write all as layer"
    )
    path.write_text("base_lr: 1\nsolver_type: SGD\n\ntype: ''")
    with pytest.raises(SolverError) as refused:
        files.read_solver(path)
    assert str(refused.value) == (
        f"{path}:2: the solver gives both solver_type on line 2 and type ('' on line 4); "
        "remove solver_type"
    )
    path.write_text("input: ['x',\n 'y']\ninput: 'z'\ninput_dim: [1, 2, 3, 4, 1, 2, 3, 4, 1]")
    with pytest.raises(NetError, match=r"both.prototxt:3: input 'z' is number 3 of 3"):
        files.read_net(path)
    path.write_text(
        "layers {\n layer { name: 'r' type: 'relu' } } layers: [ { }, {\n bottom: 'q' }]"
    )
    with pytest.raises(NetError, match=r"both.prototxt:2: layer '' \(number 3\): no layer above"):
        files.read_net(path)


@pytest.mark.parametrize(
    "reader", [files.read_net, files.read_solver, lambda path: files.read_binary(path, "Datum")]
)
def test_unreadable_files_are_named(tmp_path: Path, reader: Callable[[Path], Any]) -> None:
    with pytest.raises(FileProblem, match=r"nosuch: there is no such file \(from /"):
        reader(tmp_path / "nosuch")
    with pytest.raises(FileProblem, match=r": is a folder, expected a file$"):
        reader(tmp_path)


NOT_TEXT = [
    (b"", "the file is empty"),
    (
        BINARY,
        "this is a binary file (perhaps a .caffemodel or .binaryproto; caffecompat inspect tells)",
    ),
    (b"\x89HDF\r\n\x1a\n" + b"\0" * 8, "this is an HDF5 file"),
    (b"PK\x03\x04\x00", "this is a zip archive"),
    (b"\xff\xfen\x00a\x00", "this is UTF-16 text; save it as UTF-8"),
    (b"version https://git-lfs.github.com/spec/v1\n", "this is a Git LFS pointer"),
    (b"<html><body>404</body></html>", "this is a web page"),
]


@pytest.mark.parametrize(("data", "sentence"), NOT_TEXT)
def test_other_files_than_text_are_recognised(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(data)
    with pytest.raises(FormatError) as raised:
        files.read_net(path)
    assert str(raised.value).startswith(f"{path}: {sentence}")
    assert str(raised.value).endswith(", expected prototxt text (NetParameter)")


NOT_BINARY = [
    (NET.encode(), "this is text (perhaps a prototxt)"),
    (b"version https://git-lfs.github.com/spec/v1\n", "this is a Git LFS pointer"),
    (BINARY[:-1], "the data is damaged, cut off or of another kind"),
    (b"\x89HDF\r\n\x1a\n" + b"\0" * 8, "this is an HDF5 file"),
    (b"\xc0\xb8\x02\x05", "the data holds none of its fields"),
]


@pytest.mark.parametrize(("data", "sentence"), NOT_BINARY)
def test_other_bytes_than_a_message_are_refused(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(data)
    with pytest.raises(FormatError) as raised:
        files.read_binary(path, "NetParameter")
    assert str(raised.value).startswith(f"{path}: {sentence}")
    assert str(raised.value).endswith(", expected a binary NetParameter")


def test_a_text_that_begins_like_a_message_is_no_text(tmp_path: Path) -> None:
    """Every byte of this message is printable, and it is a message all the same."""
    data = b"\x0a\x20" + b"n" * 32
    (tmp_path / "net").write_bytes(data)
    assert files.read_binary(tmp_path / "net", "NetParameter").name == "n" * 32


@pytest.mark.parametrize("cut", range(2, len(BINARY)))
def test_a_cut_message_is_never_a_traceback(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut"
    path.write_bytes(BINARY[:cut])
    if cut == len(BINARY[:3]):  # between the name and the layer: what is there is whole
        assert files.read_binary(path, "NetParameter").name == "n"
        return
    with pytest.raises(FormatError, match="cut: the data is damaged, cut off or of another kind"):
        files.read_binary(path, "NetParameter")


def test_a_failed_writing_names_the_file(tmp_path: Path) -> None:
    for write in (files.write_text, files.write_binary):
        with pytest.raises(FileProblem, match=r"net: cannot be written: there is no folder"):
            write(schema.new("NetParameter"), tmp_path / "no" / "net")
