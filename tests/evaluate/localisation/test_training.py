"""A small localisation net learns to find rectangles; the paper's nets have the right parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat import Net, Solver
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.evaluate.classification.posteriors import Posteriors
from caffecompat.evaluate.images.preparation import ImagePreparation
from caffecompat.evaluate.localisation.annotated_images import AnnotatedImages
from caffecompat.evaluate.localisation.box_net import BoxNet
from caffecompat.evaluate.localisation.evaluation import localise
from caffecompat.evaluate.localisation.protocol import Localiser
from caffecompat.evaluate.localisation.protocols.full import Full, FullOptions
from caffecompat.evaluate.localisation.protocols.ground_truth_class import GroundTruthClass
from caffecompat.export.model import CaffeModel
from caffecompat.net.definition import read_definition
from caffecompat.proto.files import read_net, read_solver
from caffecompat.proto.text.parser import parse_text
from tests.places import REPOSITORY

PROTOTXT = REPOSITORY / "prototxt" / "localisation"
TRAINED = ["D_SCR_S384_fc", "D_PCR_S384_fc", "D_PCR_S384", "D_PCR_S256"]

TRUNK = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param {
    num_output: 12 kernel_size: 5 stride: 3 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "fc6" type: "InnerProduct" bottom: "conv1" top: "fc6" inner_product_param {
    num_output: 32 weight_filler { type: "msra" } } }
layer { name: "relu6" type: "ReLU" bottom: "fc6" top: "fc6" }
layer { name: "fc8_box" type: "InnerProduct" bottom: "fc6" top: "fc8_box" inner_product_param {
    num_output: OUTPUTS weight_filler { type: "gaussian" std: 0.01 }
    bias_filler { type: "constant" value: 0.5 } } }
"""
SHARED_LOSS = (
    'layer { type: "EuclideanLoss" name: "loss" bottom: "fc8_box" bottom: "box" top: "l" }'
)
CLASS_LOSS = """
layer { name: "own_box" type: "Eltwise" bottom: "fc8_box" bottom: "mask" top: "own_box"
        eltwise_param { operation: PROD } }
layer { name: "loss" type: "EuclideanLoss" bottom: "own_box" bottom: "box" top: "l" }
"""
INPUT = """
layer { name: "data" type: "Input" top: "data" input_param { shape: {
        dim: 1 dim: 3 dim: 20 dim: 20 } } }
"""


def draw_rectangles(folder: Path, count: int = 40) -> str:
    """Images of 24x24 with a bright wide rectangle (class 0) or a high one (class 1)."""
    random = np.random.default_rng(0)
    lines = []
    for number in range(count):
        pixels = random.integers(0, 60, (24, 24, 3), np.uint8)
        width, height = (11, 6) if number % 2 == 0 else (6, 11)
        x, y = int(random.integers(0, 24 - width)), int(random.integers(0, 24 - height))
        pixels[y : y + height, x : x + width] += 180
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
        lines.append(f"{number}.png {number % 2} {x} {y} {x + width - 1} {y + height - 1}")
    path = folder / "boxes.txt"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def train_val(path: str, per_class: bool) -> str:
    tops = "top: 'data' top: 'box' " + ("top: 'mask' " if per_class else "")
    data = (
        f"layer {{ name: 'data' type: 'BoxData' {tops} transform_param {{ crop_size: 20 "
        "mirror: true mean_value: 60 scale: 0.01 } image_data_param { "
        f"source: '{path}' root_folder: '{Path(path).parent}/' batch_size: 20 shuffle: true }} "
        f"box_data_param {{ classes: {2 if per_class else 1} }} }}"
    )
    trunk = TRUNK.replace("OUTPUTS", "8" if per_class else "4")
    return data + trunk + (CLASS_LOSS if per_class else SHARED_LOSS)


def errors_of(net: Net, path: str, per_class: bool) -> tuple[float, float]:
    """The error of the true class, and that of the full protocol with known classes."""
    text = INPUT + TRUNK.replace("OUTPUTS", "8" if per_class else "4")
    definition = read_definition(parse_text(text, "NetParameter")[0])
    preprocessing = Preprocessing(mean=(60.0,), scale=0.01)
    model = CaffeModel(definition, net.to_weights(), preprocessing, "small")
    localiser = Localiser(BoxNet(model), ImagePreparation(preprocessing), (24,))
    images = AnnotatedImages(path)
    names = tuple(name.decode() for name, _ in images.entries.names())
    labels = np.array([label for _, label in images.entries.names()])
    known = Posteriors(names, np.arange(len(names)), labels, np.eye(2, dtype=np.float32)[labels])
    protocols = GroundTruthClass(localiser), Full([localiser], known, FullOptions(flip=True))
    of_class, full = (localise(images, protocol).error for protocol in protocols)
    return of_class, full


@pytest.mark.parametrize("per_class", [True, False])
def test_training_lowers_the_localisation_error(per_class: bool, tmp_path: Path) -> None:
    path = draw_rectangles(tmp_path)
    (tmp_path / "net.prototxt").write_text(train_val(path, per_class))
    (tmp_path / "solver.prototxt").write_text(
        f"net: '{tmp_path / 'net.prototxt'}' type: 'Adam' base_lr: 0.005 lr_policy: 'fixed' "
        "momentum: 0.9 momentum2: 0.999 random_seed: 2 snapshot_after_train: false max_iter: 60"
    )
    solver = Solver(str(tmp_path / "solver.prototxt"))
    before = errors_of(solver.net, path, per_class)
    solver.step(60)
    after = errors_of(solver.net, path, per_class)
    assert min(before) > 0.5
    assert max(after) < 0.2


def test_the_files_are_those_of_the_generator() -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "tools/generate_localisation_prototxt.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def weight_layers(message: Any) -> list[Any]:
    return [layer for layer in message.layer if layer.type in ("Convolution", "InnerProduct")]


@pytest.mark.parametrize("name", TRAINED)
def test_the_papers_nets(name: str) -> None:
    """Table 8 and 9: what learns, from which weights, at which scale."""
    solver = read_solver(PROTOTXT / f"solver_{name}.prototxt")[0]
    assert solver.base_lr == pytest.approx(1e-3)
    assert solver.net == f"prototxt/localisation/{name}_train_val.prototxt"
    scale = 384 if "S384" in name else 256
    classification = "D_S384" if scale == 384 else "D"
    before = read_solver(REPOSITORY / "prototxt" / f"solver_{classification}.prototxt")[0]
    assert list(solver.weights) == [f"{before.snapshot_prefix}_iter_{before.max_iter}.caffemodel"]

    message = read_net(PROTOTXT / f"{name}_train_val.prototxt")[0]
    transform = message.layer[0].transform_param
    assert (transform.img_rand_resize_lower, transform.img_rand_resize_upper) == (scale, scale)
    classes = 1000 if "PCR" in name else 1
    assert message.layer[0].box_data_param.classes == classes
    found = {layer.name: layer for layer in weight_layers(message)}
    *start, old_last = weight_layers(read_net(REPOSITORY / "prototxt" / "D_train_val.prototxt")[0])
    # All but the last layer begin with the weights of the classification net, by name.
    assert list(found) == [*(layer.name for layer in start), "fc8_box"]
    assert old_last.name not in found
    assert found["fc8_box"].inner_product_param.num_output == 4 * classes
    learns = {key for key, layer in found.items() if any(p.lr_mult for p in layer.param)}
    if name.endswith("_fc"):
        assert learns == {"fc6", "fc7", "fc8_box"}
    else:
        assert learns == set(found)
    for phase in ("train", "test"):
        net = Net(PROTOTXT / f"{name}_train_val.prototxt", phase=phase, shapes_only=True)
        assert net.blobs["data"].shape[1:] == (3, 224, 224)
        assert net.blobs["box"].shape[1:] == (4 * classes,)
        assert list(net.outputs) == ["loss"]


@pytest.mark.parametrize(("kind", "outputs"), [("SCR", 4), ("PCR", 4000)])
def test_the_deploy_nets(kind: str, outputs: int) -> None:
    net = Net(PROTOTXT / f"D_{kind}_deploy.prototxt", shapes_only=True)
    assert net.blobs["fc8_box"].shape == (10, outputs)
    assert list(net.outputs) == ["fc8_box"]
