"""``caffecompat inspect``, as a user sees it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import lmdb
import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.net.analysis.receptive_field import receptive_fields
from caffecompat.proto.text.parser import parse_text
from caffecompat.weights import LayerWeights, Weights, known_files, save_weights
from tests.places import COPIES

ROOT = Path(__file__).resolve().parents[3]
DATA = COPIES / "files"
NET = """
name: "small"
layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 12 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "c"
        convolution_param { num_output: 4 kernel_h: 3 kernel_w: 5 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "pool" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "p" top: "f" inner_product_param { num_output: 5 } }
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["inspect", *arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weight = np.arange(180, dtype=np.float32).reshape(4, 3, 3, 5)
    weight[0, 0, 0, 0] = np.nan
    path = tmp_path / "small.caffemodel"
    layers = [
        LayerWeights("conv", "Convolution", [weight, np.full(4, -1.5, np.float32)]),
        LayerWeights("fc", "InnerProduct", [np.ones((5, 48), np.float32), np.zeros(5)]),
        LayerWeights("relu", "ReLU"),
    ]
    save_weights(Weights(layers, "small"), path, format="caffemodel-v1")
    return path


def test_a_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, str(model))
    assert f"{model.stat().st_size:,} bytes" in out
    assert "format: caffemodel, generation V1" in out
    assert "layers: 3, 2 with parameters; parameters: 429" in out
    assert "conv   Convolution   4x3x3x5 4         float32           184" in out
    assert "4 blobs have the old sizes" in out
    assert "NaN" not in out


def test_values_and_hash(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "--values", "--hash", str(model))
    (row,) = [line.split() for line in out.splitlines() if line.split()[:2] == ["conv", "0"]]
    assert row == ["conv", "0", "1", "90", "179", "1"]
    assert known_files.file_hash(model) in out


def test_with_a_net(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = tmp_path / "net.prototxt"
    net.write_text(NET)
    out = run(capsys, str(model), "--model", str(net))
    (conv,) = [line for line in out.splitlines() if line.startswith("conv ")]
    assert "2x4x5x3" in conv
    assert f"{2 * 4 * 5 * 3 * 45:,}" in conv
    assert "3x5 /2x2" in conv
    assert "the weights fit 1 of 2 layers with parameters" in out
    assert "does not fit: " in out
    assert "5x48 in the file, the net needs 5x32" in out


def test_a_definition(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = tmp_path / "net.prototxt"
    net.write_text(NET)
    out = run(capsys, str(net))
    assert "format: prototxt, a net definition, shown in phase TEST" in out
    assert "inputs: x; outputs: f" in out
    pool = next(line for line in out.splitlines() if line.startswith("pool"))
    assert pool.split()[-2:] == ["5x7", "/2x2"]
    assert "it ends at 'fc' (InnerProduct): it uses its whole bottom" in out


def test_a_solver_a_state_and_a_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solver = tmp_path / "solver.prototxt"
    solver.write_text('net: "net.prototxt"\nbase_lr: 0.01\nlr_policy: "fixed"\n')
    assert "a solver (SGD)" in run(capsys, str(solver))
    out = run(capsys, str(DATA / "solverstate" / "sgd_bin_iter_5.solverstate"), "--values")
    assert "iteration: 5" in out
    assert "array  shape" in out
    assert "3 channels, 6 high, 5 wide" in run(capsys, str(DATA / "mean" / "legacy.binaryproto"))


def test_published_files_come_with_their_preprocessing(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = known_files.PUBLISHED[0]
    fake = known_files.PublishedFile(
        known.name, known.what, "sha256", "0" * 64, model.stat().st_size, known.preparation
    )
    monkeypatch.setattr(known_files, "PUBLISHED", (fake,))
    out = run(capsys, str(model))
    assert "altered or damaged" in out
    assert "B 103.939, G 116.779, R 123.68" in out
    assert "WordNet" in out


def test_what_is_none_of_these(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "imagenet-vgg-verydeep-16.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNX86" + bytes(100))
    assert main(["inspect", str(path)]) == 1
    captured = capsys.readouterr()
    assert "has the name of the published imagenet-vgg-verydeep-16.mat" in captured.out
    assert "this is a MATLAB file" in captured.err
    assert main(["inspect", str(tmp_path / "none")]) == 1
    assert "there is no such file" in capsys.readouterr().err


def test_a_caffemodel_is_inspected_without_torch(model: Path) -> None:
    code = (
        "import sys; from caffecompat.cli.main import main; "
        f"assert main(['inspect', {str(model)!r}]) == 0; "
        "heavy = {'torch', 'h5py', 'cv2', 'google'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


class TestReceptiveField:
    def fields(self, text: str) -> dict[str, str]:
        net = Net(parse_text(text, "NetParameter")[0], shapes_only=True)
        rows = zip(net.layers, receptive_fields(net.layers), strict=True)
        return {built.name: str(row.field or row.reason) for built, row in rows}

    def test_vgg(self) -> None:
        net = Net(ROOT / "prototxt" / "D_deploy.prototxt", shapes_only=True)
        rows = dict(zip([b.name for b in net.layers], receptive_fields(net.layers), strict=True))
        assert str(rows["conv1_1"].field) == "3 /1"
        assert str(rows["conv5_3"].field) == "196 /16"
        assert str(rows["pool5"].field) == "212 /32"
        assert rows["fc6"].reason
        assert rows["prob"].field is None
        assert not rows["prob"].reason

    def test_measured_by_gradients(self) -> None:
        """What the numbers claim, a gradient shows: the pixels that one output depends on."""
        text = """
        layer { name: "d" type: "Input" top: "x"
                input_param { shape { dim: 1 dim: 1 dim: 31 dim: 29 } } }
        layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
          num_output: 1 kernel_size: 3 dilation: 2 weight_filler { type: "constant" value: 1 } } }
        layer { name: "b" type: "Pooling" bottom: "a" top: "b"
                pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
        layer { name: "c" type: "Convolution" bottom: "b" top: "c" convolution_param {
          num_output: 1 kernel_h: 1 kernel_w: 3 weight_filler { type: "constant" value: 1 } } }
        """
        net = Net(parse_text(f"force_backward: true {text}", "NetParameter")[0])
        net.forward(x=np.ones((1, 1, 31, 29), np.float32))
        diff = np.zeros(net.blobs["c"].shape, np.float32)
        diff[0, 0, 3, 4] = 1
        net.backward(c=diff)
        touched = np.argwhere(net.blobs["x"].diff[0, 0].numpy() != 0)
        extent = touched.max(axis=0) - touched.min(axis=0) + 1
        field = {
            b.name: row.field
            for b, row in zip(net.layers, receptive_fields(net.layers), strict=True)
        }["c"]
        assert field is not None
        assert field.size == tuple(extent)
        assert [float(stride) for stride in field.stride] == [2, 2]

    def test_branches_deconvolution_and_ends(self) -> None:
        fields = self.fields(
            """
        layer { name: "d" type: "Input" top: "x"
                input_param { shape { dim: 1 dim: 2 dim: 16 dim: 12 } } }
        layer { name: "a" type: "Convolution" bottom: "x" top: "a"
                convolution_param { num_output: 2 kernel_size: 4 stride: 2 pad: 1 } }
        layer { name: "up" type: "Deconvolution" bottom: "a" top: "up"
                convolution_param { num_output: 2 kernel_size: 4 stride: 2 pad: 1 } }
        layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "up" top: "sum" }
        layer { name: "lrn" type: "LRN" bottom: "sum" top: "lrn"
                lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL } }
        layer { name: "all" type: "Pooling" bottom: "lrn" top: "all"
                pooling_param { pool: AVE global_pooling: true } }
        layer { name: "fc" type: "InnerProduct" bottom: "all" top: "fc"
                inner_product_param { num_output: 3 } }
        """
        )
        assert (fields["a"], fields["up"], fields["sum"]) == ("4 /2", "6 /1", "6 /1")
        assert fields["lrn"] == "8 /1"
        assert fields["all"] == "it pools whole maps"
        assert fields["fc"] == ""


def test_databases_and_other_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my train_lmdb"
    lmdb.open(str(folder)).close()
    assert run(capsys, str(folder)).splitlines() == [
        f"{folder}: a folder with an LMDB database",
        f"what is in it: caffecompat dataset info '{folder}'",
    ]
    level = tmp_path / "train_leveldb"
    level.mkdir()
    (level / "CURRENT").write_text("MANIFEST-000002\n")
    assert "a folder with a LEVELDB database" in run(capsys, str(level))
    assert main(["inspect", str(tmp_path)]) == 1
    assert "is a folder, expected a file" in capsys.readouterr().err


def test_an_hdf5_data_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((5, 3, 2))
        file["label"] = np.zeros(5)
    assert run(capsys, str(path)).splitlines()[1:] == [
        "format: HDF5, data for HDF5Data layers, whose tops have the names of the data sets",
        "",
        "data set  shape",
        "data      5x3x2",
        "label     5",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_are_no_text_are_shown_escaped(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.caffemodel"
    # A net with one layer, whose name is the byte 255 and an umlaut.
    path.write_bytes(b"\xa2\x06\x0a\x0a\x03\xff\xc3\xbc\x12\x03Raw")
    result = subprocess.run(
        [sys.executable, "-m", "caffecompat", "inspect", str(path)],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert result.returncode == 0, result.stderr
    assert b"\\udcff" + (b"\xc3\xbc" if encoding == "utf-8" else b"\\xfc") in result.stdout


def test_a_list_of_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that is named makes the database."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos").mkdir()
    for name in ("a b.png", "c.JPG"):
        assert cv2.imwrite(f"my photos/{name}", np.zeros((4, 4, 3), np.uint8))
    path = tmp_path / "my photos" / "list.txt"
    path.write_text("a b.png 7\nc.JPG 2\n")
    out = run(capsys, str(path))
    assert "a list of 2 images with labels from 2 to 7, for convert-imageset and ImageData" in out
    command = out.partition("to make a database of them: caffecompat ")[2]
    assert main(shlex.split(command)) == 0
    assert (tmp_path / "list_lmdb" / "data.mdb").exists()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.png\t0\nb.png\t1\n", "with a tab before the label"),
        ("a.png\nb.png\n", "which has no label"),
        ("a.png cat\nb.png dog\n", "whose label is a word"),
    ],
)
def test_a_list_of_images_with_a_fault(
    text: str, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    out = run(capsys, str(path))
    assert "a list of images" in out
    assert found in out
    assert "to make a database" not in out


def test_a_prototxt_that_names_images_is_no_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text("# a.png\n# b.png 1\n" + NET)
    assert "a net definition" in run(capsys, str(path))


def test_a_solver_that_holds_its_net(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "solver.prototxt"
    path.write_text(
        'base_lr: 0.1\nlr_policy: "fixed"\nnet_param {\n'
        '  layers { name: "r" type: RELU bottom: "x" top: "y" }\n}\n'
    )
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "format: prototxt, a solver (SGD)" in out
    assert 'name: "r"' in out
