"""State rules, splits, names and shapes against the nets that BVLC Caffe 1.0 built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from caffecompat import Net
from caffecompat.errors import CaffeError
from caffecompat.graph import build_graph, net_state
from caffecompat.layers import catalogue
from caffecompat.proto.files import read_net


def build(path: Path, phase: str, level: int, stages: list[str]) -> Any:
    message, lines = read_net(path)
    return build_graph(message, net_state(message, phase, level, stages), lines.place, strict=True)


def test_rules(golden: Path) -> None:
    folder = golden / "netstate"
    cases = json.loads((folder / "rules.json").read_text())["cases"]
    assert len(cases) > 50
    for case in cases:
        arguments = (folder / case["net"], case["phase"], case["level"], case["stages"])
        if case["works"]:
            graph = build(*arguments)
            assert [node.name for node in graph] == case["layers"], case
            assert graph.outputs == case["outputs"], case
        else:
            with pytest.raises(CaffeError, match="both include and exclude"):
                build(*arguments)


def test_shapes(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = golden / "netstate"
    monkeypatch.chdir(folder)
    recorded = json.loads((folder / "shapes.json").read_text())
    checked = 0
    for case in recorded["nets"]:
        name = case["net"]
        if any(t not in catalogue for t in case["types"]):
            continue
        net = Net(folder / name)
        assert [b.name for b in net.layers] == case["layers"], name
        assert [b.type for b in net.layers] == case["types"], name
        assert [[blob, list(net.blobs[blob].shape)] for blob in net.blobs] == case["blobs"], name
        assert net.inputs == case["inputs"], name
        assert net.outputs == case["outputs"], name
        for layer, shapes in case["params"]:
            assert [list(p.shape) for p in net.params[layer]] == shapes, name
        checked += 1
    assert checked >= 3
