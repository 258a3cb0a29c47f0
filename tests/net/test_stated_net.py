"""Top shapes that layers state agree with those of their forward passes, and need no torch."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from caffecompat.cli.main import main
from caffecompat.layers import BuildOptions, Layer, catalogue
from caffecompat.layers._module_index import modules_by_type
from tests.layers.contract.drawn import on_examples
from tests.layers.messages import message
from tests.layers.single import build
from tests.layers.strategies import Example
from tests.net.shapes.common_types import COMMON
from tests.net.stated_nets import states_what_a_net_finds
from tests.places import REPOSITORY
from tests.recorded.cases import Case

COMMAND = """
import sys
from caffecompat.cli.main import main
assert main(sys.argv[1:]) == 0
print([name for name in ("torch", "numpy") if name in sys.modules], file=sys.stderr)
"""


def inferred(layer: Layer, bottoms: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    parameters = {spec.name: torch.empty(spec.shape, device="meta") for spec in layer.specs}
    with torch.no_grad():
        tops = layer.infer(*(torch.empty(b, device="meta") for b in bottoms), **parameters)
    tops = tops if isinstance(tops, tuple) else (tops,)
    return [tuple(top.shape) for top in tops]


@on_examples()
def test_layers_state_what_their_forward_pass_gives(type_name: str, example: Example) -> None:
    if not catalogue.find(type_name).states_top_shapes():
        pytest.skip("it states no shapes")
    definition = deepcopy(message(type_name, example.text, example.tops))
    bottoms = [tuple(b.shape) for b in example.bottoms]
    layer = build(definition, bottoms, example.phase)
    stated = layer.top_shapes(bottoms)
    if stated is not None:
        assert [tuple(shape) for shape in stated] == inferred(layer, bottoms)


@pytest.mark.recorded_cases("layers")
def test_recorded_layers(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case.path.parents[1])
    for phase in ("TRAIN", "TEST"):
        states_what_a_net_finds(case.path, phase)


PAPER = sorted((REPOSITORY / "prototxt").rglob("*.prototxt"))
NETS = [path for path in PAPER if not path.name.startswith("solver")]


@pytest.mark.parametrize("path", NETS, ids=lambda path: path.stem)
def test_nets_of_the_paper(path: Path) -> None:
    if path.name.endswith("deploy.prototxt"):
        assert states_what_a_net_finds(path)
        return
    # Their databases are not here.
    options = BuildOptions(shapes_only=True, shapes={"data": (2, 3, 224, 224)})
    for phase in ("TRAIN", "TEST"):
        assert states_what_a_net_finds(path, phase, options)


def test_every_common_layer_type_states_its_shapes(tmp_path: Path) -> None:
    net = tmp_path / "net.prototxt"
    net.write_text(COMMON)
    assert states_what_a_net_finds(net, "TRAIN")
    assert states_what_a_net_finds(net, "TEST")


@pytest.mark.parametrize("verb", ["summary", "inspect"])
def test_commands_without_torch_print_the_same(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a process of its own: those of tests/programs.py have imported torch.
    command = [verb, str(REPOSITORY / "prototxt/D_deploy.prototxt")]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *command], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.stderr == ("[]\n" if verb == "summary" else "['numpy']\n")
    monkeypatch.setattr("caffecompat.net.stated_net.stated_net", lambda *_: None)
    assert main(command) == 0
    assert capsys.readouterr().out == done.stdout


REFUSED = COMMON.replace("kernel_size: 3", "kernel_size: 30")
UNKNOWN = COMMON.replace('"LRN"', '"LRM"')
FILLER = COMMON.replace('"gaussian"', '"gausian"')
MIXED = COMMON.replace('bottom: "mean" top: "sum"', 'bottom: "data" top: "sum"')


@pytest.mark.parametrize("text", [REFUSED, UNKNOWN, FILLER, MIXED])
def test_errors_are_those_of_a_net(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = tmp_path / "net.prototxt"
    net.write_text(text)
    assert text != COMMON
    assert main(["summary", str(net)]) == 1
    first = capsys.readouterr()
    monkeypatch.setattr("caffecompat.net.stated_net.stated_net", lambda *_: None)
    assert main(["summary", str(net)]) == 1
    assert capsys.readouterr() == first


def test_a_changed_forward_pass_does_not_inherit_shapes() -> None:
    class Doubled(catalogue.find("ReLU")):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, x])

    assert catalogue.find("ReLU").states_top_shapes()
    assert not Doubled.states_top_shapes()
    assert not catalogue.find("Python").states_top_shapes()


def test_types_are_found_in_the_modules_that_define_them() -> None:
    listed = modules_by_type("caffecompat.layers")
    for name in catalogue:
        found = catalogue.find(name)
        if found.__module__.startswith("caffecompat."):
            modules = {one.__module__ for one in catalogue.definitions(found.type)}
            assert set(listed[found.type]) == {m for m in modules if m.startswith("caffecompat.")}


def test_pictures_of_graphs_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, stated, built = (tmp_path / name for name in ("net.prototxt", "stated.dot", "built.dot"))
    net.write_text(COMMON)
    assert main(["graph", str(net), "--dot", str(stated)]) == 0
    monkeypatch.setattr("caffecompat.net.stated_net.stated_net", lambda *_: None)
    assert main(["graph", str(net), "--dot", str(built)]) == 0
    assert stated.read_text() == built.read_text()
    assert 'label="data 2x3x9x8"' in stated.read_text()
