"""What docs/coming-from-caffe.md names is there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np

import caffecompat
from caffecompat.cli.main import verb_names
from caffecompat.solver import Solver
from tests.net.nets import CLASSIFIER, saved

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "coming-from-caffe.md").read_text()


def test_verbs_exist() -> None:
    table = PAGE.partition("## Tools")[2].partition("## pycaffe")[0]
    cells = [line.split("|")[2] for line in table.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`(?:caffecompat )?([a-z]+(?:-[a-z]+)*)(?=[ `])", " ".join(cells)))
    assert len(named) > 8
    assert named <= set(verb_names())


def test_links_lead_to_headings() -> None:
    python = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text()
    headings = {
        "#" + line[3:].lower().replace(" ", "-")
        for line in python.splitlines()
        if line.startswith("## ")
    }
    assert set(re.findall(r"python\.md(#[a-z-]+)", PAGE)) <= headings


def test_members_of_a_solver_exist() -> None:
    line = next(line for line in PAGE.splitlines() if "solver.step" in line)
    for name in re.findall(r"solver\.([a-z_]+)", line.split("|")[1]):
        assert re.search(rf"(self\.|def ){name}\b", inspect.getsource(Solver))


def test_calls_of_a_net(tmp_path: Path) -> None:
    """The calls that the page calls the same, as pycaffe's users write them."""
    model, weights = str(saved(tmp_path, CLASSIFIER)), str(tmp_path / "w.caffemodel")
    caffecompat.Net(model).save(weights)
    net = caffecompat.Net(model, weights, caffecompat.TEST)
    net = caffecompat.Net(model, phase=caffecompat.TEST, weights=weights)
    x = np.ones((1, 2, 7, 5), np.float32)
    net.blobs["data"].reshape(1, 2, 7, 5)
    net.blobs["data"].data[...] = x
    one = net.forward()
    two = net.forward(data=x)
    np.testing.assert_array_equal(one["prob"].detach().numpy(), two["prob"])
    assert list(net.forward(data=x, end="fc", blobs=["pool1"])) == ["fc", "pool1"]
    net.forward(start="fc")
    net.forward(data=x)
    net.backward(prob=np.ones((1, 6), np.float32))
    net.params["fc"][0].data.flat = np.ones(net.params["fc"][0].shape)
    assert np.asarray(net.params["fc"][0].diff).shape == (6, 48)
    net.copy_from(weights)
    assert [layer.name for layer in net.layers][:2] == ["data", "conv1"]
    assert (net.inputs, net.outputs) == (["data", "label"], ["label", "prob"])
    message = caffecompat.read_net(model)
    assert message.name == "small"
