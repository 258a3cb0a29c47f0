"""MatConvNet's MAT files: SimpleNN where the net is a chain, else DagNN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import needing_extra
from caffecompat.export.matconvnet.from_caffe import from_caffe
from caffecompat.export.matconvnet.layers import (
    BNORM,
    CONCAT,
    CONV,
    CONVT,
    CROP,
    DROPOUT,
    LRN,
    POOL,
    RELU,
    ROIPOOL,
    SIGMOID,
    SOFTMAX,
    SUM,
    MatLayer,
    MatNet,
)
from caffecompat.export.model import CaffeModel
from caffecompat.export.targets.base import Target, targets
from caffecompat.output_files import atomic_write

DAG_NAMES = {
    CONV: "dagnn.Conv",
    POOL: "dagnn.Pooling",
    RELU: "dagnn.ReLU",
    SIGMOID: "dagnn.Sigmoid",
    SOFTMAX: "dagnn.SoftMax",
    LRN: "dagnn.LRN",
    BNORM: "dagnn.BatchNorm",
    DROPOUT: "dagnn.DropOut",
    CONCAT: "dagnn.Concat",
    SUM: "dagnn.Sum",
    CONVT: "dagnn.ConvTranspose",
    CROP: "dagnn.Crop",
    ROIPOOL: "dagnn.ROIPooling",
}
# DagNN's endings of the names of parameters.
ENDINGS = {CONV: "fb", CONVT: "fb", BNORM: "mbx"}


class _MatConvNet(Target):
    engine = "matconvnet"
    holds_preprocessing = True

    def refuse(self, model: CaffeModel) -> None:
        _scipy()
        from_caffe(model)

    def write(self, model: CaffeModel, path: Path) -> None:
        savemat = _scipy()
        net = from_caffe(model)
        content = self.content(net)
        content["meta"] = _meta(net, model.preprocessing)
        with atomic_write(path) as file:
            savemat(file, content, oned_as="row", long_field_names=True)

    def content(self, net: MatNet) -> dict[str, Any]:
        """The variables of the file, without ``meta``."""
        return _simple(net) if _is_chain(net) else _dag(net)

    def loading_lines(self, model: CaffeModel, path: Path) -> list[str]:
        dag = "params" in self.content(from_caffe(model))
        function = "dagnn.DagNN.loadobj" if dag else "vl_simplenn_tidy"
        # In MATLAB a quote inside of a text is written twice.
        quoted = str(path).replace("'", "''")
        return ["in MatConvNet:", f"  net = {function}(load('{quoted}'));"]


@targets.register("matconvnet")
class MatConvNet(_MatConvNet):
    """``.mat``: SimpleNN where the net is a chain, else DagNN."""

    suffixes = (".mat",)


@targets.register("matconvnet-dagnn")
class MatConvNetDag(_MatConvNet):
    """DagNN for every net, selected by this name."""

    def content(self, net: MatNet) -> dict[str, Any]:
        return _dag(net)


def _scipy() -> Any:
    with needing_extra("writing a .mat", "matlab"):
        from scipy.io import savemat
    return savemat


def _is_chain(net: MatNet) -> bool:
    before = [net.input, *(layer.outputs[0] for layer in net.layers)]
    return all(layer.inputs == [name] for layer, name in zip(net.layers, before, strict=False))


def _simple(net: MatNet) -> dict[str, Any]:
    layers = np.empty((1, len(net.layers)), object)
    for index, layer in enumerate(net.layers):
        struct: dict[str, Any] = {"type": layer.type, "name": layer.name, "precious": False}
        struct |= {key: _value(value) for key, value in layer.settings.items()}
        if layer.arrays:
            struct["weights"] = _cell(_matlab(array) for array in layer.arrays)
        if layer.type == CONV:
            struct["size"] = _value(layer.arrays[0].shape)
        layers[0, index] = struct
    return {"layers": layers}


def _dag(net: MatNet) -> dict[str, Any]:
    variables = (name for x in net.layers for name in (*x.inputs, *x.outputs))
    names = dict.fromkeys([net.input, *variables])
    params = []
    layers = []
    for layer in net.layers:
        endings = ENDINGS.get(layer.type, "")
        used = [
            (layer.name + end, array) for end, array in zip(endings, layer.arrays, strict=False)
        ]
        used = [(name, array) for name, array in used if array.size]
        params += [
            {"name": name, "value": _matlab(array), "learningRate": 1.0, "weightDecay": 1.0}
            for name, array in used
        ]
        layers.append(
            {
                "name": layer.name,
                "type": DAG_NAMES[layer.type],
                "inputs": _cell(layer.inputs),
                "outputs": _cell(layer.outputs),
                "params": _cell(name for name, _ in used),
                "block": _block(layer),
            }
        )
    return {
        "vars": _structs([{"name": name, "precious": False} for name in names]),
        "params": _structs(params),
        "layers": _structs(layers),
    }


def _block(layer: MatLayer) -> dict[str, Any]:
    block = {key: _value(value) for key, value in layer.settings.items()}
    if layer.type == POOL:
        block["poolSize"] = block.pop("pool")
    elif layer.type in (CONV, CONVT):
        block["size"] = _value(layer.arrays[0].shape)
        block["hasBias"] = bool(layer.arrays[1].size)
    elif layer.type == BNORM:
        block["numChannels"] = float(layer.arrays[0].size)
    return block


def _meta(net: MatNet, preprocessing: Preprocessing | None) -> dict[str, Any]:
    size = np.array(net.size, np.float64)
    meta: dict[str, Any] = {"inputs": {"name": net.input, "size": size}}
    if preprocessing is None:
        return meta
    mean = preprocessing.mean
    if len(mean) == 1:
        mean *= net.size[2]
    if preprocessing.channel_order == "BGR":
        mean = mean[::-1]
    crop = preprocessing.crop or net.size[:2]
    resize = preprocessing.resize or crop
    sides = (resize, resize) if isinstance(resize, int) else resize
    meta["normalization"] = {
        "imageSize": size,
        "averageImage": np.array(mean, np.float32).reshape(1, 1, -1),
        "interpolation": preprocessing.interpolation,
        "keepAspect": isinstance(preprocessing.resize, int),
        "border": np.array([side - c for side, c in zip(sides, crop, strict=True)], np.float64),
    }
    labels = _cell(preprocessing.labels)
    meta["classes"] = {"name": labels, "description": labels}
    return meta


def _cell(values: Any) -> np.ndarray:
    items = list(values)
    cell = np.empty((1, len(items)), object)
    cell[0, :] = items
    return cell


def _structs(rows: list[dict[str, Any]]) -> np.ndarray:
    """A struct array of one row."""
    fields = [(key, object) for key in rows[0]] if rows else [("name", object)]
    array = np.empty((1, len(rows)), fields)
    for index, row in enumerate(rows):
        for key, value in row.items():
            array[key][0, index] = value
    return array


def _value(value: Any) -> Any:
    return np.array(value, np.float64) if isinstance(value, tuple) else value


def _matlab(array: np.ndarray) -> np.ndarray:
    """An array of single precision; vectors are columns, as MatConvNet's own."""
    values = np.asarray(array, np.float32)
    return values.reshape(-1, 1) if values.ndim == 1 else values
