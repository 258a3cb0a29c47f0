"""The files of prototxt/ are the generator's, and hold the nets and settings of the paper."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.proto.files import read_net, read_solver

REPOSITORY = Path(__file__).resolve().parents[2]
PROTOTXT = REPOSITORY / "prototxt"
COLUMNS = ("A", "A-LRN", "B", "C", "D", "E")
SOLVERS = sorted(path.name for path in PROTOTXT.glob("solver_*.prototxt"))
NETS = sorted({path.name for path in PROTOTXT.glob("*.prototxt")} - set(SOLVERS))

# Parameters by the arithmetic of Table 1, and the paper's rounded totals (Table 2, in millions).
PARAMETERS = {
    "A": (132_863_336, 133),
    "A-LRN": (132_863_336, 133),
    "B": (133_047_848, 133),
    "C": (133_638_952, 134),
    "D": (138_357_544, 138),
    "E": (143_667_240, 144),
}
WEIGHT_LAYERS = {"A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19, "B_5x5": 8}


def net(name: str) -> Any:
    return read_net(PROTOTXT / name)[0]


def solver(name: str) -> Any:
    return read_solver(PROTOTXT / name)[0]


def layers(message: Any, kind: str) -> list[Any]:
    return [layer for layer in message.layer if layer.type == kind]


def weight_layers(message: Any) -> list[Any]:
    return [layer for layer in message.layer if layer.type in ("Convolution", "InnerProduct")]


def count_parameters(message: Any, channels: int, side: int) -> int:
    """Weights and biases of a chain of layers over ``channels`` x ``side`` x ``side`` inputs."""
    total = 0
    for layer in message.layer:
        if layer.type == "Convolution":
            settings = layer.convolution_param
            (size,), (pad,) = settings.kernel_size, settings.pad
            assert 2 * pad + 1 == size, "the paper's convolutions keep the resolution"
            total += settings.num_output * (channels * size**2 + 1)
            channels = settings.num_output
        elif layer.type == "Pooling":
            assert (layer.pooling_param.kernel_size, layer.pooling_param.stride) == (2, 2)
            side = (side + 1) // 2
        elif layer.type == "InnerProduct":
            width = layer.inner_product_param.num_output
            total += width * (channels * side**2 + 1)
            channels, side = width, 1
    return total


def test_files_are_those_of_the_generator() -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "tools" / "generate_prototxt.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_column_has_its_files() -> None:
    for column in (*COLUMNS, "B_5x5", "quickstart"):
        assert f"{column}_train_val.prototxt" in NETS
        assert f"{column}_deploy.prototxt" in NETS
        assert f"solver_{column}.prototxt" in SOLVERS


@pytest.mark.parametrize("name", NETS)
def test_net_parses_without_upgrade(name: str) -> None:
    message, source = read_net(PROTOTXT / name)
    assert message.layer[0].type == ("Input" if name.endswith("_deploy.prototxt") else "Data")
    assert source.notes == ()


@pytest.mark.parametrize("name", SOLVERS)
def test_solver_parses_and_names_a_net(name: str) -> None:
    message, source = read_solver(PROTOTXT / name)
    assert (REPOSITORY / message.net).name in NETS
    assert message.net.removeprefix("prototxt/") == f"{name[7:-9]}_train_val.prototxt"
    assert source.notes == ()


@pytest.mark.parametrize("kind", ["deploy", "train_val"])
@pytest.mark.parametrize("column", COLUMNS)
def test_parameters_are_those_of_table_2(column: str, kind: str) -> None:
    exact, millions = PARAMETERS[column]
    found = count_parameters(net(f"{column}_{kind}.prototxt"), channels=3, side=224)
    assert found == exact
    assert round(found / 1e6) == millions


@pytest.mark.parametrize("column", WEIGHT_LAYERS)
def test_weight_layers_are_as_many_as_in_table_1(column: str) -> None:
    assert len(weight_layers(net(f"{column}_deploy.prototxt"))) == WEIGHT_LAYERS[column]


def test_names_of_d_are_those_of_the_published_file() -> None:
    blocks = [(1, 2), (2, 2), (3, 3), (4, 3), (5, 3)]
    expected = ["data"]
    for block, count in blocks:
        for number in range(1, count + 1):
            expected += [f"conv{block}_{number}", f"relu{block}_{number}"]
        expected.append(f"pool{block}")
    expected += ["fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8", "prob"]
    message = net("D_deploy.prototxt")
    assert [layer.name for layer in message.layer] == expected
    for layer in message.layer:
        in_place = layer.type in ("ReLU", "Dropout")
        assert list(layer.top) == (list(layer.bottom) if in_place else [layer.name])


def test_e_adds_one_layer_to_each_of_the_last_three_blocks() -> None:
    names = {layer.name for layer in net("E_deploy.prototxt").layer}
    added = names - {layer.name for layer in net("D_deploy.prototxt").layer}
    assert added == {"conv3_4", "relu3_4", "conv4_4", "relu4_4", "conv5_4", "relu5_4"}


def test_c_has_a_1x1_layer_at_the_end_of_the_last_three_blocks() -> None:
    sizes = {
        layer.name: (layer.convolution_param.kernel_size[0], layer.convolution_param.pad[0])
        for layer in layers(net("C_deploy.prototxt"), "Convolution")
    }
    assert {name for name, size in sizes.items() if size == (1, 0)} == {
        "conv3_3",
        "conv4_3",
        "conv5_3",
    }
    assert set(sizes.values()) == {(1, 0), (3, 1)}


def test_a_lrn_has_one_lrn_with_krizhevskys_constants() -> None:
    message = net("A-LRN_deploy.prototxt")
    (lrn,) = layers(message, "LRN")
    assert (list(lrn.bottom), list(lrn.top)) == (["conv1_1"], ["norm1"])
    assert lrn.lrn_param.local_size == 5
    # Krizhevsky's 1e-4 multiplies the sum, Caffe's alpha the mean of local_size squares.
    assert lrn.lrn_param.alpha / lrn.lrn_param.local_size == pytest.approx(1e-4)
    assert (lrn.lrn_param.beta, lrn.lrn_param.k) == (0.75, 2)
    rest = [layer.name for layer in message.layer if layer.name != "norm1"]
    assert rest == [layer.name for layer in net("A_deploy.prototxt").layer]


def test_shallow_net_has_five_5x5_layers_with_names_of_their_own() -> None:
    found = layers(net("B_5x5_deploy.prototxt"), "Convolution")
    assert [layer.name for layer in found] == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert {layer.convolution_param.kernel_size[0] for layer in found} == {5}


@pytest.mark.parametrize("column", [*COLUMNS, "B_5x5"])
def test_training_settings_of_the_layers(column: str) -> None:
    message = net(f"{column}_train_val.prototxt")
    for layer in weight_layers(message):
        assert [(p.lr_mult, p.decay_mult) for p in layer.param] == [(1, 1), (2, 0)]
        kind = "convolution_param" if layer.type == "Convolution" else "inner_product_param"
        settings = getattr(layer, kind)
        assert settings.weight_filler.type == "gaussian"
        assert settings.weight_filler.std == pytest.approx(0.01)
        assert (settings.bias_filler.type, settings.bias_filler.value) == ("constant", 0)
    ratios = [layer.dropout_param.dropout_ratio for layer in layers(message, "Dropout")]
    assert ratios == [0.5, 0.5]


@pytest.mark.parametrize("column", ["B", "C", "D", "E"])
def test_xavier_variant_differs_in_the_fillers_only(column: str) -> None:
    message = net(f"{column}_xavier_train_val.prototxt")
    reference = net(f"{column}_train_val.prototxt")
    for layer, other in zip(weight_layers(message), weight_layers(reference), strict=True):
        kind = "convolution_param" if layer.type == "Convolution" else "inner_product_param"
        filler = getattr(layer, kind).weight_filler
        assert filler.type == "xavier"
        # Glorot's formula takes both fans; Caffe's default takes the inputs alone.
        assert filler.variance_norm == filler.AVERAGE
        filler.CopyFrom(getattr(other, kind).weight_filler)
    assert message == reference


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("D", "data/ilsvrc12_train_S256_lmdb", "data/ilsvrc12_val_S256_lmdb"),
        ("D_S384", "data/ilsvrc12_train_S384_lmdb", "data/ilsvrc12_val_S384_lmdb"),
        ("D_multiscale", "data/ilsvrc12_train_S512_lmdb", "data/ilsvrc12_val_S384_lmdb"),
    ],
)
def test_data_of_each_training_scale(name: str, train: str, test: str) -> None:
    first, second = layers(net(f"{name}_train_val.prototxt"), "Data")
    assert (first.data_param.source, first.data_param.batch_size) == (train, 256)
    assert (second.data_param.source, second.data_param.batch_size) == (test, 50)
    for layer in (first, second):
        assert layer.data_param.backend == layer.data_param.LMDB
        assert layer.transform_param.crop_size == 224
        means = [round(mean, 3) for mean in layer.transform_param.mean_value]
        assert means == [103.939, 116.779, 123.68]
    assert (first.transform_param.mirror, second.transform_param.mirror) == (True, False)
    jitter = (256, 512) if name == "D_multiscale" else (0, 0)
    transform = first.transform_param
    assert (transform.img_rand_resize_lower, transform.img_rand_resize_upper) == jitter
    assert not second.transform_param.HasField("img_rand_resize_lower")


def test_colours_are_shifted_along_the_axes_of_krizhevsky() -> None:
    first, second = layers(net("D_train_val.prototxt"), "Data")
    transform = first.transform_param
    assert transform.colour_shift_std == pytest.approx(0.1)
    # The published constants are standard deviations of pixels in [0, 1].
    deviations = np.array([0.2175, 0.0188, 0.0045]) * 255
    np.testing.assert_allclose(transform.colour_eigenvalue, deviations, rtol=1e-3)
    axes = np.array(transform.colour_eigenvector).reshape(3, 3)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-3)
    # The first axis is brightness: nearly equal parts of B, G and R.
    np.testing.assert_allclose(np.abs(axes[0]), 1 / np.sqrt(3), atol=0.01)
    assert second.transform_param.colour_shift_std == 0


def test_outputs_in_both_phases() -> None:
    message = net("E_train_val.prototxt")
    accuracies = layers(message, "Accuracy")
    assert [layer.accuracy_param.top_k for layer in accuracies] == [1, 5]
    assert [layer.name for layer in accuracies] == ["accuracy/top-1", "accuracy/top-5"]
    for layer in accuracies:
        assert [rule.phase for rule in layer.include] == [1]
    (loss,) = layers(message, "SoftmaxWithLoss")
    assert (loss.name, list(loss.bottom), list(loss.top)) == ("loss", ["fc8", "label"], ["loss"])


@pytest.mark.parametrize("column", COLUMNS)
def test_solver_settings_of_section_3_1(column: str) -> None:
    message = solver(f"solver_{column}.prototxt")
    assert message.base_lr == pytest.approx(1e-2)
    assert (message.lr_policy, message.plateau_drops) == ("plateau", 3)
    assert message.plateau_metric == "accuracy/top-5"
    assert [window % message.test_interval for window in message.plateau_winsize] == [0]
    assert message.gamma == pytest.approx(0.1)
    assert message.momentum == pytest.approx(0.9)
    assert message.weight_decay == pytest.approx(5e-4)
    assert message.max_iter == 370_000
    assert message.iter_size == 1
    # The whole validation set, once.
    assert message.test_iter[0] * 50 == 50_000


@pytest.mark.parametrize(
    ("name", "before"),
    [("D_S384", "solver_D.prototxt"), ("D_multiscale", "solver_D_S384.prototxt")],
)
def test_other_scales_start_from_the_last_snapshot_of_the_one_before(
    name: str, before: str
) -> None:
    message = solver(f"solver_{name}.prototxt")
    previous = solver(before)
    assert message.base_lr == pytest.approx(1e-3)
    last = f"{previous.snapshot_prefix}_iter_{previous.max_iter}.caffemodel"
    assert list(message.weights) == [last]
    assert previous.max_iter % previous.snapshot == 0


def test_check_names_changed_missing_and_foreign_files(tmp_path: Path) -> None:
    for folder in ("tools", "prototxt"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    changed = tmp_path / "prototxt" / "E_deploy.prototxt"
    changed.write_text(changed.read_text("utf-8").replace("num_output: 512", "num_output: 513"))
    (tmp_path / "prototxt" / "solver_B.prototxt").unlink()
    (tmp_path / "prototxt" / "F_deploy.prototxt").touch()
    script = [sys.executable, str(tmp_path / "tools" / "generate_prototxt.py")]
    done = subprocess.run([*script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    stale = [line.split()[0] for line in done.stdout.splitlines()]
    assert stale == [
        "prototxt/E_deploy.prototxt",
        "prototxt/F_deploy.prototxt",
        "prototxt/solver_B.prototxt",
    ]
    subprocess.run(script, capture_output=True, check=True)
    written = (tmp_path / "prototxt").glob("*.prototxt")
    assert sorted(path.name for path in written) == NETS + SOLVERS
    assert changed.read_bytes() == (PROTOTXT / changed.name).read_bytes()
