"""The doctor on a project in Caffe's tree, examined from another folder than its root."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffecompat
from caffecompat.doctor.examination import examine
from caffecompat.doctor.findings import FileReport, Severity, Verdict

DEPLOY = """
layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: 1 dim: 1 dim: 5 dim: 4 }} }} }}
layer {{ name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param {{ num_output: 3 }} }}
{more}
"""
FEAT = """layer { name: "feat" type: "InnerProduct" bottom: "ip1" top: "feat"
  inner_product_param { num_output: 2 } }"""
TRAIN = """
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "examples/a/SOURCE" backend: LMDB batch_size: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip1" bottom: "label" top: "loss" }
"""
SOLVER = 'base_lr: 0.1\nlr_policy: "fixed"\nmax_iter: 1\nsnapshot_prefix: "examples/a/x"\n'
SCRIPT = """import caffe
net = caffe.Classifier('deploy.prototxt', 'x.caffemodel')
print(net.transformer, net.image_dims, net.crop_dims, net.transform)
t = caffe.io.Transformer({'data': (1, 3, 2, 2)})
print(t.mean, t.means)
d = caffe.Detector('deploy.prototxt', 'x.caffemodel')
print(d.context_pad, d.context_pads)
"""


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, FileReport]:
    files = {
        "caffe/a_first.prototxt": DEPLOY.format(more=""),
        "caffe/examples/a/deploy.prototxt": DEPLOY.format(more=""),
        "caffe/examples/b/siamese.prototxt": DEPLOY.format(more=FEAT),
        "caffe/examples/a/train.prototxt": TRAIN.replace("SOURCE", "there_lmdb"),
        "caffe/examples/a/lost.prototxt": TRAIN.replace("SOURCE", "nowhere_lmdb"),
        "caffe/examples/a/inline.prototxt": f"{SOLVER}net_param {{\n{TRAIN}}}\n",
        "caffe/examples/a/script.py": SCRIPT,
    }
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    images = np.zeros((3, 1, 5, 4), np.uint8)
    caffecompat.write_database("caffe/examples/a/there_lmdb", zip(images, range(3), strict=True))
    for folder, net in (("a", "deploy"), ("b", "siamese")):
        caffecompat.Net(f"caffe/examples/{folder}/{net}.prototxt").save(
            f"caffe/examples/{folder}/w.caffemodel"
        )
    return {report.path: report for report in examine(Path("caffe")).files}


def test_data_of_the_projects_root_are_there(reports: dict[str, FileReport]) -> None:
    assert not reports["examples/a/train.prototxt"].findings
    (note,) = reports["examples/a/lost.prototxt"].findings
    assert note.sentence == "the database examples/a/nowhere_lmdb is not there"


def test_a_solver_that_holds_its_net_is_a_solver(reports: dict[str, FileReport]) -> None:
    report = reports["examples/a/inline.prototxt"]
    assert (report.kind, report.verdict, report.findings) == ("solver", Verdict.RUNS, [])
    root = Path("caffe").resolve()
    assert report.commands == [
        f"cd {root} && caffecompat train --solver examples/a/inline.prototxt"
    ]


def test_weights_belong_to_the_nearest_net_that_has_all_of_them(
    reports: dict[str, FileReport],
) -> None:
    found = [reports[f"examples/{folder}/w.caffemodel"].findings[0].sentence for folder in "ab"]
    assert found == [
        "its layers are those of examples/a/deploy.prototxt",
        "its layers are those of examples/b/siamese.prototxt",
    ]


def test_attributes_that_are_set_on_instances_exist(reports: dict[str, FileReport]) -> None:
    errors = [f for f in reports["examples/a/script.py"].findings if f.severity is Severity.ERROR]
    names = [(error.place[-1], error.sentence.split()[0]) for error in errors]
    assert names == [("3", "net.transform"), ("5", "t.means"), ("7", "d.context_pads")]


def test_files_that_scripts_import_are_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They need not import caffe themselves; a script cannot run where one of them cannot."""
    monkeypatch.chdir(tmp_path)
    Path("voc").mkdir()
    Path("voc/infer.py").write_text("import caffe\nimport numpy, vis as v\nfrom deep import er\n")
    Path("vis.py").write_text("import lines\nprint(list(range(3)))\n")
    Path("lines.py").write_text("def rows():\n    print 'rows'\n")
    Path("voc/deep.py").write_text("er = [i for i in xrange(3)]\n")
    Path("other.py").write_text("print 'of no script'\n")
    Path("voc/numpy.prototxt").write_text("")
    report = examine(Path())
    errors = {file.path: [found.sentence for found in file.findings] for file in report.files}
    assert sorted(errors) == ["lines.py", "vis.py", "voc/deep.py", "voc/infer.py"]
    assert errors["vis.py"] == errors["voc/infer.py"] == []
    assert "print is a function" in errors["lines.py"][0]
    assert "xrange" in errors["voc/deep.py"][0]


def test_weights_of_a_net_whose_shapes_depend_on_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one with a Python data layer, which is not run."""
    monkeypatch.chdir(tmp_path)
    layers = (
        'layer { name: "data" type: "Python" top: "data"'
        ' python_param { module: "reader" layer: "Reader" } }'
        'layer { name: "NAME" type: "InnerProduct" bottom: "data" top: "score"'
        " inner_product_param { num_output: 2 } }"
    )
    Path("reader.py").write_text("import caffe\nclass Reader(caffe.Layer): pass\n")
    for name in ("score", "other"):
        Path(name).mkdir()
        Path(name, "train.prototxt").write_text(layers.replace("NAME", name))
    caffecompat.save_weights({"score": [np.zeros((2, 3)), np.zeros(2)]}, "w.caffemodel")
    caffecompat.save_weights({"third": [np.zeros((2, 3))]}, "third.caffemodel")
    found = {file.path: [f.sentence for f in file.findings] for file in examine(Path()).files}
    assert found["w.caffemodel"] == [
        "its layers have the names of those of score/train.prototxt, whose shapes are not known"
    ]
    assert "no net of this project has these layers" in found["third.caffemodel"][0]


SIZED = """
layer {{ name: "data" type: "Python" top: "data" top: "im_info" top: "gt_boxes"
  python_param {{ module: "roi_data_layer.layer" layer: "RoIDataLayer" param_str: "{keys}" }} }}
layer {{ name: "a" type: "Pooling" bottom: "data" top: "a"
  pooling_param {{ kernel_size: 16 stride: 16 ceil_mode: false }} }}
layer {{ name: "b" type: "Pooling" bottom: "data" top: "b"
  pooling_param {{ kernel_size: {size} stride: 16 }} }}
layer {{ name: "c" type: "Concat" bottom: "a" bottom: "b" top: "c" }}
"""


@pytest.mark.parametrize(
    ("keys", "size", "verdict"),
    [
        ("'num_classes': 2", 16, Verdict.RUNS),  # of PVANet: its configuration names other sizes
        ("'num_classes': 2", 64, Verdict.CANNOT_RUN),
        ("{'num_classes': 2, 'SCALES': [600]}", 16, Verdict.CANNOT_RUN),
    ],
)
def test_images_of_a_size_that_the_net_does_not_tell(
    tmp_path: Path, keys: str, size: int, verdict: Verdict
) -> None:
    (tmp_path / "train.prototxt").write_text(SIZED.format(keys=keys, size=size))
    (report,) = examine(tmp_path / "train.prototxt").files
    assert report.verdict is verdict, report.findings


def test_a_solver_that_is_run_from_a_folder_of_its_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in projects whose programs lie beside data and models: ../train.prototxt holds there."""
    monkeypatch.chdir(tmp_path)
    for name in ("data", "programs"):
        (tmp_path / "project" / name).mkdir(parents=True)
    (tmp_path / "project/programs/train.py").write_text("import caffe\n")
    (tmp_path / "project/train.prototxt").write_text(DEPLOY.format(more=""))
    solver = tmp_path / "project/solver.prototxt"
    solver.write_text(SOLVER.replace("examples/a/x", "x") + 'net: "../train.prototxt"\n')
    report = next(one for one in examine(Path("project")).files if one.kind == "solver")
    assert report.verdict is Verdict.RUNS, report.findings
    assert report.commands == [
        f"cd {tmp_path}/project/programs && caffecompat train --solver {solver}"
    ]
    solver.write_text(solver.read_text().replace("../train", "../lost"))
    report = next(one for one in examine(Path("project")).files if one.kind == "solver")
    assert report.verdict is Verdict.CANNOT_RUN
