"""Well-known Python layers run without their code; a user's own code replaces them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from caffecompat.cli.main import main
from tests.net.nets import net

NET = """
layer { name: "s" type: "Input" top: "s" input_param { shape { dim: 1 dim: 18 dim: 3 dim: 4 } } }
layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 36 dim: 3 dim: 4 } } }
layer { name: "i" type: "Input" top: "i" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "f" type: "Input" top: "f" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }
layer { name: "p" type: "Python" bottom: "s" bottom: "d" bottom: "i" top: "rois"
        python_param { module: "rpn.proposal_layer" layer: "ProposalLayer"
                       param_str: "'feat_stride': 16" } }
layer { name: "r" type: "ROIPooling" bottom: "f" bottom: "rois" top: "pooled"
        roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.0625 } }
layer { name: "c" type: "InnerProduct" bottom: "pooled" top: "c"
        inner_product_param { num_output: 3 } }
"""

MODULE = """
import caffe

class ProposalLayer(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(2, 5)

    def forward(self, bottom, top):
        top[0].data[...] = [[0, 0, 0, 15, 15], [0, 16, 16, 31, 31]]
"""


def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {
        "s": rng.random((1, 18, 3, 4), np.float32),
        "d": rng.standard_normal((1, 36, 3, 4)).astype(np.float32) * 0.1,
        "i": np.array([[48, 64, 1]], np.float32),
        "f": rng.standard_normal((1, 2, 3, 4)).astype(np.float32),
    }


def package(folder: Path, text: str) -> None:
    (folder / "rpn").mkdir()
    (folder / "rpn" / "__init__.py").write_text("")
    (folder / "rpn" / "proposal_layer.py").write_text(text)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path, whose package ``rpn`` is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("rpn", "rpn.proposal_layer"):
        sys.modules.pop(name, None)


def test_a_net_needs_no_code() -> None:
    built = net(NET, phase="test")
    assert any("rpn.proposal_layer.ProposalLayer is built in" in note for note in built.notes)
    assert built.blobs["rois"].shape == (1, 5)
    found = built.forward(**inputs())["c"]
    assert found.shape[0] == len(built.blobs["rois"].data) > 1


@pytest.mark.parametrize(("allowed", "rows"), [(True, 2), (False, None)])
def test_code_that_is_allowed_replaces_it(modules: Path, allowed: bool, rows: int | None) -> None:
    package(modules, MODULE)
    built = net(NET, phase="test", allow_python=allowed)
    found = built.forward(**inputs())["c"]
    assert (found.shape[0] == rows) == allowed


def test_code_that_cannot_be_imported_does_not(modules: Path) -> None:
    package(modules, "print 'Python 2'\n")
    built = net(NET, phase="test", allow_python=True)
    assert any("is built in" in note for note in built.notes)


def test_the_list_of_types_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers"]) == 0
    assert "Python (ProposalLayer of py-faster-rcnn)" in capsys.readouterr().out
