"""InnerProduct layers as convolutions, so that a net takes images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from caffecompat.errors import ExportError
from caffecompat.export.graph_pass import graph_passes
from caffecompat.export.model import CaffeModel
from caffecompat.export.wiring import Step, Wiring, net_of, renamed_places
from caffecompat.graph import Version
from caffecompat.layers import Shape, catalogue
from caffecompat.net import Net
from caffecompat.reporting.units import format_shape
from caffecompat.weights import LayerWeights, Weights

HELP = "turn InnerProduct layers into convolutions; the net then takes images of any size"

# Work along or across the channels; the setting that has the axis, if there is one.
CHANNELWISE = {
    "Accuracy": "accuracy_param",
    "ArgMax": "argmax_param",
    "BatchNorm": "",
    "Bias": "bias_param",
    "Concat": "concat_param",
    "EuclideanLoss": "",
    "HingeLoss": "",
    "MultinomialLogisticLoss": "",
    "PReLU": "",
    "Scale": "scale_param",
    "SigmoidCrossEntropyLoss": "",
    "Slice": "slice_param",
    "Softmax": "softmax_param",
    "SoftmaxWithLoss": "softmax_param",
}
KEEP_MAPS = {"ArgMax", "BatchNorm", "Bias", "Concat", "PReLU", "Scale", "Slice", "Softmax"}
INNER_PRODUCT, CONVOLUTION = "InnerProduct", "Convolution"


@graph_passes.register("fully-convolutional")
def apply(model: CaffeModel) -> CaffeModel:
    return fully_convolutional(model)


def fully_convolutional(model: CaffeModel, suffix: str = "") -> CaffeModel:
    """The model with a Convolution for each InnerProduct layer.

    A layer over (N, C, H, W) gets a kernel of H x W; those after it get 1 x 1. Flatten layers
    between are removed. At the input size of the definition the outputs have the same values, up to
    rounding, with two axes of extent 1 at their end; on a larger image there is one output for each
    place of the kernel. Layers keep their names, to which ``suffix`` is added for those that are
    converted ("-conv" is usual; then a weight file of the old net does not load into the new one by
    mistake). The result has the layers of phase TEST. Weights are views of those of ``model``, a
    transposed weight is a copy.

    Raises:
        ExportError: names all layers that cannot be converted, or cannot work on maps.
        NetError, WeightsError: the net cannot be built, or the weights do not fit.
    """
    net = Net(model.definition, shapes_only=True)
    if model.weights.layers:
        net.load_weights(model.weights)
    conversion = _Conversion(net, suffix)
    conversion.run()
    if conversion.problems:
        who = f"{model.path or 'the net'} cannot become fully convolutional:"
        raise ExportError("\n".join([who, *conversion.problems]))
    if not conversion.converted:
        return model
    message = net_of(model.definition.message, conversion.wiring.layers())
    names = {new.name: old for old, new in conversion.converted.items()}
    place = renamed_places(names, model.definition.place)
    notes = [*model.definition.notes, *conversion.notes]
    weights = _reshaped(model.weights, conversion.converted)
    definition = replace(model.definition, message=message, place=place, notes=notes)
    result = replace(model, definition=definition, weights=weights)
    # Builds the new net: a setting that it cannot have shows before anything is written.
    Net(result.definition, shapes_only=True)
    return result


@dataclass(frozen=True)
class _Converted:
    """A converted layer: its new name, the shape of its weight, whether it was transposed."""

    name: str
    shape: Shape
    transposed: bool


class _Conversion:
    """Goes through the layers in order and keeps the new shape of each value."""

    def __init__(self, net: Net, suffix: str) -> None:
        self.wiring = Wiring(net.graph)
        self.suffix = suffix
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.converted: dict[str, _Converted] = {}
        self._old = {
            top: shape
            for built in net.layers
            for top, shape in zip(built.tops, built.shapes, strict=True)
        }
        self._new = dict(self._old)

    def run(self) -> None:
        for step in list(self.wiring.steps):
            if step.type == INNER_PRODUCT:
                self._convert(step)
            elif self._flattens(step) and self._may_go(step.tops[0]):
                self.wiring.bypass(step)
                self.notes.append(f"{step.place}: removed, convolutions need no flat bottom")
            elif is_elementwise(step):
                self._follow_bottom(step)
            elif any(self._changed(bottom) for bottom in step.bottoms):
                self._adapt(step)
        self._check_sharing()

    def _changed(self, value: Version) -> bool:
        return self._new[value] != self._old[value]

    def _is_map(self, value: Version) -> bool:
        """Whether the value has its old axes, and further ones of extent 1."""
        old, new = self._old[value], self._new[value]
        return new == old + (1,) * (len(new) - len(old))

    def _flattens(self, step: Step) -> bool:
        """Whether a Flatten or Reshape layer makes (N, values) of its bottom."""
        if step.type not in ("Flatten", "Reshape"):
            return False
        new = self._new[step.bottoms[0]]
        return len(new) > 1 and self._old[step.tops[0]] == (new[0], prod(new[1:]))

    def _may_go(self, value: Version) -> bool:
        """Whether all that reads a flat value works as well on the one before the Flatten."""
        if value in self.wiring.outputs:
            return False
        return all(
            (reader.type == INNER_PRODUCT and self._takes_channels(reader))
            or (self._flattens_again(reader, value) and self._may_go(reader.tops[0]))
            or (
                is_elementwise(reader)
                and len(reader.bottoms) == 1
                and all(self._may_go(top) for top in reader.tops)
            )
            for reader in self.wiring.readers(value)
        )

    def _flattens_again(self, step: Step, value: Version) -> bool:
        return (
            step.type in ("Flatten", "Reshape")
            and self._old[step.tops[0]] == self._old[value]
            and len(self._old[value]) == 2
        )

    def _takes_channels(self, step: Step) -> bool:
        axis = step.message.inner_product_param.axis
        return bool(axis in (1, 1 - len(self._old[step.bottoms[0]])))

    def _convert(self, step: Step) -> None:
        p, bottom = step.message.inner_product_param, self._new[step.bottoms[0]]
        if not self._takes_channels(step):
            self._problem(step, f"its axis is {p.axis}; only axis 1 is that of channels")
        elif len(bottom) < 3:
            others = [r for r in self.wiring.readers(step.bottoms[0]) if r is not step]
            also = f", which {_names(others)} reads too," if others else ""
            name = self.wiring.name_of(step.bottoms[0])
            found = f"{format_shape(bottom)}, without height and width"
            self._problem(step, f"its bottom {name!r}{also} is {found}")
        else:
            shape = (p.num_output, *bottom[1:])
            new = _Converted(step.name + self.suffix, shape, p.transpose)
            self.converted[step.name] = new
            _make_convolution(step.message, shape)
            step.message.name = new.name
            kernel = format_shape(bottom[2:])
            self.notes.append(f"{step.place}: now a Convolution with a kernel of {kernel}")
            self._new[step.tops[0]] = (bottom[0], p.num_output) + (1,) * len(bottom[2:])

    def _follow_bottom(self, step: Step) -> None:
        if step.tops and len({self._new[bottom] for bottom in step.bottoms}) > 1:
            self._problem(step, self._found(step))
        self._new.update(dict.fromkeys(step.tops, self._new[step.bottoms[0]]))

    def _adapt(self, step: Step) -> None:
        """Fits a layer to maps where it had values without height and width."""
        if self._flattens(step):
            return
        if step.type not in CHANNELWISE or not all(map(self._is_map, step.bottoms)):
            self._problem(step, self._found(step))
        else:
            self._set_axis(step)

    def _set_axis(self, step: Step) -> None:
        field, old = CHANNELWISE[step.type], self._old[step.bottoms[0]]
        more = len(self._new[step.bottoms[0]]) - len(old)
        settings = getattr(step.message, field) if field else None
        if step.type == "ArgMax" and not step.message.argmax_param.HasField("axis"):
            self._problem(step, "without an axis it looks at all places of a map; give it axis: 1")
        if settings is not None and settings.axis < 0:
            settings.axis += len(old)
        if step.type in ("Scale", "Bias") and settings is not None:
            if len(step.bottoms) == 1 and settings.num_axes == -1:
                settings.num_axes = len(old) - settings.axis
            elif len(step.bottoms) == 2 and not self._second_fits(step, settings.axis):
                self._problem(step, self._found(step))
        if step.type in KEEP_MAPS:
            self._new.update({top: self._old[top] + (1,) * more for top in step.tops})

    def _second_fits(self, step: Step, axis: int) -> bool:
        first, second = (self._new[bottom] for bottom in step.bottoms)
        return first[axis : axis + len(second)] == second

    def _found(self, step: Step) -> str:
        shapes = ", ".join(
            f"{self.wiring.name_of(b)!r} would be {format_shape(self._new[b])}"
            for b in step.bottoms
            if self._changed(b)
        )
        return f"it cannot work on maps: {shapes}"

    def _problem(self, step: Step, sentence: str) -> None:
        self.problems.append(f"{step.place}: {sentence}")

    def _check_sharing(self) -> None:
        """Layers that share a weight must all be converted, and to one kernel."""
        shapes: dict[str, Shape | None] = {}
        converted = {new.name: new.shape for new in self.converted.values()}
        for step in self.wiring.steps:
            for index, param in enumerate(step.message.param):
                shape = converted.get(step.name) if index == 0 else None
                if param.name and shapes.setdefault(param.name, shape) != shape:
                    self._problem(
                        step,
                        f"it shares {param.name!r} with a layer whose weight has another shape",
                    )


def is_elementwise(step: Step) -> bool:
    """Whether each element of the tops depends on the elements at its own place in the bottoms."""
    if step.type in CHANNELWISE:
        return False
    return step.type == "Silence" or any(
        layer.pointwise for layer in catalogue.definitions(step.type)
    )


def _make_convolution(message: Any, weight: Shape) -> None:
    """Turns the settings of an InnerProduct layer into those of a Convolution."""
    old, new = message.inner_product_param, message.convolution_param
    kernel = weight[2:]
    new.num_output = old.num_output
    new.bias_term = old.bias_term
    if not old.HasField("bias_term"):
        new.ClearField("bias_term")
    if len(set(kernel)) == 1:
        new.kernel_size.append(kernel[0])
    elif len(kernel) == 2:
        new.kernel_h, new.kernel_w = kernel
    else:
        new.kernel_size.extend(kernel)
    for field in ("weight_filler", "bias_filler"):
        if old.HasField(field):
            getattr(new, field).CopyFrom(getattr(old, field))
    for blob in message.blobs[:1]:
        blob.shape.dim[:] = weight
        for size in ("num", "channels", "height", "width"):
            blob.ClearField(size)
    message.ClearField("inner_product_param")
    message.type = CONVOLUTION


def _reshaped(weights: Weights, converted: dict[str, _Converted]) -> Weights:
    """The weights with the names and shapes of the new layers."""
    layers = [
        _as_convolution(layer, converted[layer.name]) if layer.name in converted else layer
        for layer in weights.layers
    ]
    return Weights(layers, weights.net_name, weights.path, weights.format)


def _as_convolution(layer: LayerWeights, new: _Converted) -> LayerWeights:
    indices = layer.indices or range(len(layer.blobs))
    blobs = [
        _as_kernel(blob, new) if index == 0 else blob
        for index, blob in zip(indices, layer.blobs, strict=True)
    ]
    legacy = [old and index != 0 for index, old in zip(indices, layer.legacy, strict=True)]
    return replace(layer, name=new.name, type=CONVOLUTION, blobs=blobs, diffs=None, legacy=legacy)


def _as_kernel(blob: np.ndarray, new: _Converted) -> np.ndarray:
    if new.transposed:
        blob = np.ascontiguousarray(blob.reshape(-1, new.shape[0]).T)
    return blob.reshape(new.shape)


def _names(steps: Sequence[Step]) -> str:
    return " and ".join(f"layer {step.name!r} ({step.type})" for step in steps)
