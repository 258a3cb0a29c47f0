"""The doctor on a made-up legacy project, with every kind of problem planted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.doctor.examination import ExaminationOptions, examine
from caffecompat.doctor.findings import FileReport, Severity, Verdict
from caffecompat.weights import LayerWeights, Weights, save_weights
from tests.doctor.reported import sentences

DEPLOY = """
input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "prob" type: "Softmax" bottom: "conv" top: "prob" }
"""
V1 = """
input: "data"
input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layers { name: "relu" type: RELU bottom: "data" top: "relu" }
"""
UNKNOWN_FIELD = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "relu" type: "ReLU" bottom: "data" top: "relu"
        no_such_field: 3 }
"""
TRAIN_VAL = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        data_param { source: "train_lmdb" batch_size: 4 } }
layer { name: "focal" type: "Python" bottom: "data" top: "focal"
        python_param { module: "layers.focal" layer: "Focal" } }
layer { name: "lost" type: "Python" bottom: "data" top: "lost"
        python_param { module: "not_there" layer: "Lost" } }
layer { name: "odd" type: "NoSuchType" bottom: "data" top: "odd" }
layer { name: "odder" type: "DenseCRF" bottom: "data" bottom: "data" top: "odder" }
"""
SOLVER = 'net: "models/train_val.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 5\n'
LAYER = "import caffe\n\n\nclass Focal(caffe.Layer):\n    pass\n"
PYTHON2 = """import caffe
import cPickle
net = caffe.Net('deploy.prototxt', caffe.TEST)
print net.blobs.keys()
for i in xrange(3):
    try:
        pass
    except ValueError, e:
        print 'bad'
if net.blobs.has_key('data'):
    pass
"""
PYCAFFE = """import caffe
from caffe import layers as L
from caffe.proto import caffe_pb2
from caffe.io import no_such_function
import numpy as np

caffe.set_mode_cpu()
net = caffe.Net('deploy.prototxt', caffe.TEST)
net.blobs['data'].data[...] = 0
net.forward()
net.forward_quickly()
solver = caffe.get_solver('solver.prototxt')
solver.step(1)
solver.stride(1)
caffe.set_mode_tpu()
L.AnyLayer()
np.no_such_function()
net.own = 3
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "models/deploy.prototxt": DEPLOY,
        "models/old.prototxt": V1,
        "models/unknown_field.prototxt": UNKNOWN_FIELD,
        "models/broken.prototxt": 'layer { name: "a" type: "ReLU"\n',
        "models/train_val.prototxt": TRAIN_VAL,
        "models/solver.prototxt": SOLVER,
        "models/lost_solver.prototxt": SOLVER.replace("train_val", "nowhere"),
        "layers/focal.py": LAYER,
        "old_script.py": PYTHON2,
        "script.py": PYCAFFE,
        "train.sh": "#!/bin/sh\n./build/tools/caffe train --solver=models/solver.prototxt\n",
        "no_caffe.py": "print 'Python 2, but no matter'\n",
        "readme.txt": "layer {\n",
        ".git/objects/x.prototxt": DEPLOY,
        "damaged.caffemodel": "no weights",
    }
    for name, text in files.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    Net("project/models/deploy.prototxt").save("project/models/trained.caffemodel")
    alone = LayerWeights("other", "InnerProduct", [np.zeros((2, 5), np.float32)])
    save_weights(Weights([alone]), "project/alone.caffemodel")
    return Path("project")


@pytest.fixture
def reports(project: Path) -> dict[str, FileReport]:
    return {report.path: report for report in examine(project).files}


def test_only_files_that_matter_are_listed(reports: dict[str, FileReport]) -> None:
    assert set(reports) == {
        *(f"models/{name}.prototxt" for name in ("deploy", "old", "unknown_field", "broken")),
        *(f"models/{name}.prototxt" for name in ("train_val", "solver", "lost_solver")),
        *("layers/focal.py", "old_script.py", "script.py", "train.sh"),
        *("damaged.caffemodel", "alone.caffemodel", "models/trained.caffemodel"),
    }


@pytest.mark.parametrize(
    ("name", "verdict", "dialect"),
    [
        ("models/deploy.prototxt", Verdict.RUNS, "V2 with input fields"),
        ("models/old.prototxt", Verdict.RUNS, "V1 (layers)"),
        ("models/unknown_field.prototxt", Verdict.RUNS_AFTER_FIX, "today's form"),
        ("models/broken.prototxt", Verdict.CANNOT_RUN, ""),
        ("models/train_val.prototxt", Verdict.CANNOT_RUN, "today's form"),
        ("models/solver.prototxt", Verdict.CANNOT_RUN, ""),
        ("models/trained.caffemodel", Verdict.RUNS, "V2"),
        ("damaged.caffemodel", Verdict.CANNOT_RUN, ""),
        ("layers/focal.py", Verdict.RUNS, ""),
        ("old_script.py", Verdict.CANNOT_RUN, ""),
        ("script.py", Verdict.CANNOT_RUN, ""),
        ("train.sh", Verdict.RUNS, ""),
    ],
)
def test_verdicts(
    reports: dict[str, FileReport], name: str, verdict: Verdict, dialect: str
) -> None:
    assert reports[name].verdict is verdict
    assert reports[name].dialect == dialect


def test_missing_layers_are_all_named(reports: dict[str, FileReport]) -> None:
    report = reports["models/train_val.prototxt"]
    found = dict(sentences(report, Severity.ERROR))
    path = "project/models/train_val.prototxt"
    nowhere = "unknown layer type 'NoSuchType'; no fork that defines it is known here"
    assert found[f"{path}:8"] == nowhere
    assert found[f"{path}:9"] == "unknown layer type 'DenseCRF'; it is defined by DeepLab"
    assert "Python module 'not_there', which is not in this project" in found[f"{path}:6"]
    notes = dict(sentences(report, Severity.NOTE))
    assert "runs project/layers/focal.py; allow it with --allow-python" in notes[f"{path}:4"]
    assert "the database train_lmdb is not there" in notes[f"{path}:2"]


def test_solvers_follow_their_nets(reports: dict[str, FileReport]) -> None:
    (found,) = sentences(reports["models/solver.prototxt"], Severity.ERROR)
    assert found[1] == "its net models/train_val.prototxt cannot run"
    (found,) = sentences(reports["models/lost_solver.prototxt"], Severity.ERROR)
    assert found[1] == "the net models/nowhere.prototxt is not there"


def test_weights_find_their_net(reports: dict[str, FileReport]) -> None:
    report = reports["models/trained.caffemodel"]
    assert (
        sentences(report, Severity.NOTE)[0][1] == "its layers are those of models/deploy.prototxt"
    )
    assert report.commands == [
        "caffecompat convert project/models/trained.caffemodel --to onnx "
        "--model project/models/deploy.prototxt"
    ]
    assert "no net of this project" in reports["alone.caffemodel"].findings[0].sentence


def test_python_2(reports: dict[str, FileReport]) -> None:
    found = sentences(reports["old_script.py"], Severity.ERROR)
    lines = {place.partition(":")[2] for place, _ in found}
    assert lines == {"2", "4", "5", "8", "9", "10"}
    said = " ".join(sentence for _, sentence in found)
    for words in ("print is a function", "import pickle", "write range", "'except ValueError as e"):
        assert words in said


def test_names_that_pycaffe_does_not_have(reports: dict[str, FileReport]) -> None:
    found = sentences(reports["script.py"], Severity.ERROR)
    names = {(place.partition(":")[2], sentence.split()[0]) for place, sentence in found}
    assert names == {
        ("4", "caffe.io.no_such_function"),
        ("11", "net.forward_quickly"),
        ("14", "solver.stride"),
        ("15", "caffe.set_mode_tpu"),
    }


def test_the_table_and_the_next_commands(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "project"]) == 1
    out = capsys.readouterr().out
    assert "models/unknown_field.prototxt  net" in out
    commands = out.partition("\nnext:\n")[2].splitlines()
    assert commands[0] == "  caffecompat doctor project --fix"
    assert "  caffecompat summary project/models/deploy.prototxt" in commands


def test_fix_writes_copies_beside(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "project", "--fix"]) == 1
    written = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrote ")]
    names = {"deploy", "old", "unknown_field"}
    assert {line.split()[1] for line in written} == {
        f"project/models/{name}.upgraded.prototxt" for name in names
    }
    assert (project / "models" / "old.prototxt").read_text() == V1
    again = {report.path: report for report in examine(project).files}
    for name in names:
        report = again[f"models/{name}.upgraded.prototxt"]
        assert report.verdict is Verdict.RUNS
        assert report.dialect == "today's form"
    copy = project / "models" / "old.upgraded.prototxt"
    copy.write_text("mine")
    examine(project, ExaminationOptions(fix=True))
    assert copy.read_text() == "mine"


def test_the_advice_can_be_followed(
    project: Path, reports: dict[str, FileReport], capsys: pytest.CaptureFixture[str]
) -> None:
    (command,) = reports["models/deploy.prototxt"].commands
    assert main(command.split()[1:]) == 0
    assert "conv" in capsys.readouterr().out


def test_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "project/models/deploy.prototxt", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["runs"] is True
    (file,) = found["files"]
    assert file["verdict"] == "runs"
    assert file["commands"] == ["caffecompat summary project/models/deploy.prototxt"]


def test_nothing_to_examine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "nowhere"]) == 1
    assert "nowhere: there is no such file or folder" in capsys.readouterr().err
    Path("text.txt").write_text("hello")
    assert main(["doctor", "text.txt"]) == 1
    assert "this is no net, solver, weight file" in capsys.readouterr().err
    Path("empty").mkdir()
    assert main(["doctor", "empty"]) == 0
    assert "empty: no net, solver, weight file or script" in capsys.readouterr().out


def test_a_notebook(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["import caffe"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "import caffe\n"]},
        {"cell_type": "code", "source": ["caffe.no_such_name()"]},
    ]
    path = tmp_path / "book.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    (report,) = examine(path).files
    (found,) = sentences(report, Severity.ERROR)
    assert found[1].startswith("caffe.no_such_name does not exist")
    path.write_text("caffe {")
    (report,) = examine(path).files
    assert "this is no notebook" in report.findings[0].sentence
