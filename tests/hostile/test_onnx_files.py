"""ONNX files that are small and claim much: refused before memory is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caffecompat.cli.main import main
from caffecompat.errors import ExportError, FormatError
from caffecompat.export.onnx_file import read_onnx
from caffecompat.weights.encodings import wire

onnx = pytest.importorskip("onnx")


def part(number: int, data: bytes) -> bytes:
    return b"".join(bytes(piece) for piece in wire.delimited(number, [data]))


def model(shape: list[int], node: str = "Relu") -> Any:
    """A net of one operator."""
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, extents)
        for name, extents in (("x", shape), ("y", None))
    ]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(node, ["x"], ["y"])], "g", values[:1], values[1:]
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_a_million_empty_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bytes each in the file, and a hundred in memory."""
    path = tmp_path / "x.onnx"
    path.write_bytes(b"\x08\x08" + part(7, b"\x0a\x00" * 1_000_000))
    with pytest.raises(FormatError, match=r"x\.onnx: its messages would take .* --max-bytes"):
        read_onnx(path)
    assert len(read_onnx(path, 1 << 30).graph.node) == 1_000_000


def test_a_large_weight_claims_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    found = model([1, 3])
    found.graph.initializer.add(name="w", data_type=1, dims=[1 << 24], raw_data=bytes(1 << 26))
    path.write_bytes(found.SerializeToString())
    assert len(read_onnx(path, path.stat().st_size).graph.initializer[0].raw_data) == 1 << 26


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ([-5, 3], "input 'x' is -5x3, with a negative extent"),
        ([1 << 20, 1 << 20], "the inputs have 1,099,511,627,776 values, more than the 67,108,864"),
    ],
)
def test_inputs_that_no_machine_holds(
    shape: list[int], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "x.onnx"
    onnx.save(model(shape), path)
    assert main(["verify", str(path), str(path)]) == 1
    assert sentence in capsys.readouterr().err
    onnx.save(model([5, 3]), path)
    assert main(["verify", str(path), str(path)]) == 0


def test_operators_with_code_of_their_own_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    found = model([1, 3])
    found.opset_import.add(domain="org.example", version=1)
    path.write_bytes(found.SerializeToString())
    with pytest.raises(ExportError, match=r"operators of 'org\.example', which come with code"):
        read_onnx(path)


def test_weights_in_other_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    found = model([1, 3])
    weight = found.graph.initializer.add(name="w", data_type=1, dims=[3], data_location=1)
    weight.external_data.add(key="location", value="../../etc/passwd")
    path.write_bytes(found.SerializeToString())
    with pytest.raises(ExportError, match="its weights are in other files, which are not read"):
        read_onnx(path)
