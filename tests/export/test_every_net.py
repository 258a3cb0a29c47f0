"""Every net of prototxt/, narrowed: random weights into every form and back, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net, read_net
from caffecompat.cli.main import main
from caffecompat.proto.files import write_text
from caffecompat.weights import LayerWeights, Weights, load_weights, save_weights
from tests.export.models import require_opencv5
from tests.parity_report import WEIGHTS, Record, note

PROTOTXT = Path(__file__).resolve().parents[2] / "prototxt"
NETS = sorted(path for path in PROTOTXT.rglob("*.prototxt") if not path.stem.startswith("solver"))
DEPLOY_NETS = [path for path in NETS if "deploy" in path.stem]
FORMS = ("safetensors", "torch", "npz", "hdf5", "caffemodel", "caffemodel-v1")
FACTOR, SIDE, LEAST = 32, 64, 2
# Labels have as many values as these layers: a box or digits, and a box for each class.
MOST_KEPT, BOXES = 10, "fc8_box"
# Nets with all layer types among them; torch takes seconds to export one.
AS_TORCH_PROGRAM = ("A-LRN_deploy", "C_deploy", "D_SCR_deploy", "quickstart_deploy")
# Configurations that torchvision has too; its classifier takes a map of 7x7.
IN_TORCHVISION = {
    "A_deploy": "vgg11",
    "B_deploy": "vgg13",
    "D_deploy": "vgg16",
    "E_deploy": "vgg19",
}
TORCHVISION_SIDE = 224

pytestmark = pytest.mark.parity


def narrowed(path: Path, side: int = SIDE) -> Any:
    """The definition with 1/32 of its widths, for images of ``side``."""
    message = read_net(path)
    for layer in message.layer:
        for name in ("convolution_param", "inner_product_param"):
            if layer.HasField(name):
                parameters = getattr(layer, name)
                if parameters.num_output > MOST_KEPT and layer.name != BOXES:
                    parameters.num_output = max(LEAST, parameters.num_output // FACTOR)
        if layer.type == "Input" and layer.input_param.shape[0].dim[2] > side:
            layer.input_param.shape[0].dim[2:] = [side, side]
        if layer.HasField("transform_param") and layer.transform_param.crop_size > side:
            layer.transform_param.crop_size = side
    return message


def random_weights(message: Any) -> Weights:
    """Random values in the shapes of the net, NaN and -0 among them."""
    shapes = {"data": (2, 3, SIDE, SIDE), "label": (2,)}
    tops = {top for layer in message.layer for top in layer.top if not layer.bottom}
    inputs = any(layer.type == "Input" for layer in message.layer)
    stated = {} if inputs else {name: shapes[name] for name in tops & set(shapes)}
    if "quickstart" in message.name or not any(x.name == "conv1_1" for x in message.layer):
        stated = {} if inputs else {"data": (2, 1, 28, 28), "label": (2,)}
    net = Net(message, shapes_only=True, shapes=stated)
    random = np.random.default_rng(len(message.layer))
    layers = []
    for built in net.layers:
        specs = built.module.layer.specs if built.module else []
        blobs = [random.standard_normal(spec.shape).astype(np.float32) for spec in specs]
        for blob in blobs:
            blob.flat[:2] = [np.nan, -0.0]
        if blobs:  # HDF5 has no names with a slash, as those of the accuracies
            layers.append(LayerWeights(built.name, built.type, blobs))
    return Weights(layers, message.name)


def check_equal(original: Path, back: Path, net: Any, record: Record) -> None:
    expected, found = load_weights(original), load_weights(back)
    layers = [layer for layer in expected.values() if layer.blobs]
    pairs = [
        pair for layer in layers for pair in zip(layer.blobs, found[layer.name].blobs, strict=True)
    ]
    note(record, net.name, WEIGHTS, len(layers), pairs)
    for one, other in pairs:
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()


def run(*arguments: object) -> None:
    assert main(["convert", *map(str, arguments)]) == 0


@pytest.mark.parametrize("path", NETS, ids=lambda path: path.stem)
def test_every_form_gives_the_same_bits_back(
    path: Path, tmp_path: Path, record_property: Record
) -> None:
    message = narrowed(path)
    original = tmp_path / "net.caffemodel"
    save_weights(random_weights(message), original)
    for form in FORMS:
        there, back = tmp_path / f"there.{form}", tmp_path / f"{form}.caffemodel"
        run(original, there, "--to", form)
        run(there, back)
        expected = original
        if form == "caffemodel-v1":
            # Its blobs have four sizes; the values are compared in today's shapes.
            run(back, tmp_path / "today.npz")
            run(original, expected := tmp_path / "expected.npz", "--force")
            back = tmp_path / "today.npz"
        check_equal(expected, back, message, record_property)


@pytest.mark.parametrize("path", DEPLOY_NETS, ids=lambda path: path.stem)
def test_matconvnet_gives_the_same_bits_back(
    path: Path, tmp_path: Path, record_property: Record
) -> None:
    pytest.importorskip("scipy.io")
    message = narrowed(path)
    write_text(message, tmp_path / "net.prototxt")
    original, back = tmp_path / "net.caffemodel", tmp_path / "back.caffemodel"
    save_weights(random_weights(message), original)
    run(original, tmp_path / "net.mat", "--model", tmp_path / "net.prototxt")
    run(tmp_path / "net.mat", back, "--model", tmp_path / "net.prototxt")
    check_equal(original, back, message, record_property)


@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_torchvisions_names_give_the_same_bits_back(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], record_property: Record
) -> None:
    message = narrowed(PROTOTXT / f"{name}.prototxt", TORCHVISION_SIDE)
    write_text(message, tmp_path / "net.prototxt")
    original = tmp_path / "net.caffemodel"
    save_weights(random_weights(message), original)
    run(original, tmp_path / "tv.pt", "--layout", "torchvision")
    assert f"torchvision's {IN_TORCHVISION[name]}, " in capsys.readouterr().out
    run(tmp_path / "tv.pt", tmp_path / "back.caffemodel")
    check_equal(original, tmp_path / "back.caffemodel", message, record_property)


@pytest.mark.parametrize("path", DEPLOY_NETS, ids=lambda path: path.stem)
def test_every_engine_gives_the_same_outputs(path: Path, tmp_path: Path) -> None:
    """``convert`` itself compares with the engine of the form, and fails above 1e-4."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    message = narrowed(path)
    write_text(message, tmp_path / "net.prototxt")
    original = tmp_path / "net.caffemodel"
    weights = random_weights(message)
    for layer in weights.layers:
        for blob in layer.blobs:
            # Values keep their size from layer to layer.
            np.nan_to_num(blob, copy=False)
            blob /= np.float32(max(1, blob[0].size if blob.ndim > 1 else 1) ** 0.5)
    save_weights(weights, original)
    forms = [".onnx", ".py", *([".pt2"] if path.stem in AS_TORCH_PROGRAM else [])]
    for form in forms:
        run(original, tmp_path / f"net{form}")
    require_opencv5()
    assert main(["verify", str(original), f"opencv:{tmp_path / 'net.onnx'}"]) == 0


def test_the_nets_as_torch_programs_have_all_layer_types() -> None:
    """So the other nets would export no operator that these do not."""

    def types(path: Path) -> set[str]:
        return {layer.type for layer in read_net(path).layer}

    chosen = [path for path in DEPLOY_NETS if path.stem in AS_TORCH_PROGRAM]
    assert set().union(*map(types, chosen)) == set().union(*map(types, DEPLOY_NETS))
