"""Small models with random weights, and programs that run their ONNX files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.export.model import CaffeModel
from caffecompat.net.definition import read_definition
from caffecompat.proto.text.parser import parse_text

Arrays = dict[str, np.ndarray]


def model_of(text: str, seed: int = 5) -> CaffeModel:
    """The model of a prototxt, with random weights from 0.5 to 1.5 or around 0."""
    message, _ = parse_text(text, "NetParameter")
    definition = read_definition(message)
    net = Net(definition)
    generator = np.random.default_rng(seed)
    weights = net.to_weights()
    for layer in weights.layers:
        for index, blob in enumerate(layer.blobs):
            values = generator.normal(size=blob.shape).astype(np.float32)
            variance = layer.type == "BN" and index == 3
            positive = variance or (layer.type == "BatchNorm" and index > 0)
            layer.blobs[index] = 0.5 + abs(values) if positive else values * 0.5
    return CaffeModel(definition, weights, path="net.caffemodel")


def layer_net(layer: str, *shapes: Sequence[int], tops: int = 1) -> str:
    """A prototxt with one layer, whose bottoms a, b ... are inputs and whose tops are y, z ..."""
    bottoms = "abcdefgh"[: len(shapes)]
    inputs = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        f"{' '.join(f'dim: {extent}' for extent in shape)} }} }} }}\n"
        for name, shape in zip(bottoms, shapes, strict=True)
    )
    wires = " ".join(
        [f'bottom: "{name}"' for name in bottoms] + [f'top: "{t}"' for t in "yz"[:tops]]
    )
    return f'name: "one"\n{inputs}layer {{ name: "one" {wires} {layer} }}\n'


def random_inputs(
    net: Net, seed: int = 3, shapes: Mapping[str, Sequence[int]] | None = None
) -> Arrays:
    """Normal values for the inputs of a net, by name."""
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(size=(shapes or {}).get(name, net.blobs[name].shape)).astype(
            np.float32
        )
        for name in net.inputs
    }


def expected_outputs(net: Net, inputs: Arrays) -> Arrays:
    return {name: np.array(value) for name, value in net.forward(**inputs).items()}


def run_onnxruntime(path: Path, inputs: Arrays) -> Arrays:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def skip_average_with_ceil_mode() -> None:
    """Skips a test of average pooling with ceil_mode where ONNX Runtime computes it wrongly."""
    onnxruntime: Any = pytest.importorskip("onnxruntime")
    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if version < (1, 24):
        # The newest for Python 3.10; `convert` compares the values and says that they differ.
        pytest.skip(f"ONNX Runtime {onnxruntime.__version__} divides by another count")


def require_opencv5() -> None:
    """Skips a test without OpenCV 5, for which ONNX files are written; numpy 1 has OpenCV 4."""
    cv2: Any = pytest.importorskip("cv2")
    if int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip(f"ONNX files are for OpenCV 5, and {cv2.__version__} is installed")


def run_opencv(path: Path, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
    """The outputs in OpenCV 5."""
    require_opencv5()
    import cv2

    net: Any = cv2.dnn.readNetFromONNX(str(path))
    for name, value in inputs.items():
        net.setInput(value, name)
    return dict(zip(outputs, net.forward(list(outputs)), strict=True))


def runs(path: Path, inputs: Arrays, outputs: Sequence[str]) -> Iterator[Arrays]:
    """The outputs in ONNX Runtime, then those in OpenCV."""
    yield run_onnxruntime(path, inputs)
    yield run_opencv(path, inputs, outputs)


def assert_close(found: Arrays, wanted: Arrays, tolerance: float = 1e-4) -> None:
    """Equal shapes, and values within ``tolerance`` of the largest magnitude."""
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        scale = np.abs(value).max(initial=1e-6)
        assert np.abs(found[name] - value).max(initial=0) <= tolerance * scale, name


def image(rng: np.random.Generator, height: int, width: int) -> Arrays:
    """The input data (1, 3, height, width)."""
    return {"data": rng.normal(size=(1, 3, height, width)).astype(np.float32)}


def extents(value: Any) -> list[int | str]:
    """The extents of a value of an ONNX graph, or their names."""
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
