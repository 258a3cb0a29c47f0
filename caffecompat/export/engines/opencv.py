"""OpenCV's dnn: ONNX files, and Caffe's where the OpenCV that is installed still reads them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.errors import ExportError, needing_extra
from caffecompat.export.engines.base import (
    Arrays,
    Engine,
    EngineOptions,
    NotComparable,
    check_inputs,
    engines,
)
from caffecompat.export.onnx_file import (
    grouped,
    input_shapes,
    preprocessing_inside,
    read_onnx,
    region_inputs,
    value_bytes,
    with_all_values,
)
from caffecompat.export.opencv.process import OpenCvRequest, run_in_opencv
from caffecompat.input_files import open_input
from caffecompat.net import Net

# How much one pass returns; of larger nets each pass returns a part of the values.
MOST_BYTES = 1 << 30


@engines.register("opencv")
class OpenCvOnnx(Engine):
    """``cv2.dnn`` with an ONNX file, on the CPU."""

    def __init__(self, path: Path, options: EngineOptions) -> None:
        self._path = path
        self._model = read_onnx(path, options.max_bytes)
        self.inputs = input_shapes(self._model)
        self.regions = region_inputs(self._model)
        self.preprocessing = preprocessing_inside(self._model, path)
        import_cv2()

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        names = [value.name for value in self._model.graph.output]
        return self._run(self._path, names, inputs)

    def values(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        # OpenCV keeps values that are outputs until its end, and then makes copies of them all.
        model, names = with_all_values(self._model)
        outputs = {value.name: value for value in model.graph.output}
        shapes = {name: inputs[name].shape for name in self.inputs if name in inputs}
        found: Arrays = {}
        with tempfile.TemporaryDirectory() as folder:
            changed = Path(folder, "net.onnx")
            for group in grouped(names, value_bytes(self._model, shapes), MOST_BYTES):
                del model.graph.output[:]
                model.graph.output.extend(outputs[name] for name in group)
                changed.write_bytes(model.SerializeToString())
                found.update(self._run(changed, group, inputs))
        return {name: value for name, value in found.items() if value.size}

    def _run(self, model: Path, names: list[str], inputs: Mapping[str, np.ndarray]) -> Arrays:
        check_inputs(self, inputs, self._path)
        given = {name: inputs[name] for name in self.inputs}
        return run_in_opencv(OpenCvRequest(str(model), names), given, self._path)


@engines.register("opencv5")
class OpenCv5(OpenCvOnnx):
    """The same, where version 5 is installed: the program of ``--for opencv5``."""

    def __init__(self, path: Path, options: EngineOptions) -> None:
        super().__init__(path, options)
        version = import_cv2().__version__
        if int(version.split(".")[0]) < 5:
            raise NotComparable(f"{path}: OpenCV {version} is installed here, and 5 was meant")


@engines.register("opencv-caffe")
class OpenCvCaffe(Engine):
    """``cv2.dnn`` with a prototxt and a caffemodel; OpenCV 5 no longer reads them."""

    def __init__(self, path: Path, options: EngineOptions) -> None:
        self._python = options.opencv_python
        cv2 = None if self._python else import_cv2()
        if cv2 is not None and not hasattr(cv2.dnn, "readNetFromCaffe"):
            raise ExportError(
                f"{path}: OpenCV {cv2.__version__} no longer reads Caffe models; OpenCV 4 does: "
                "--opencv-python names a Python that has it"
            )
        if options.model is None:
            raise ExportError(f"{path}: give its net definition with --model deploy.prototxt")
        for name in (options.model, path):
            open_input(name, options.max_bytes).close()
        self._path = path
        net = Net(options.model, shapes_only=True, max_bytes=options.max_bytes)
        self.inputs = {top.blob: net.shape_of(top) for top in net.program().feeds}
        self._outputs = net.outputs
        self._prototxt = options.model
        # OpenCV knows layers, not blobs: the last layer that writes a blob.
        self._layer_of = {
            top.blob: built.name
            for built in net.layers
            if built.module is not None
            for top in built.tops
        }

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return self._run(self._outputs, inputs)

    def values(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return self._run(list(self._layer_of), inputs)

    def _run(self, blobs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> Arrays:
        check_inputs(self, inputs, self._path)
        layers = [self._layer_of[blob] for blob in blobs]
        given = {name: inputs[name] for name in self.inputs}
        request = OpenCvRequest(str(self._path), layers, self._prototxt, self._python)
        values = run_in_opencv(request, given, self._path)
        return {blob: values[layer] for blob, layer in zip(blobs, layers, strict=True)}


def import_cv2() -> Any:
    """The module cv2.

    Raises:
        MissingExtra: OpenCV is not installed.
    """
    with needing_extra("OpenCV", "opencv-headless"):
        import cv2
    return cv2
