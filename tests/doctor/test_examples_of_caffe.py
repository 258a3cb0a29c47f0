"""What stands in Caffe's own examples: notebooks, NetSpec, messages, stages, data not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from caffecompat.cli.main import main
from caffecompat.doctor.examination import examine
from caffecompat.doctor.findings import FileReport, Severity, Verdict
from caffecompat.reporting import progress
from tests.doctor.reported import sentences

BUILDS = """
import caffe
from caffe import layers as L

def made():
    n = caffe.NetSpec()
    n.data, n.label = L.Data(source="a", ntop=2)
    n.loss = L.SoftmaxWithLoss(n.data, n.label)
    return n.to_proto()

from caffe.proto import caffe_pb2
datum = caffe_pb2.Datum()
datum.ParseFromString(b"")
print(datum.label, datum.lable)

solver = None
solver = caffe.get_solver("a")
solver.no_such()

def described():
    s = caffe_pb2.SolverParameter()
    s.test_iter.append(1)

for name, s in []:
    s.step(1)
"""


def errors(report: FileReport) -> list[str]:
    return [sentence for _, sentence in sentences(report, Severity.ERROR)]


def examined(path: Path, text: str) -> FileReport:
    path.write_text(text)
    return {Path(report.path).name: report for report in examine(path.parent).files}[path.name]


def notebook(*cells: str) -> str:
    code = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    return json.dumps({"cells": code})


def test_tops_of_a_net_spec_and_fields_of_messages_exist(tmp_path: Path) -> None:
    lost = "does not exist in caffecompat's pycaffe (docs/pycaffe.md lists what does)"
    found = errors(examined(tmp_path / "a.py", BUILDS))
    assert found == [f"datum.lable {lost}", f"solver.no_such {lost}"]


@pytest.mark.parametrize(
    "cell",
    [
        "%matplotlib inline\nx = 1",
        "% matplotlib inline\nx = 1",
        "if True:\n    !scripts/download.py\nx = 1",
        "!python a.py \\\n    --workers=1 \\\n    --images=$N\nx = 1",
        "%%bash\nfor i in 1 2; do echo $i; done",
        "%%time\nx = 1",
        "names = !ls *.jpg\nx = names",
        "caffe.Net?\nx = 1",
        "x = ('%s, %s'\n     % (1, 2))\ny = (x\n     != 1)",
    ],
)
def test_what_ipython_alone_understands(cell: str, tmp_path: Path) -> None:
    book = notebook("import caffe", cell, "caffe.no_such_name()")
    (found,) = errors(examined(tmp_path / "a.ipynb", book))
    assert found.startswith("caffe.no_such_name does not exist")


def test_a_print_over_several_lines_is_one_mistake(tmp_path: Path) -> None:
    text = (
        "import caffe\nprint 'a %s %s' % (\n    1,\n    2)\nprint 'b', \\\n    3\nx = 1\nprint x\n"
    )
    report = examined(tmp_path / "a.py", text)
    places = [finding.place.rsplit(":")[-1] for finding in report.findings]
    assert places == ["2", "5", "8"]
    assert set(errors(report)) == {"Python 2: print is a function: print(...)"}


AUTOENCODER = """
layer { name: "data" type: "Data" top: "data" include { phase: TRAIN }
        data_param { source: "train_lmdb" batch_size: 2 } }
layer { name: "data" type: "Data" top: "data" include { phase: TEST stage: "on-test" }
        data_param { source: "test_lmdb" batch_size: 2 } }
layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: SIZE } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "flat" top: "loss" }
"""


def test_a_net_for_the_stages_and_the_images_of_its_solver(tmp_path: Path) -> None:
    report = examined(tmp_path / "net.prototxt", AUTOENCODER.replace("SIZE", "784"))
    assert report.verdict is Verdict.RUNS, report.findings
    assert "in phase TEST it is built with the stage 'on-test', not without" in [
        sentence for _, sentence in sentences(report, Severity.NOTE)
    ]


def test_what_may_fit_the_data_is_no_error(tmp_path: Path) -> None:
    report = examined(tmp_path / "net.prototxt", AUTOENCODER.replace("SIZE", "5"))
    assert report.verdict is Verdict.RUNS, report.findings
    (found,) = (text for _, text in sentences(report, Severity.NOTE) if "images of" in text)
    assert found.endswith("(with images of 3x224x224: its data are not there)")
    # What is wrong with any images is an error.
    wrong = AUTOENCODER.replace("num_output: SIZE", "num_output: 0")
    assert examined(tmp_path / "net.prototxt", wrong).verdict is Verdict.CANNOT_RUN


def test_hdf5_files_that_are_not_there(tmp_path: Path) -> None:
    text = """layer { name: "data" type: "HDF5Data" top: "data" top: "label"
                      hdf5_data_param { source: "no/list.txt" batch_size: 3 } }
              layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
                      inner_product_param { num_output: 2 } }"""
    report = examined(tmp_path / "net.prototxt", text)
    assert report.verdict is Verdict.RUNS
    found = [sentence for _, sentence in sentences(report, Severity.NOTE)]
    assert len(found) == 2  # each once, not once for each phase
    assert "no/list.txt is not there" in found[0]
    assert "are unknown without its data, so that the layers behind it are not exam" in found[1]


FOR_ONE_PHASE = """
layer { name: "data" type: "Data" top: "data" include { phase: PHASE }
        data_param { source: "an_lmdb" batch_size: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 3 } }
"""


def test_nets_for_one_phase(tmp_path: Path) -> None:
    """SSD's solvers name a train_net and a test_net, each with data of its phase."""
    for phase in ("TRAIN", "TEST"):
        text = FOR_ONE_PHASE.replace("PHASE", phase)
        (tmp_path / f"{phase.lower()}.prototxt").write_text(text)
    rate = 'base_lr: 1 lr_policy: "fixed"'
    solver = f'train_net: "train.prototxt" test_net: "test.prototxt" test_iter: 1 {rate}'
    assert errors(examined(tmp_path / "solver.prototxt", solver)) == []
    for report in examine(tmp_path).files:
        assert report.verdict is Verdict.RUNS, report.findings
    found = [
        text
        for _, text in sentences(
            examined(tmp_path / "train.prototxt", FOR_ONE_PHASE.replace("PHASE", "TRAIN")),
            Severity.NOTE,
        )
    ]
    assert any(
        text.startswith(
            "it cannot be built in phase TEST: layer 'fc' (InnerProduct): bottom 'data'"
        )
        for text in found
    )
    assert errors(examined(tmp_path / "solver.prototxt", f'net: "train.prototxt" {rate}')) == []
    tested = f'net: "train.prototxt" test_iter: 1 test_interval: 1 {rate}'
    assert errors(examined(tmp_path / "solver.prototxt", tested)) == [
        "it tests with the net train.prototxt, which cannot be built in phase TEST"
    ]
    assert errors(examined(tmp_path / "solver.prototxt", f'net: "test.prototxt" {rate}')) == [
        "it trains the net test.prototxt, which cannot be built in phase TRAIN"
    ]
    neither = FOR_ONE_PHASE.replace("PHASE", 'TEST stage: "a"').replace(
        "include", "exclude { phase: TEST } include"
    )
    assert examined(tmp_path / "neither.prototxt", neither).verdict is Verdict.CANNOT_RUN


def test_a_long_examination_is_not_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_PER_LINE", 0.0)
    for name in ("a", "b"):
        (tmp_path / f"{name}.prototxt").write_text(FOR_ONE_PHASE.replace("PHASE", "TEST"))
    assert main(["doctor", str(tmp_path)]) == 0
    assert "] 1 of 2 files, about " in capsys.readouterr().err


def test_a_layer_whose_name_reads_like_another_phase(tmp_path: Path) -> None:
    """What is wrong is told by the kind of the error, not by words that may stand in a name."""
    text = """
layer { name: "data" type: "Data" top: "data" data_param { source: "an_lmdb" batch_size: 2 } }
layer { name: "x: bottom 'y' exists only in phase TRAIN" type: "ReLU" bottom: "dta" top: "y"
        include { phase: TEST } }"""
    report = examined(tmp_path / "net.prototxt", text)
    assert report.verdict is Verdict.CANNOT_RUN
    assert [place for place, _ in sentences(report, Severity.ERROR)] == [
        f"{tmp_path / 'net.prototxt'}:3"
    ]


def test_a_folder_with_a_space_in_its_name(tmp_path: Path) -> None:
    """The line of a finding is told apart from its sentence."""
    folder = tmp_path / "my project"
    folder.mkdir()
    text = """
layer { name: "data" type: "Data" top: "data" data_param { source: "an_lmdb" batch_size: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "dta" top: "fc" foo: 3
        inner_product_param { num_output: 3 } }"""
    report = examined(folder / "net.prototxt", text)
    for severity, beginning in (
        (Severity.ERROR, "layer 'fc' (InnerProduct): unknown bottom blob 'dta'"),
        (Severity.UPGRADE, "layer 'fc': unknown field 'foo'"),
    ):
        ((place, sentence),) = sentences(report, severity)
        assert place == f"{folder / 'net.prototxt'}:3"
        assert sentence.startswith(beginning)


def test_a_stage_of_a_net_whose_data_come_from_python(tmp_path: Path) -> None:
    """Its code does not run here, so that it is built no further than to the data layer."""
    path = tmp_path / "train_test.prototxt"
    rule = 'include { phase: TEST stage: "on-test" }'
    layer = 'layer { name: "data" type: "Python" top: "data" %s python_param { module: "m" layer:'
    body = 'layer { name: "a" type: "Power" bottom: "data" top: "%s" }'
    data = "".join(f'{layer % one} "L" }} }}\n' for one in ("include { phase: TRAIN }", rule))
    path.write_text(data + body % "a")
    (tmp_path / "m.py").write_text("import caffe\nclass L(caffe.Layer): pass\n")
    (report,) = examine(path).files
    assert report.verdict is Verdict.RUNS, report.findings
    assert "in phase TEST it is built with the stage 'on-test', not without" in [
        finding.sentence for finding in report.findings
    ]


def test_a_mistake_in_a_net_for_stages(tmp_path: Path) -> None:
    """As in the nets of DIGITS, which has three stages and fills in what is missing."""
    path = tmp_path / "original.prototxt"
    path.write_text(
        'layer { name: "d" type: "DummyData" top: "data" include { stage: "train" }\n'
        "dummy_data_param { shape { dim: 2 dim: 3 } } }\n"
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" }\n'
    )
    (report,) = examine(path).files
    (finding,) = report.findings
    assert finding.place.endswith("original.prototxt:3")
    assert "num_output is missing" in finding.sentence
