"""A Caffe model as MatConvNet's layers and meta."""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import prod
from typing import Any

import numpy as np

from caffecompat.errors import ExportError
from caffecompat.export.fork_settings import unwritten_settings
from caffecompat.export.free_names import free_name
from caffecompat.export.inputs.region_inputs import region_inputs
from caffecompat.export.matconvnet.image_input import ImageInput
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
from caffecompat.export.outputs import output_flags
from caffecompat.net import Net
from caffecompat.net.setup.build import BuiltLayer
from caffecompat.weights.array_names import current_blobs

IMAGE_AXES = 4
# What Flatten makes of a map stays a map in MatConvNet: these layers do the same with it.
_ON_ANY_SHAPE = ("Split", "Flatten", "ReLU", "Sigmoid", "Dropout")


# Of a convolution without padding and stride.
_PLAIN = {"pad": (0,) * 4, "stride": (1, 1), "dilate": (1, 1)}


def from_caffe(model: CaffeModel) -> MatNet:
    """The model's layers as MatConvNet has them, for R, G, B images.

    A fully connected layer becomes a convolution over its whole map, Scale goes into the BatchNorm
    before it, and the first convolution of a net for B, G, R images is turned. A convolution of 1x1
    does that for other first layers, and multiplies by the scale of the preprocessing, which
    MatConvNet has not.

    Raises:
        NetError: the net cannot be built.
        ExportError: MatConvNet has no such layer; all are named.
    """
    net = Net(model.definition, shapes_only=True)
    writer = _Writer(model, region_inputs(net))
    for built in net.layers:
        writer.add(built)
    if writer.problems:
        lines = list(writer.problems.values())
        if flags := output_flags(net.graph, writer.problems):
            lines.append(f"{model.path}: without them the net is converted with {flags}")
        raise ExportError("\n".join(lines))
    return writer.net


class _Writer:
    def __init__(self, model: CaffeModel, regions: Collection[str]) -> None:
        self.model = model
        self.regions = regions
        self.net = MatNet()
        # Why layers cannot be written, by their names.
        self.problems: dict[str, str] = {}
        # The variable and the shape of each value of a blob, as MatConvNet and as Caffe has it.
        self.variables: dict[Any, str] = {}
        self.shapes: dict[Any, tuple[int, ...]] = {}
        self._own_shapes: dict[Any, tuple[int, ...]] = {}
        self.image = ImageInput(model.preprocessing)
        # The variable of the image as the net takes it, once it is made.
        self._prepared = ""
        self._names: set[str] = set()
        # The last BatchNorm that no Scale has joined, by its top.
        self._norms: dict[Any, MatLayer] = {}

    def add(self, built: BuiltLayer) -> None:
        for top, shape in zip(built.tops, built.shapes, strict=True):
            self._own_shapes[top] = tuple(shape)
            on_any_shape = built.type in _ON_ANY_SHAPE
            self.shapes[top] = self.shapes[built.bottoms[0]] if on_any_shape else tuple(shape)
            # MatConvNet has no layers in place; Caffe's importer there appends an x, too.
            wanted = str(top).replace("'", "x")
            self.variables[top] = free_name(wanted, self.variables.values())
        if built.type in ("Split", "Flatten"):
            for top in built.tops:
                self.variables[top] = self.variables[built.bottoms[0]]
        elif not built.bottoms:
            self._input(built)
        elif built.type == "Scale" and self._joins_norm(built):
            self.variables[built.tops[0]] = self.variables[built.bottoms[0]]
        elif built.type == "Scale":
            self.refuse(built, "MatConvNet has it only within a BatchNorm that nothing else reads")
        elif built.type not in (*_ON_ANY_SHAPE, "InnerProduct") and self._reads_flat_map(built):
            self.refuse(
                built, "it reads what Flatten makes of a map, which stays one in MatConvNet"
            )
        elif fields := unwritten_settings(built):
            self.refuse(built, f"MatConvNet has no such settings: {fields}")
        elif built.type not in _WRITERS:
            self.refuse(built, "MatConvNet has no such layer, or it is not mapped")
        else:
            try:
                _WRITERS[built.type](self, built)
            except ExportError as error:
                self.refuse(built, str(error))

    def layer(
        self,
        built: BuiltLayer,
        kind: str,
        settings: dict[str, Any],
        arrays: list[np.ndarray] | None = None,
        turned: bool = False,
    ) -> MatLayer:
        """Adds a layer.

        Args:
            turned: its filters take the image as MatConvNet has it.
        """
        inputs = [self.variables[bottom] for bottom in built.bottoms]
        if not turned:
            # Made before the layer that reads it.
            prepared = self._image_as_the_net_takes_it() if self.reads_image(built) else ""
            inputs = [prepared if name == self.image.variable else name for name in inputs]
        outputs = [self.variables[top] for top in built.tops[:1]]
        name = self._new_name(built.name.replace("-", "_"))
        self.net.layers.append(MatLayer(name, kind, inputs, outputs, settings, arrays or []))
        return self.net.layers[-1]

    def _new_name(self, wanted: str) -> str:
        name = free_name(wanted, self._names)
        self._names.add(name)
        return name

    def _image_as_the_net_takes_it(self) -> str:
        """Its variable, that of a convolution of 1x1 where it is not MatConvNet's."""
        if self.image.fits:
            return self.image.variable
        if not self._prepared:
            self._prepared = free_name("image", self.variables.values())
            arrays = [self.image.filters(), np.zeros(0, np.float32)]
            ends = [self.image.variable], [self._prepared]
            self.net.layers.append(MatLayer(self._new_name("image"), CONV, *ends, _PLAIN, arrays))
        return self._prepared

    def _reads_flat_map(self, built: BuiltLayer) -> bool:
        """Whether a bottom has height and width in MatConvNet that it has not in Caffe."""
        return any(
            prod(self.shapes[bottom][2:]) > 1
            and len(self.shapes[bottom]) != len(self._own_shapes[bottom])
            for bottom in built.bottoms
        )

    def blobs(self, built: BuiltLayer) -> list[np.ndarray]:
        weights = self.model.weights
        if built.name not in weights or not weights[built.name].blobs:
            raise ExportError("it has no weights")
        return current_blobs(weights[built.name])

    def refuse(self, built: BuiltLayer, why: str) -> None:
        who = f"{self.model.path}: layer {built.name!r} ({built.type})"
        self.problems[built.name] = f"{who}: {why}"

    def reads_image(self, built: BuiltLayer) -> bool:
        return self.image.variable in [self.variables[bottom] for bottom in built.bottoms]

    def turns(self, built: BuiltLayer, channels: int) -> bool:
        """Whether a layer's input channels are turned, since it reads a B, G, R image."""
        return self.reads_image(built) and self.image.can_turn(channels)

    def _input(self, built: BuiltLayer) -> None:
        if built.tops and built.tops[0].blob in self.regions:
            return
        shape = tuple(built.shapes[0]) if built.shapes else ()
        if len(shape) != IMAGE_AXES or self.image.size != (0, 0, 0):
            self.refuse(built, "MatConvNet's nets take one image")
            return
        self.image.size = self.net.size = (shape[2], shape[3], shape[1])
        self.image.variable = self.net.input = self.variables[built.tops[0]]

    def _joins_norm(self, built: BuiltLayer) -> bool:
        """Puts a Scale of channels into the BatchNorm that it alone reads."""
        norm = self._norms.get(built.bottoms[0])
        layer: Any = built.layer
        if norm is None or len(built.bottoms) != 1:
            return False
        if (
            layer.first != 1
            or len(layer.specs[0].shape) != 1
            or built.name not in self.model.weights
        ):
            return False
        blobs = [blob.reshape(-1) for blob in self.blobs(built)]
        norm.arrays[: len(blobs)] = blobs
        return True

    def add_norm(self, built: BuiltLayer, eps: float, arrays: list[np.ndarray]) -> None:
        """Adds a BatchNorm, which a Scale may join."""
        self._norms[built.tops[0]] = self.layer(built, BNORM, {"epsilon": eps}, arrays)


def _convolution(writer: _Writer, built: BuiltLayer) -> None:
    layer: Any = built.layer
    if len(built.bottoms) != 1 or layer.geometry.axes != 2:
        raise ExportError("MatConvNet's convolution takes one image")
    (y, x) = layer.geometry.pad
    filters, *bias = writer.blobs(built)
    settings = {
        "pad": (y, y, x, x),
        "stride": layer.geometry.stride,
        "dilate": layer.geometry.dilation,
    }
    _add_conv(writer, built, filters.reshape(layer.specs[0].shape), bias, settings)


def _deconvolution(writer: _Writer, built: BuiltLayer) -> None:
    layer: Any = built.layer
    if len(built.bottoms) != 1 or layer.geometry.axes != 2:
        raise ExportError("MatConvNet's transposed convolution takes one image")
    if set(layer.geometry.dilation) != {1}:
        raise ExportError("MatConvNet's transposed convolution has no dilation")
    (y, x) = layer.geometry.pad
    filters, *bias = writer.blobs(built)
    filters = filters.reshape(layer.specs[0].shape)
    turned = writer.turns(built, filters.shape[0]) and layer.group == 1
    if turned:
        filters = filters[::-1]
    settings = {
        "upsample": layer.geometry.stride,
        "crop": (y, y, x, x),
        "numGroups": float(layer.group),
    }
    biases = bias[0] if bias else np.zeros(0, np.float32)
    writer.layer(built, CONVT, settings, [filters.transpose(2, 3, 1, 0), biases], turned)


def _crop(writer: _Writer, built: BuiltLayer) -> None:
    layer: Any = built.layer
    shape = writer.shapes[built.bottoms[0]]
    offsets = dict(enumerate(layer.offsets, layer.first))
    kept = [a for a in offsets if a < 2 and (offsets[a] or built.shapes[0][a] != shape[a])]
    if len(shape) != IMAGE_AXES or kept:
        raise ExportError("MatConvNet crops height and width only")
    if layer.first > 2 and writer.shapes[built.bottoms[1]][2] != shape[2]:
        raise ExportError("MatConvNet crops height and width, not one of them")
    writer.layer(built, CROP, {"crop": (offsets.get(2, 0), offsets[3])})


def _roi_pooling(writer: _Writer, built: BuiltLayer) -> None:
    layer: Any = built.layer
    settings = {
        "method": "max",
        "subdivisions": layer.bins,
        "transform": layer.spatial_scale,
        "flatten": False,
    }
    writer.layer(built, ROIPOOL, settings)


def _inner_product(writer: _Writer, built: BuiltLayer) -> None:
    layer: Any = built.layer
    shape = writer.shapes[built.bottoms[0]]
    if layer.transpose or layer.first != 1:
        raise ExportError("it is transposed or reads other axes than all but the first")
    filters, *bias = writer.blobs(built)
    whole = (*shape, 1, 1)[1:4]
    filters = filters.reshape(len(filters.reshape(layer.specs[0].shape)), *whole)
    _add_conv(writer, built, filters, bias, _PLAIN)


def _add_conv(
    writer: _Writer,
    built: BuiltLayer,
    filters: np.ndarray,
    bias: list[np.ndarray],
    settings: dict[str, Any],
) -> None:
    turned = writer.turns(built, filters.shape[1])
    if turned:
        filters = filters[:, ::-1]
    biases = bias[0] if bias else np.zeros(0, np.float32)
    writer.layer(built, CONV, settings, [filters.transpose(2, 3, 1, 0), biases], turned)


def _pooling(writer: _Writer, built: BuiltLayer) -> None:
    layer: Any = built.layer
    size, out = writer.shapes[built.bottoms[0]][2:], built.shapes[0][2:]
    kernel = size if layer.kernel is None else layer.kernel
    if layer.method not in ("MAX", "AVE"):
        raise ExportError(f"MatConvNet has no pooling of method {layer.method}")
    if layer.method == "AVE" and any(layer.pad):
        raise ExportError("Caffe's average counts the padding, MatConvNet's leaves it out")
    # MatConvNet rounds down, so what Caffe's rounding adds becomes padding at the end.
    after = [
        max(0, (count - 1) * stride + k - extent - pad)
        for count, stride, k, extent, pad in zip(
            out, layer.stride, kernel, size, layer.pad, strict=True
        )
    ]
    (y, x), method = layer.pad, "avg" if layer.method == "AVE" else "max"
    pad = (y, after[0], x, after[1])
    settings = {"method": method, "pool": tuple(kernel), "stride": layer.stride, "pad": pad}
    writer.layer(built, POOL, settings)


def _batch_norm(writer: _Writer, built: BuiltLayer) -> None:
    layer: Any = built.layer
    if not layer.use_statistics:
        raise ExportError("it takes its statistics from the batch, MatConvNet's are stored")
    mean, variance, factor = (blob.astype(np.float64).reshape(-1) for blob in writer.blobs(built))
    inverse = 1 / factor[0] if factor[0] else 0.0
    deviation = np.sqrt(variance * inverse + layer.eps)
    moments = np.stack([mean * inverse, deviation], axis=1).astype(np.float32)
    ones = np.ones(len(mean), np.float32)
    writer.add_norm(built, float(layer.eps), [ones, ones * 0, moments])


def _lrn(writer: _Writer, built: BuiltLayer) -> None:
    p = built.node.message.lrn_param
    if p.norm_region != p.ACROSS_CHANNELS:
        raise ExportError("MatConvNet has LRN across channels only")
    param = (float(p.local_size), float(p.k), float(p.alpha) / p.local_size, float(p.beta))
    writer.layer(built, LRN, {"param": param})


def _relu(writer: _Writer, built: BuiltLayer) -> None:
    slope = float(built.node.message.relu_param.negative_slope)
    writer.layer(built, RELU, {"leak": slope})


def _dropout(writer: _Writer, built: BuiltLayer) -> None:
    rate = float(built.node.message.dropout_param.dropout_ratio)
    writer.layer(built, DROPOUT, {"rate": rate})


def _concat(writer: _Writer, built: BuiltLayer) -> None:
    channels = sum(writer.shapes[bottom][1] for bottom in built.bottoms)
    if channels != built.shapes[0][1]:
        raise ExportError("MatConvNet's nets are joined along channels")
    writer.layer(built, CONCAT, {"dim": 3})


def _eltwise(writer: _Writer, built: BuiltLayer) -> None:
    layer: Any = built.layer
    if layer.operation != "SUM" or set(layer.coefficients) != {1.0} or layer.one_sample:
        raise ExportError("MatConvNet has sums without coefficients only")
    writer.layer(built, SUM, {})


def _softmax(writer: _Writer, built: BuiltLayer) -> None:
    layer: Any = built.layer
    if layer.along != 1:
        raise ExportError("MatConvNet's softmax is along channels")
    writer.layer(built, SOFTMAX, {})


def _plain(kind: str) -> Callable[[_Writer, BuiltLayer], None]:
    def write(writer: _Writer, built: BuiltLayer) -> None:
        writer.layer(built, kind, {})

    return write


_WRITERS: dict[str, Callable[[_Writer, BuiltLayer], None]] = {
    "BatchNorm": _batch_norm,
    "Concat": _concat,
    "Convolution": _convolution,
    "Crop": _crop,
    "Deconvolution": _deconvolution,
    "Dropout": _dropout,
    "Eltwise": _eltwise,
    "InnerProduct": _inner_product,
    "LRN": _lrn,
    "Pooling": _pooling,
    "ROIPooling": _roi_pooling,
    "ReLU": _relu,
    "Sigmoid": _plain(SIGMOID),
    "Softmax": _softmax,
}
