"""Names in a prototxt are data: no name runs as code or breaks a net."""

from __future__ import annotations

import ast
import copy
import os
import pickle
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import fx

from caffecompat import Net, load_weights, save_weights
from caffecompat.cli.main import main
from caffecompat.errors import WeightsError
from caffecompat.net.fx_program import Program
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.proto import schema
from caffecompat.proto.files import write_text

# The attack that once ran: torch.fx wrote a layer's name into getattr(self, "...") unescaped.
# Calling a function that does not exist would fail too, so nothing else need be watched.
CODE = 'x", None) or does_not_exist() or getattr(self, "data'
NAMES = [
    CODE,
    "class",
    "None",
    "self",
    "train",
    "forward",
    "_modules",
    "__class__",
    "",
    "a.b",
    "a/b",
    "..",
    "%",
    "%41",
    "{x}",
    "%s%n",
    'quote"s',
    "apostrophe's",
    "back\\slash",
    "new\nline",
    "carriage\rreturn",
    "nul\0",
    "\x1b]0;title\x07",
    "\u2028",
    "²",
    "ªº",
    "层",
    "💥",
    "a" * 300,
    "$x^$",
    "layer_1",
    "layer_1__1",
    "# type: ignore",
]
ANY_TEXT = st.one_of(st.sampled_from(NAMES), st.text(max_size=12))
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def definition(layers: list[str], blobs: list[str], parameter: str = "") -> Any:
    """Input, two InnerProducts that share weights under ``parameter``, ReLU, EuclideanLoss."""
    message = schema.new("NetParameter")
    message.name = layers[0]
    data = message.layer.add(name=layers[0], type="Input", top=[blobs[0], blobs[1]])
    for _ in range(2):
        data.input_param.shape.add(dim=[2, 3])
    previous = blobs[0]
    for name, blob in ((layers[1], blobs[2]), (layers[2], blobs[3])):
        layer = message.layer.add(name=name, type="InnerProduct", bottom=[previous], top=[blob])
        layer.inner_product_param.num_output = 3
        layer.inner_product_param.weight_filler.type = "xavier"
        layer.param.add(name=parameter)
        previous = blob
    message.layer.add(name=layers[3], type="ReLU", bottom=[previous], top=[previous])
    loss = message.layer.add(name=layers[4], type="EuclideanLoss", top=[blobs[4]])
    loss.bottom.extend([previous, blobs[1]])
    return message


def named(index: int, name: str) -> tuple[list[str], list[str]]:
    """Layer and blob names of which the one at ``index`` is ``name``, all different."""
    layers = [f"layer{i}" for i in range(5)]
    blobs = [f"blob{i}" for i in range(5)]
    layers[index] = name
    blobs[index] = name or "no blob is called ''"
    return layers, blobs


def one_pass(net: Net) -> torch.Tensor:
    feeds = [torch.full((2, 3), 0.5), torch.zeros(2, 3)]
    for inputs in net.layers[0].tops, feeds:
        assert len(inputs) == 2
    outputs = net.forward(**dict(zip((t.blob for t in net.layers[0].tops), feeds, strict=True)))
    net.backward()
    return torch.stack([value.detach().reshape(-1)[0] for value in outputs.values()])


def identifiers(module: fx.GraphModule) -> list[str]:
    graph = [node.name for node in module.graph.nodes]
    targets = [str(n.target) for n in module.graph.nodes if n.op in ("placeholder", "call_module")]
    return graph + targets


@given(index=st.integers(0, 4), name=ANY_TEXT)
@settings(max_examples=30, deadline=None)
@example(index=1, name=CODE)
@example(index=0, name=CODE)
@example(index=1, name="class")
@example(index=2, name="nul\0")
def test_a_net_of_any_names_runs_as_one_of_plain_names(index: int, name: str) -> None:
    layers, blobs = named(index, name)
    plain = Net(definition(*named(0, "data")), phase="train")
    net = Net(definition(layers, blobs, parameter=name), phase="train")
    plain.load_state_dict(
        dict(zip(plain.state_dict(), net.state_dict().values(), strict=True))  # same order
    )
    assert torch.equal(one_pass(net), one_pass(plain))
    for observed in (False, True):
        program = net.program(observed)
        assert all(IDENTIFIER.fullmatch(text) for text in identifiers(program.module))
        assert called_functions(program) <= CALLED


# What a program may call by name; layers are attributes of the module.
CALLED = {"getitem", "operator_getitem", "add", "mul"}


def called_functions(program: Program) -> set[str]:
    calls = [n for n in ast.walk(ast.parse(program.module.code.strip())) if isinstance(n, ast.Call)]
    by_name = {ast.unparse(call.func) for call in calls}
    return {name for name in by_name if not re.fullmatch(r"self\.layer_[A-Za-z0-9_]*", name)}


@given(index=st.integers(0, 4), name=ANY_TEXT)
@settings(max_examples=20, deadline=None)
@example(index=1, name=CODE)
def test_copies_pickles_and_state_dicts_keep_the_names(index: int, name: str) -> None:
    net = Net(definition(*named(index, name)), phase="train")
    expected = one_pass(net)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert [b.name for b in twin.layers] == [b.name for b in net.layers]
        assert torch.equal(one_pass(twin), expected)
    keys = list(net.state_dict())
    naming = torch_naming()
    assert keys == [key for layer in net.to_weights().layers for key in naming.names(layer)]
    assert all(key.isascii() and key.isprintable() and '"' not in key for key in keys)


@given(index=st.integers(1, 2), name=ANY_TEXT)
@settings(max_examples=15, deadline=None)
def test_every_weight_format_keeps_the_names(index: int, name: str) -> None:
    net = Net(definition(*named(index, name)))
    weights = net.to_weights()
    with tempfile.TemporaryDirectory() as folder:
        for file in ("w.caffemodel", "w.npz", "w.pt"):
            path = os.path.join(folder, file)
            try:
                save_weights(weights, path, naming=torch_naming())
            except WeightsError:  # a zip's entries have printable names
                assert file == "w.npz"
                assert not name.isprintable()
                continue
            back = load_weights(path, torch_naming())
            assert [layer.name for layer in back.layers if layer.blobs] == [
                layer.name for layer in weights.layers if layer.blobs
            ]


@pytest.mark.parametrize("name", [CODE, "class", "a.b", "new\nline", "层", "nul\0"])
def test_torch_compile_and_export_take_the_names(name: str) -> None:
    net = Net(definition(*named(1, name)), phase="train")
    feeds = [torch.full((2, 3), 0.5), torch.zeros(2, 3)]
    values, _ = net.program()(feeds)
    exported = torch.export.export(net.program().module, tuple(feeds))
    assert torch.equal(exported.module()(*feeds)[0][0], next(iter(values.values())))
    net.compile(backend="eager")
    compiled, _ = net.program()(feeds)
    assert torch.equal(next(iter(compiled.values())), next(iter(values.values())))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("flag", [[], ["--code"], ["--dot"]])
def test_the_verbs_print_the_names(
    name: str, flag: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.prototxt"
    write_text(definition(*named(1, name)), path)
    flag = [*flag, str(tmp_path / "net.dot")] if flag == ["--dot"] else flag
    assert main(["graph", str(path), *flag]) == 0
    assert main(["summary", str(path)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.replace("\n", "").isprintable()


@pytest.mark.parametrize("name", NAMES)
def test_no_name_commands_the_terminal(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = Net(definition(*named(1, name)))
    models = [tmp_path / "one.caffemodel", tmp_path / "other.caffemodel"]
    for model in models:
        save_weights(net.to_weights(), model)
    path = tmp_path / "net.prototxt"
    write_text(definition(*named(2, name)), path)
    assert main(["inspect", str(models[0])]) == 0
    assert main(["inspect", str(path)]) == 0
    assert main(["diff", *map(str, models)]) == 0
    assert main(["diff", str(models[0]), str(path)]) == 1
    assert main(["convert", str(models[0]), str(tmp_path / "net.pt")]) == 0
    own = str(tmp_path / "own.caffemodel")
    save_weights(Net(definition(*named(2, name))).to_weights(), own)
    assert main(["test", "--model", str(path), "--weights", own, "--iterations", "1"]) == 0
    main(["graph", str(path), "--phase", name])
    printed = capsys.readouterr()
    for line in (printed.out + printed.err + repr(net)).split("\n"):
        assert line.isprintable(), line


def test_a_recorded_net_runs_no_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = definition(*named(1, CODE))
    net = Net(message)
    (loss,) = one_pass(net)
    recorded: dict[str, Any] = {"in/blob0": np.full((2, 3), 0.5), f"in/{CODE}": np.zeros((2, 3))}
    for name, blobs in net.params.items():
        for index, blob in enumerate(blobs):
            recorded[f"param/{name}/{index}"] = blob.data
    write_text(message, tmp_path / "case.prototxt")
    np.savez(tmp_path / "case.npz", **recorded, **{"out/blob4": loss.numpy()})
    assert main(["verify", "--recorded", str(tmp_path)]) == 0
    assert "1 agree, 0 differ" in capsys.readouterr().out


def test_blobs_that_differ_in_what_code_cannot_hold_stay_apart() -> None:
    layers = [f"layer{i}" for i in range(5)]
    blobs = ["a b", "a.b", "a-b", "a_b", "a  b"]
    net = Net(definition(layers, blobs), phase="train")
    targets = [n.target for n in net.program(observed=True).module.graph.nodes]
    assert len({str(t) for t in targets if str(t).startswith("input_")}) == 2
    assert list(net.blobs) == blobs


def test_layers_that_differ_in_what_code_cannot_hold_stay_apart() -> None:
    layers = ["data", "fc 1", "fc.1", "fc-1", "fc 1__1"]
    net = Net(definition(layers, [f"blob{i}" for i in range(5)]), phase="train")
    for built in net.layers:
        if built.module is not None:
            with torch.no_grad():
                for blob in built.module.blobs():
                    blob.fill_(len(built.name))
    program = net.program().module
    called = [n for n in program.graph.nodes if n.op == "call_module"]
    for node, built in zip(called, (b for b in net.layers if b.module is not None), strict=True):
        assert program.get_submodule(str(node.target)) is built.module
    assert np.isfinite(one_pass(net).numpy()).all()
