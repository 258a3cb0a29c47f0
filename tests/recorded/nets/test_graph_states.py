"""State rules, splits, names and shapes against the nets that BVLC Caffe 1.0 built."""

from __future__ import annotations

import pytest

from caffecompat import Net
from caffecompat.errors import CaffeError, SolverError, UnknownName
from caffecompat.graph import build_graph, net_state
from caffecompat.proto.files import read_net
from caffecompat.solver import Solver
from tests.recorded.cases import Case


@pytest.mark.recorded_cases("state rules")
def test_rules(case: Case) -> None:
    message, lines = read_net(case.path)
    facts = case.facts
    state = net_state(message, facts["phase"], facts["level"], facts["stages"])
    if not facts["works"]:
        with pytest.raises(CaffeError, match="both include and exclude"):
            build_graph(message, state, lines.place, strict=True)
        return
    graph = build_graph(message, state, lines.place, strict=True)
    assert [node.name for node in graph] == facts["layers"]
    assert graph.outputs == facts["outputs"]


@pytest.mark.recorded_cases("net shapes")
def test_shapes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case.path.parents[1])
    net, facts = Net(case.path), case.facts
    assert [built.name for built in net.layers] == facts["layers"]
    assert [built.type for built in net.layers] == facts["types"]
    assert [[name, list(net.blobs[name].shape)] for name in net.blobs] == facts["blobs"]
    assert net.inputs == facts["inputs"]
    assert net.outputs == facts["outputs"]
    for layer, shapes in facts["params"]:
        assert [list(p.shape) for p in net.params[layer]] == shapes


@pytest.mark.recorded_cases("nets of solvers")
def test_nets_of_a_solver(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which layers the train net and the test nets have; which definitions Caffe refuses."""
    monkeypatch.chdir(case.path)
    path, facts = case.facts["solver"], case.facts
    if not facts["works"]:
        with pytest.raises((SolverError, UnknownName), match=path):
            Solver(path)
        return
    solver = Solver(path)
    assert [built.name for built in solver.net.layers] == facts["train"]
    assert [[built.name for built in net.layers] for net in solver.test_nets] == facts["test"]
