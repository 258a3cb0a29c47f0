"""A MatConvNet net as a Caffe model: definition, weights and preprocessing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.errors import ExportError
from caffecompat.export.matconvnet.layers import (
    BNORM,
    CONCAT,
    CONV,
    CONVT,
    CROP,
    DROPOUT,
    LOSS,
    LRN,
    POOL,
    RELU,
    ROIPOOL,
    SIGMOID,
    SOFTMAX,
    SUM,
    MatLayer,
)
from caffecompat.export.matconvnet.meta import COLOURS, input_shape, preprocessing_of, read_meta
from caffecompat.export.model import CaffeModel
from caffecompat.export.windows import set_windows
from caffecompat.layers._pooling_windows import Windows
from caffecompat.net.definition import read_definition
from caffecompat.proto.input_layers import input_layer
from caffecompat.proto.schema import new
from caffecompat.weights import LayerWeights, Weights
from caffecompat.weights.weights import as_float32

Shape = tuple[int, int, int]
FILTER_AXES = 4
CROP_INPUTS = 2
REGION_VALUES = 5


def to_caffe(layers: list[MatLayer], variables: dict[str, Any], path: Path) -> CaffeModel:
    """The net as Caffe has it, for B, G, R images where its first layer is a convolution.

    Raises:
        ExportError: layers that Caffe does not have, all named.
        FormatError: sizes that do not fit each other.
    """
    meta = read_meta(variables)
    build = _Build(layers, path, input_shape(meta, layers, path))
    for layer in layers:
        build.add(layer)
    if build.problems:
        raise ExportError("\n".join(build.problems))
    message = build.message
    preprocessing = preprocessing_of(meta, build.swapped)
    weights = Weights(build.weights, message.name, str(path), "matconvnet")
    return CaffeModel(read_definition(message), weights, preprocessing, str(path))


class _Build:
    """The net while its layers are added.

    Attributes:
        message: the NetParameter.
        weights: the layers' arrays.
        problems: sentences about layers that cannot be written.
        swapped: whether the first convolution was turned from R, G, B to B, G, R.
    """

    def __init__(self, layers: list[MatLayer], path: Path, size: Shape) -> None:
        self.path = path
        self.message = new("NetParameter")
        self.message.name = path.stem
        self.weights: list[LayerWeights] = []
        self.problems: list[str] = []
        self.swapped = False
        self.read = Counter(name for layer in layers for name in layer.inputs)
        made = {name for layer in layers for name in layer.outputs}
        # A label that only a loss reads is no input of the deployed net.
        data = [n for x in layers if x.type != LOSS for n in x.inputs if n not in made]
        self.inputs = list(dict.fromkeys(data))
        # The blob and the shape (C, H, W) of each variable.
        self.blobs: dict[str, str] = {}
        self.shapes: dict[str, Shape] = {}
        regions = {x.inputs[1] for x in layers if x.type == ROIPOOL and len(x.inputs) > 1}
        for index, name in enumerate(self.inputs):
            blob = "data" if index == 0 and name not in regions else name
            shape = (REGION_VALUES,) if name in regions else size
            self.message.layer.append(input_layer(blob, (1, *shape)))
            self.blobs[name] = blob
            self.shapes[name] = (REGION_VALUES, 1, 1) if name in regions else size

    def add(self, layer: MatLayer) -> None:
        if layer.type == LOSS:
            return
        if any(name not in self.shapes for name in layer.inputs) or not layer.inputs:
            self.problems.append(f"{self.who(layer)} reads what no layer before it gives")
            return
        if not layer.outputs:
            self.problems.append(f"{self.who(layer)} gives nothing")
            return
        write = _WRITERS.get(layer.type)
        if write is None:
            self.problems.append(f"{self.who(layer)}: Caffe has no such layer, or it is not mapped")
            # The layers after it are examined too, with the shape of its input.
            shape: Shape | str = self.shapes[layer.inputs[0]]
        else:
            shape = write(self, layer)
        if isinstance(shape, str):
            self.problems.append(f"{self.who(layer)}: {shape}")
            shape = self.shapes[layer.inputs[0]]
        for name in layer.outputs:
            self.shapes[name] = shape
            self.blobs.setdefault(name, layer.name)

    def layer(self, layer: MatLayer, kind: str, in_place: bool = False) -> Any:
        """A new layer of the definition, with the wiring of ``layer``."""
        bottoms = [self.blobs[name] for name in layer.inputs]
        alone = self.read[layer.inputs[0]] == 1 and layer.inputs[0] not in self.inputs
        top = bottoms[0] if in_place and alone else layer.name
        self.blobs[layer.outputs[0]] = top
        return self.message.layer.add(name=layer.name, type=kind, bottom=bottoms, top=[top])

    def who(self, layer: MatLayer) -> str:
        return f"{self.path}: layer {layer.name!r} ({layer.type})"


def _conv(build: _Build, layer: MatLayer) -> Shape | str:
    if not layer.arrays or not layer.arrays[0].size or layer.arrays[0].ndim > FILTER_AXES:
        return "it has no filters of four axes"
    filters = layer.arrays[0]
    # MATLAB drops extents of 1 at the end.
    height, width, depth, outputs = (*filters.shape, 1, 1)[:FILTER_AXES]
    filters = filters.reshape(height, width, depth, outputs)
    shape = build.shapes[layer.inputs[0]]
    top, bottom, left, right = layer.settings["pad"]
    (stride_y, stride_x), (dilate_y, dilate_x) = layer.settings["stride"], layer.settings["dilate"]
    if (top, left) != (bottom, right):
        return "its padding differs between two sides, which Caffe's convolution has not"
    if depth == 0 or shape[0] % depth or outputs % max(1, shape[0] // depth):
        return f"its filters take {depth} channels, but it reads {shape[0]}"
    p = build.layer(layer, "Convolution").convolution_param
    p.num_output, p.group = outputs, shape[0] // depth
    biases = [array.reshape(-1) for array in layer.arrays[1:2] if array.size]
    p.bias_term = bool(biases)
    set_windows(p, (height, width), (stride_y, stride_x), (top, left))
    if (dilate_y, dilate_x) != (1, 1):
        p.dilation.extend([dilate_y, dilate_x])
    blob = filters.transpose(3, 2, 0, 1)
    if layer.inputs[0] in build.inputs and depth == COLOURS:
        blob, build.swapped = blob[:, ::-1], True
    blobs = [np.ascontiguousarray(blob), *biases]
    build.weights.append(LayerWeights(layer.name, "Convolution", blobs))
    extent = (dilate_y * (height - 1) + 1, dilate_x * (width - 1) + 1)
    return _checked(
        outputs, _floor(shape, extent, (stride_y, stride_x), (top, bottom, left, right))
    )


def _convt(build: _Build, layer: MatLayer) -> Shape | str:
    if not layer.arrays or not layer.arrays[0].size or layer.arrays[0].ndim > FILTER_AXES:
        return "it has no filters of four axes"
    # MATLAB drops extents of 1 at the end.
    height, width, outputs, depth = (*layer.arrays[0].shape, 1, 1)[:FILTER_AXES]
    filters = layer.arrays[0].reshape(height, width, outputs, depth)
    shape, groups = build.shapes[layer.inputs[0]], layer.settings["numGroups"]
    top, bottom, left, right = layer.settings["crop"]
    if (top, left) != (bottom, right):
        return "it crops two sides differently, which Caffe's deconvolution does not"
    if depth != shape[0] or not groups or depth % groups:
        return f"its filters take {depth} channels in {groups} groups, but it reads {shape[0]}"
    p = build.layer(layer, "Deconvolution").convolution_param
    p.num_output, p.group = outputs * groups, groups
    biases = [array.reshape(-1) for array in layer.arrays[1:2] if array.size]
    p.bias_term = bool(biases)
    stride = layer.settings["upsample"]
    set_windows(p, (height, width), stride, (top, left))
    blob = filters.transpose(3, 2, 0, 1)
    if layer.inputs[0] in build.inputs and depth == COLOURS and groups == 1:
        blob, build.swapped = blob[::-1], True
    blobs = [np.ascontiguousarray(blob), *biases]
    build.weights.append(LayerWeights(layer.name, "Deconvolution", blobs))
    size = (
        stride[0] * (shape[1] - 1) + height - top - bottom,
        stride[1] * (shape[2] - 1) + width - left - right,
    )
    return _checked(outputs * groups, size)


def _crop(build: _Build, layer: MatLayer) -> Shape | str:
    if len(layer.inputs) != CROP_INPUTS:
        return "it has no second input that says to what size it crops"
    shape, wanted = (build.shapes[name] for name in layer.inputs)
    spare = [have - want for have, want in zip(shape[1:], wanted[1:], strict=True)]
    if min(spare) < 0:
        return f"it crops {shape[1]} x {shape[2]} to {wanted[1]} x {wanted[2]}"
    # MatConvNet crops less where the input is not that large.
    offset = [min(crop, rest) for crop, rest in zip(layer.settings["crop"], spare, strict=True)]
    p = build.layer(layer, "Crop").crop_param
    p.axis = 2
    p.offset.extend(offset if len(set(offset)) > 1 else offset[:1])
    return shape[0], *wanted[1:]


def _roipool(build: _Build, layer: MatLayer) -> Shape | str:
    if len(layer.inputs) != CROP_INPUTS:
        return "its regions are no input of the net, as they are in DagNN"
    if layer.settings["method"] != "max" or layer.settings["flatten"]:
        return "only regions pooled by their maxima, and not flattened, are read"
    scale = _scale_of(layer.settings["transform"])
    if scale is None:
        return "its transform is no scaling of both axes by one factor"
    p = build.layer(layer, "ROIPooling").roi_pooling_param
    p.pooled_h, p.pooled_w = layer.settings["subdivisions"]
    p.spatial_scale = scale
    return _checked(build.shapes[layer.inputs[0]][0], layer.settings["subdivisions"])


def _scale_of(transform: tuple[float, ...]) -> float | None:
    """The factor of a scaling about the first pixel, which is 1 in MATLAB and 0 in Caffe.

    A transform is the factor, one for each axis, or a 2 x 3 matrix, column by column.
    """
    scale = transform[0] if transform else 0.0
    around = 1 - scale
    same = ((scale,), (scale, scale), (scale, 0.0, 0.0, scale, around, around))
    return (
        scale
        if scale > 0 and any(np.allclose(transform, t) for t in same if len(t) == len(transform))
        else None
    )


def _pool(build: _Build, layer: MatLayer) -> Shape | str:
    shape = build.shapes[layer.inputs[0]]
    kernel, stride, pad = (layer.settings[key] for key in ("pool", "stride", "pad"))
    top, bottom, left, right = pad
    wanted = _floor(shape, kernel, stride, pad)
    if layer.settings["method"] == "avg" and (top or left):
        return "its average leaves out the padding, Caffe's counts it"
    p = build.layer(layer, "Pooling").pooling_param
    p.pool = p.AVE if layer.settings["method"] == "avg" else p.MAX
    set_windows(p, kernel, stride, (top, left))
    steps = (max(1, stride[0]), max(1, stride[1]))
    if wanted != Windows(shape[1:], kernel, steps, (top, left)).count:
        if (top, left) != (bottom, right):
            return "no rounding of Caffe's gives its windows; it has padding on one side only"
        p.round_mode = p.FLOOR
    return _checked(shape[0], wanted)


def _checked(channels: int, size: tuple[int, int]) -> Shape | str:
    return (channels, *size) if min(size) > 0 else "the image is too small for it"


def _floor(
    shape: Shape, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, ...]
) -> tuple[int, int]:
    height = (shape[1] + pad[0] + pad[1] - kernel[0]) // max(1, stride[0]) + 1
    width = (shape[2] + pad[2] + pad[3] - kernel[1]) // max(1, stride[1]) + 1
    return height, width


def _relu(build: _Build, layer: MatLayer) -> Shape:
    message = build.layer(layer, "ReLU", in_place=True)
    if layer.settings["leak"]:
        message.relu_param.negative_slope = layer.settings["leak"]
    return build.shapes[layer.inputs[0]]


def _lrn(build: _Build, layer: MatLayer) -> Shape | str:
    size, kappa, alpha, beta = layer.settings["param"]
    if size != int(size) or int(size) % 2 == 0:
        return f"its window of {size:g} channels is even, which Caffe does not have"
    p = build.layer(layer, "LRN").lrn_param
    # Caffe divides alpha by the size of the window.
    p.local_size, p.k, p.alpha, p.beta = int(size), kappa, alpha * size, beta
    return build.shapes[layer.inputs[0]]


def _bnorm(build: _Build, layer: MatLayer) -> Shape | str:
    channels = build.shapes[layer.inputs[0]][0]
    if len(layer.arrays) != 3 or [a.size for a in layer.arrays] != [
        channels,
        channels,
        2 * channels,
    ]:
        return f"it has no multiplier, bias and moments for {channels} channels"
    multiplier, bias, moments = layer.arrays
    eps = layer.settings["epsilon"]
    message = build.layer(layer, "BatchNorm")
    message.batch_norm_param.eps = eps
    top = build.blobs[layer.outputs[0]]
    scale = build.message.layer.add(
        name=f"{layer.name}_scale", type="Scale", bottom=[top], top=[top]
    )
    scale.scale_param.bias_term = True
    with np.errstate(invalid="ignore", over="ignore"):
        pairs = moments.reshape(channels, 2).astype(np.float64)
        variance = as_float32(np.maximum(pairs[:, 1] ** 2 - eps, 0))
        statistics = [as_float32(pairs[:, 0]), variance, np.ones(1, np.float32)]
    build.weights.append(LayerWeights(layer.name, "BatchNorm", statistics))
    blobs = [multiplier.reshape(-1), bias.reshape(-1)]
    build.weights.append(LayerWeights(f"{layer.name}_scale", "Scale", blobs))
    return build.shapes[layer.inputs[0]]


def _dropout(build: _Build, layer: MatLayer) -> Shape:
    message = build.layer(layer, "Dropout", in_place=True)
    message.dropout_param.dropout_ratio = layer.settings["rate"]
    return build.shapes[layer.inputs[0]]


def _concat(build: _Build, layer: MatLayer) -> Shape | str:
    # MATLAB's arrays are H x W x C x N, counted from 1.
    axis = {1: 2, 2: 3, 3: 1}.get(layer.settings["dim"])
    if axis is None:
        return f"it joins along dim {layer.settings['dim']}; 1 to 3 are read"
    message = build.layer(layer, "Concat")
    if axis != 1:
        message.concat_param.axis = axis
    shapes = [build.shapes[name] for name in layer.inputs]
    channels, height, width = shapes[0]
    whole = [channels, height, width]
    whole[axis - 1] = sum(shape[axis - 1] for shape in shapes)
    return whole[0], whole[1], whole[2]


def _same(kind: str) -> Callable[[_Build, MatLayer], Shape]:
    def write(build: _Build, layer: MatLayer) -> Shape:
        build.layer(layer, kind)
        return build.shapes[layer.inputs[0]]

    return write


_WRITERS: dict[str, Callable[[_Build, MatLayer], Shape | str]] = {
    CONV: _conv,
    CONVT: _convt,
    CROP: _crop,
    ROIPOOL: _roipool,
    POOL: _pool,
    RELU: _relu,
    LRN: _lrn,
    BNORM: _bnorm,
    DROPOUT: _dropout,
    CONCAT: _concat,
    SIGMOID: _same("Sigmoid"),
    SOFTMAX: _same("Softmax"),
    SUM: _same("Eltwise"),
}
