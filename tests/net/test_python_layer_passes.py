"""What a Python layer's code sees in each pass of a training, and what failures of it say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.doctor.examination import examine
from caffecompat.errors import LayerError
from caffecompat.reporting.code_places import raised_at
from caffecompat.solver import Solver
from tests.net.nets import net

# As in published training code of MTCNN: a data layer without bottoms that gives another batch in
# each pass, a layer that counts the valid labels in reshape, a loss that may leave diff alone.
MODULE = """
import numpy as np
import caffe

PASSES = []


class Batches(caffe.Layer):
    def setup(self, bottom, top):
        self.given = 0

    def reshape(self, bottom, top):
        top[0].reshape(4, 3)
        top[1].reshape(4)

    def forward(self, bottom, top):
        PASSES.append(self.given)
        top[0].data[...] = np.arange(12).reshape(4, 3) / 10 + self.given
        top[1].data[...] = [1, -1, self.given % 3 - 1, 0]
        self.given += 1

    def backward(self, top, propagate_down, bottom):
        pass


class Valid(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        self.kept = np.where(bottom[1].data != -1)[0]
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = 0
        top[0].data[: len(self.kept)] = bottom[0].data[self.kept]

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 0
        bottom[0].diff[self.kept] = top[0].diff[: len(self.kept)]


class SomeTimes(caffe.Layer):
    def setup(self, bottom, top):
        self.passes = 0

    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data.sum()
        self.passes += 1

    def backward(self, top, propagate_down, bottom):
        if self.passes % 2:
            bottom[0].diff[...] = self.passes
"""

NET = """
layer { name: "d" type: "Python" top: "x" top: "label"
        python_param { module: "project_layers" layer: "Batches" } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
        inner_product_param { num_output: 2 bias_term: false
                              weight_filler { type: "constant" value: 0.5 } } }
layer { name: "v" type: "Python" bottom: "ip" bottom: "label" top: "valid"
        python_param { module: "project_layers" layer: "Valid" } }
layer { name: "l" type: "Python" bottom: "valid" top: "l" loss_weight: 1
        python_param { module: "project_layers" layer: "SomeTimes" } }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 3 display: 0\n'


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("project_layers.py").write_text(MODULE)
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(f"{SOLVER}snapshot_after_train: false")
    yield
    sys.modules.pop("project_layers", None)


def rows(given: int) -> np.ndarray:
    return np.arange(12, dtype=np.float32).reshape(4, 3) / 10 + given


def test_reshape_sees_the_values_of_its_own_pass() -> None:
    built = net(NET, phase="test", allow_python=True)
    for given in range(3):
        label = np.array([1, -1, given % 3 - 1, 0])
        ip = rows(given) @ np.full((3, 2), 0.5, np.float32)
        expected = np.zeros((4, 2), np.float32)
        expected[: (label != -1).sum()] = ip[label != -1]
        built.forward()
        np.testing.assert_allclose(built.blobs["valid"].data, expected, rtol=1e-6)


def test_a_training_reads_each_batch_once_from_the_first_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "--solver", "solver.prototxt", "--allow-python", "--cpu"]) == 0
    assert "Forecast: memory" in capfd.readouterr().err
    assert sys.modules["project_layers"].PASSES == [0, 1, 2]


def test_a_diff_that_is_left_alone_is_that_of_the_last_pass() -> None:
    solver = Solver("solver.prototxt", allow_python=True, device="cpu")
    weight = np.full((2, 3), 0.5, np.float32)
    for given, diff in enumerate([1.0, 1.0, 3.0]):  # the second pass writes none
        label = np.array([1, -1, given % 3 - 1, 0])
        solver.step(1)
        gradient = np.full((2, 1), diff) * rows(given)[label != -1].sum(axis=0)
        weight = weight - np.float32(0.1) * gradient.astype(np.float32)
        np.testing.assert_allclose(solver.net.params["ip"][0].detach(), weight, rtol=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "import numpy as np",
            "import cPickle",
            "importing module 'project_layers' failed at {}:2: ModuleNotFoundError: No module "
            "named 'cPickle'; Python 3 has no module cPickle: import pickle",
        ),
        (
            "PASSES = []",
            "print 'begin'",
            "importing module 'project_layers' failed at {}:5: SyntaxError: Missing parentheses "
            "in call to 'print'. Did you mean print(...)? (project_layers.py, line 5); print is "
            "a function: print(...)",
        ),
        (
            "self.given = 0",
            "__import__('pathlib').Path('old.imdb').read_text('utf-8')",
            "its setup failed at {}:10: UnicodeDecodeError: 'utf-8' codec can't decode byte 0x80 "
            "in position 0: invalid start byte; open the file in binary mode, open(path, 'rb')",
        ),
        (
            "self.given = 0",
            "xrange(3)",
            "its setup failed at {}:10: NameError: name 'xrange' is not defined; Python 3 has no "
            "xrange: write range",
        ),
    ],
)
def test_failures_name_the_users_line_and_what_python_3_wants(
    old: str, new: str, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert old in MODULE
    Path("old.imdb").write_bytes(b"\x80\x02]q\x00.")
    code = Path("project_layers.py").absolute()
    code.write_text(MODULE.replace(old, new, 1))
    assert main(["train", "--solver", "solver.prototxt", "--allow-python", "--cpu"]) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.endswith(f"layer 'd' (Python): {sentence.format(code)}")


def test_a_module_that_is_not_there_has_another_remedy() -> None:
    Path("project_layers.py").unlink()
    with pytest.raises(LayerError, match=r"'project_layers': .*; put its folder on PYTHONPATH$"):
        net(NET, allow_python=True)


def test_the_doctor_takes_the_module_beside_the_net() -> None:
    for folder in ("12net", "24net"):
        Path(folder).mkdir()
        Path(folder, "project_layers.py").write_text(MODULE)
        Path(folder, "train.prototxt").write_text(NET)
    Path("project_layers.py").unlink()
    found = {file.path: file.findings for file in examine(Path()).files}
    for folder in ("12net", "24net"):
        said = [finding.sentence for finding in found[f"{folder}/train.prototxt"]]
        assert any(f" runs {folder}/project_layers.py;" in sentence for sentence in said), said


# As py-faster-rcnn's: it says four columns until its first pass, which gives five.
FASTER = """
import caffe
import numpy as np


class RoIDataLayer(caffe.Layer):
    def setup(self, bottom, top):
        top[0].reshape(1, 3)
        top[1].reshape(1, 4)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        top[0].data[...] = [40, 60, 1]
        top[1].reshape(2, 5)
        top[1].data[...] = [[2, 3, 30, 33, 1], [5, 5, 20, 19, 2]]
"""
FASTER_NET = """
layer { name: "map" type: "Input" top: "map" input_param { shape { dim: 1 dim: 4 dim: 5 dim: 6 } } }
layer { name: "data" type: "Python" top: "im_info" top: "gt_boxes"
        python_param { module: "project_layers" layer: "RoIDataLayer" } }
layer { name: "rpn-data" type: "Python" bottom: "map" bottom: "gt_boxes" bottom: "im_info"
        top: "labels" top: "targets" top: "inside" top: "outside"
        python_param { module: "rpn.anchor_target_layer" layer: "AnchorTargetLayer"
                       param_str: "'feat_stride': 8" } }
layer { name: "regions" type: "Input" top: "regions" input_param { shape { dim: 3 dim: 5 } } }
layer { name: "roi-data" type: "Python" bottom: "regions" bottom: "gt_boxes"
        top: "rois" top: "classes" top: "a" top: "b" top: "c"
        python_param { module: "rpn.proposal_target_layer" layer: "ProposalTargetLayer"
                       param_str: "'num_classes': 3" } }
"""


@pytest.fixture
def rpn(project: None) -> Any:
    """A project whose other layers are still for Python 2."""
    Path("project_layers.py").write_text(FASTER)
    Path("rpn").mkdir()
    Path("rpn/__init__.py").touch()
    Path("rpn/anchor_target_layer.py").write_text("import caffe\nimport cPickle\n")
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "rpn"]:
        del sys.modules[name]


def test_a_project_s_data_layer_with_built_in_layers(
    rpn: None, caplog: pytest.LogCaptureFixture
) -> None:
    built = net(FASTER_NET, phase="train", allow_python=True)
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    code = Path("rpn/anchor_target_layer.py").absolute()
    assert warned == [
        "cannot import rpn.anchor_target_layer, so that AnchorTargetLayer built in here runs in "
        f"its place: ModuleNotFoundError: No module named 'cPickle' ({code}:2)"
    ]
    regions = np.array([[0, 2, 3, 30, 30], [0, 5, 5, 21, 19], [0, 50, 1, 59, 9]], np.float32)
    built.forward(map=np.zeros((1, 4, 5, 6), np.float32), regions=regions)
    assert sorted(built.blobs["classes"].data.tolist()) == [0, 1, 1, 2, 2]
    assert built.blobs["gt_boxes"].data.shape == (2, 5)


def test_code_that_was_not_asked_for_is_not_imported(
    rpn: None, caplog: pytest.LogCaptureFixture
) -> None:
    start = FASTER_NET.index('layer { name: "data"')
    end = FASTER_NET.index('layer { name: "rpn-data"')
    inputs = """layer { name: "data" type: "Input" top: "im_info" top: "gt_boxes"
        input_param { shape { dim: 1 dim: 3 } shape { dim: 1 dim: 5 } } }"""
    net(FASTER_NET[:start] + inputs + FASTER_NET[end:], phase="train")
    assert not [record for record in caplog.records if "cannot import" in record.message]
    assert "rpn" not in sys.modules


def test_the_place_in_compiled_code_is_not_the_users() -> None:
    Path("draws.py").write_text(
        "import numpy as np\n\ndef drawn():\n    return np.random.choice(3, size=2.5)\n"
    )
    sys.path.insert(0, ".")
    try:
        import draws  # type: ignore[import-not-found]

        with pytest.raises(TypeError) as caught:
            draws.drawn()
    finally:
        sys.path.remove(".")
        sys.modules.pop("draws", None)
    assert raised_at(caught.value).endswith("draws.py:4")
