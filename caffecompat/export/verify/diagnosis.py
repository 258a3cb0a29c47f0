"""Why two engines diverge: known faults of conversions, tried on the layer where they begin.

Each fault is computed here on purpose. If the result is what the other engine has, that is named
as the cause; otherwise nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from caffecompat.errors import CaffeError
from caffecompat.export.engines.base import Arrays, Engine
from caffecompat.export.engines.caffe_net import CaffeNet
from caffecompat.export.value_names import value_names
from caffecompat.net.setup.build import BuiltLayer
from caffecompat.reporting.units import format_shape

# How close a computed fault must be to the values found, as a part of their largest magnitude.
CLOSE = 1e-3

# Means of the published models, in the order BGR.
KNOWN_MEANS = ((103.939, 116.779, 123.68), (104.0, 117.0, 123.0))


@dataclass(frozen=True)
class Suspect:
    """The layer at which two engines diverge first.

    Attributes:
        name: the name of the value.
        built: the layer that makes it.
        wanted: its value in this package.
        found: its value in the other engine.
        values: all values of this package.
        net: the engine of this package.
    """

    name: str
    built: BuiltLayer
    wanted: np.ndarray
    found: np.ndarray
    values: Arrays
    net: CaffeNet

    @property
    def label(self) -> str:
        return f"layer {self.built.name!r} ({self.built.type})"

    @property
    def inputs(self) -> Arrays:
        return {name: self.values[name] for name in self.net.inputs}

    def image_inputs(self) -> Iterator[str]:
        """The inputs that may be colour images."""
        for name, value in self.inputs.items():
            if value.ndim == 4 and value.shape[1] == 3:
                yield name

    def parameter(self, name: str) -> np.ndarray:
        assert self.built.module is not None
        value: np.ndarray = getattr(self.built.module, name).detach().numpy()
        return value

    def layer_gives(self, **parameters: np.ndarray) -> bool:
        """Whether the layer with other parameters gives the values found."""
        assert self.built.layer is not None
        assert self.built.module is not None
        names = value_names(self.net.net)
        bottoms = [torch.from_numpy(self.values[names[b]]) for b in self.built.bottoms]
        own = {spec.name: self.parameter(spec.name) for spec in self.built.layer.specs}
        given = {**own, **parameters}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in given.items()}
        with torch.inference_mode():
            tops = self.built.layer.forward(*bottoms, **tensors)
        top = tops if isinstance(tops, torch.Tensor) else tops[0]
        return self.is_found(top.numpy())

    def value_with(self, name: str, value: np.ndarray) -> np.ndarray:
        """The suspect's value in this package with another value of one input."""
        changed = {**self.inputs, name: np.ascontiguousarray(value)}
        return self.net.values(changed)[self.name]

    def is_found(self, value: np.ndarray) -> bool:
        if value.shape != self.found.shape:
            return False
        apart = np.abs(value - self.found).max(initial=0)
        return bool(apart <= CLOSE * np.abs(self.found).max(initial=0))


Fault: TypeAlias = Callable[[Suspect], str | None]


def diagnose(name: str, engines: tuple[Engine, Engine], values: tuple[Arrays, Arrays]) -> str:
    """A sentence with the likely cause of a difference.

    Args:
        name: the first value that differs.
        engines: both engines; one of them must be this package.
        values: the values of both.
    """
    own = next((i for i, engine in enumerate(engines) if isinstance(engine, CaffeNet)), None)
    if own is None:
        return "no guess at the cause: give the weight file as one of the two, with --model"
    net = engines[own]
    assert isinstance(net, CaffeNet)
    made_by = _layer_of(net, name)
    if made_by is None:
        return f"{name!r} is an input: the engines ran on different values"
    wanted, found = values[own][name], values[1 - own][name]
    suspect = Suspect(name, made_by, wanted, found, values[own], net)
    for fault in FAULTS:
        try:
            cause = fault(suspect)
        except (CaffeError, RuntimeError):  # the fault cannot be tried on this layer
            continue
        if cause is not None:
            return f"likely cause: {cause}"
    return f"no known fault gives these values; look at {suspect.label}, {made_by.place}"


def _layer_of(net: CaffeNet, name: str) -> BuiltLayer | None:
    names = value_names(net.net)
    for built in net.net.layers:
        if built.module is not None and any(names[top] == name for top in built.tops):
            return built
    return None


def swapped_channels(suspect: Suspect) -> str | None:
    for name in suspect.image_inputs():
        if suspect.is_found(suspect.value_with(name, suspect.inputs[name][:, ::-1])):
            return (
                f"the channels of input {name!r} are in the opposite order (RGB and BGR): one "
                "expects the colours as Caffe's tools give them, BGR"
            )
    return None


def mean_of_input(suspect: Suspect) -> str | None:
    for name in suspect.image_inputs():
        image = suspect.inputs[name]
        for mean in [*_fitted_means(suspect, name), *KNOWN_MEANS]:
            for sign, what in ((1, "not subtracted"), (-1, "subtracted once more")):
                shift = sign * np.asarray(mean, np.float32).reshape(1, 3, 1, 1)
                if suspect.is_found(suspect.value_with(name, image + shift)):
                    numbers = ", ".join(f"{value:.4g}" for value in mean)
                    return f"the mean ({numbers}) of input {name!r} is {what}"
    return None


def _fitted_means(suspect: Suspect, name: str) -> list[tuple[float, ...]]:
    """The constant per channel that explains the difference best, if the layer is linear."""
    if suspect.found.shape != suspect.wanted.shape:
        return []
    image = suspect.inputs[name]
    responses = []
    for channel in range(3):
        shifted = image.copy()
        shifted[:, channel] += 1
        responses.append((suspect.value_with(name, shifted) - suspect.wanted).ravel())
    apart = (suspect.found - suspect.wanted).ravel()
    mean, *_ = np.linalg.lstsq(np.stack(responses, 1).astype(np.float64), apart, rcond=None)
    sign = -1 if mean.mean() < 0 else 1
    return [tuple(float(sign * value) for value in mean)]


def pooled_sizes(suspect: Suspect) -> str | None:
    if suspect.built.type != "Pooling":
        return None
    wanted, found = suspect.wanted.shape, suspect.found.shape
    if wanted == found:
        return _pooled_borders(suspect)
    smaller = [w - f in (0, 1) for w, f in zip(wanted, found, strict=False)]
    if len(wanted) == len(found) and all(smaller) and wanted[:2] == found[:2]:
        return (
            f"{suspect.label} rounds sizes up in Caffe ({format_shape(wanted)}) and down in the "
            f"other engine ({format_shape(found)}): ceil mode is missing there"
        )
    return None


def _pooled_borders(suspect: Suspect) -> str | None:
    """Differences in the first or last row and column only."""
    apart = np.abs(suspect.wanted - suspect.found)
    inside = apart[..., 1:-1, 1:-1]
    largest = np.abs(suspect.wanted).max(initial=0)
    if inside.size == 0 or inside.max() > CLOSE * largest:
        return None
    return (
        f"{suspect.label} differs at the border alone: windows that the border cuts off are "
        "averaged with another divisor, or padded otherwise"
    )


def unused_scale_factor(suspect: Suspect) -> str | None:
    if suspect.built.type != "BatchNorm":
        return None
    factor = suspect.parameter("scale_factor")
    if factor[0] == 1 or not suspect.layer_gives(scale_factor=np.ones_like(factor)):
        return None
    return (
        f"{suspect.label} uses mean and variance as they are stored; Caffe divides them by the "
        f"third blob, the scale factor ({factor[0]:.4g})"
    )


def turned_filters(suspect: Suspect) -> str | None:
    if suspect.built.type not in ("Convolution", "Deconvolution", "InnerProduct"):
        return None
    weight = suspect.parameter("weight")
    for turned, what in _turned(weight, suspect):
        if turned.shape == weight.shape and suspect.layer_gives(weight=turned):
            return f"the weight of {suspect.label} is {what}"
    return None


def _turned(weight: np.ndarray, suspect: Suspect) -> Iterator[tuple[np.ndarray, str]]:
    if weight.ndim == 4:
        yield weight.swapaxes(2, 3), "transposed: height and width of the filters are exchanged"
        yield weight[:, :, ::-1, ::-1], "flipped: the other engine convolves, Caffe correlates"
        yield weight[:, ::-1], "in the opposite order of its input channels"
        yield weight.swapaxes(0, 1), "transposed: input and output channels are exchanged"
    elif weight.ndim == 2:
        yield weight.T, "transposed"
        yield weight.reshape(weight.shape[::-1]).T, "transposed in memory"
        shape = suspect.net.net.shape_of(suspect.built.bottoms[0])[1:]
        if len(shape) == 3 and weight.shape[1] == np.prod(shape):
            moved = weight.reshape(-1, shape[1], shape[2], shape[0]).transpose(0, 3, 1, 2)
            yield (
                moved.reshape(weight.shape),
                "for inputs in the order height, width, channels; Caffe's is channels, height, "
                "width",
            )


def missing_bias(suspect: Suspect) -> str | None:
    if suspect.built.layer is None or "bias" not in [s.name for s in suspect.built.layer.specs]:
        return None
    if not suspect.layer_gives(bias=np.zeros_like(suspect.parameter("bias"))):
        return None
    return f"the bias of {suspect.label} is missing"


# The cheapest and most particular first.
FAULTS: Sequence[Fault] = (
    pooled_sizes,
    unused_scale_factor,
    missing_bias,
    swapped_channels,
    turned_filters,
    mean_of_input,
)
