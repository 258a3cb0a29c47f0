"""Nets of many layers are built in time that grows with their number, and sizes have a limit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from caffecompat.errors import LayerError
from caffecompat.layers.relu import ReLU
from caffecompat.net import Net
from caffecompat.proto import schema


def chain(count: int, body: str = 'type: "ReLU"') -> Any:
    text = 'layer { name: "in" type: "Input" top: "b0" input_param { shape { dim: 2 dim: 3 } } }\n'
    for i in range(count):
        text += f'layer {{ name: "l{i}" {body} bottom: "b{i}" top: "b{i + 1}" }}\n'
    return text_format.Parse(text, schema.new("NetParameter"))


def lines_run(work: Callable[[], Any]) -> int:
    """How many lines and turns of comprehensions of this package run in ``work``."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        if "caffecompat" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def test_building_grows_with_the_number_of_layers() -> None:
    def build(net: Any) -> None:
        built = Net(net, shapes_only=True)
        built.program(observed=True)

    build(chain(2))
    few, many = (lines_run(lambda n=n: build(chain(n))) for n in (100, 400))  # type: ignore[misc]
    assert many < 4.4 * few


def test_layers_of_one_kind_are_inferred_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    forward = ReLU.forward

    def counted(layer: ReLU, x: Any) -> Any:
        calls.append(x)
        return forward(layer, x)

    monkeypatch.setattr(ReLU, "forward", counted)
    net = Net(chain(50), shapes_only=True)
    assert len(calls) == 1
    assert [list(built.shapes) for built in net.layers] == [[(2, 3)]] * 51
    net = Net(chain(50, 'type: "ReLU" relu_param { negative_slope: 0.1 }'), shapes_only=True)
    assert len(calls) == 2


@pytest.mark.parametrize("tiles", [2, 2**20, 2**31 - 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_tops_that_no_memory_holds_are_refused(tiles: int, axis: int) -> None:
    body = f'type: "Tile" tile_param {{ tiles: {tiles} axis: {axis} }}'
    with pytest.raises(LayerError, match=r"layer 'l\d+' \(Tile\): its top is .* values, more than"):
        Net(chain(70, body), shapes_only=True)


def test_a_tile_chain_in_a_summary_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from caffecompat.cli.main import main

    path = tmp_path / "n.prototxt"
    path.write_text(str(chain(70, 'type: "Tile" tile_param { tiles: 2147483647 }')))
    assert main(["summary", str(path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
