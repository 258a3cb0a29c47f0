"""Replays recorded cases of BVLC Caffe on the layer classes alone, without a net around them.

A case is a prototxt of Input layers and others, mostly one, and an npz with inputs, parameters,
tops and gradients; see the keys in :class:`Case`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffecompat.layers import BuildOptions, Context, Layer, Source, catalogue
from caffecompat.layers._counter_rng import Noise
from caffecompat.layers.fillers import fill
from caffecompat.proto.files import read_net

# Results that are only moved about or counted must be exact.
EXACT = {
    *("Concat", "Slice", "Reshape", "Flatten", "Crop", "Tile", "Split", "Im2col"),
    *("BatchReindex", "Filter", "ArgMax", "Threshold", "Accuracy"),
}


@dataclass
class Case:
    """One recorded case: the layers' messages without Inputs, and the arrays.

    Keys of ``arrays``: ``in/<blob>``, ``param/<layer>/<i>``, ``out/<blob>``, ``loss``,
    ``topdiff/<blob>``, ``indiff/<blob>``, ``paramdiff/<layer>/<i>``, ``paramafter/<layer>/<i>``.
    """

    messages: list[Any]
    arrays: Mapping[str, np.ndarray]

    def indexed(self, kind: str, layer: str) -> dict[int, np.ndarray]:
        prefix = f"{kind}/{layer}/"
        keys = [key for key in self.arrays if key.startswith(prefix)]
        return {int(key[len(prefix) :]): self.arrays[key] for key in keys}


def read_case(path: Path) -> Case:
    """The case at ``path`` (its prototxt)."""
    net, _ = read_net(path)
    with np.load(path.with_suffix(".npz")) as arrays:
        return Case([layer for layer in net.layer if layer.type != "Input"], dict(arrays))


def build(message: Any, bottoms: Sequence[tuple[int, ...]], phase: str = "TRAIN") -> Layer:
    """A layer set up for bottoms of these shapes."""
    if message.HasField("phase"):
        phase = (
            message.DESCRIPTOR.fields_by_name["phase"]
            .enum_type.values_by_number[message.phase]
            .name
        )
    place = f"layer {message.name!r} ({message.type})"
    layer = catalogue.find(message.type)(Context(phase, place, BuildOptions(seed=7)))
    layer.noise = Noise(7, message.name, torch.zeros((), dtype=torch.int64))
    layer.setup(message, bottoms)
    return layer


def call(layer: Layer, bottoms: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """The tops as a list, whatever their number."""
    names = [spec.name for spec in layer.specs]
    tops = layer.forward(*bottoms, **dict(zip(names, parameters, strict=True)))
    return list(tops) if isinstance(tops, tuple) else [tops]


class Replay:
    """Runs the layers of a case one after the other and collects what differs."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.differences: list[str] = []
        self.blobs: dict[str, Tensor] = {}
        self.built: list[tuple[Any, Layer, list[Tensor]]] = []
        self.inputs = {
            key[3:]: torch.from_numpy(value).requires_grad_()
            for key, value in case.arrays.items()
            if key.startswith("in/")
        }

    def run(self) -> list[str]:
        """Every difference from the record, as sentences; empty if there is none."""
        arrays = self.case.arrays
        for _ in range(int(arrays.get("num_forward", 1))):
            self._forward()
        for name, value in self.blobs.items():
            if f"out/{name}" in arrays:
                exact = any(m.type in EXACT and name in m.top for m in self.case.messages)
                self._compare(f"top {name}", value, arrays[f"out/{name}"], 1e-6 if exact else 1e-4)
        for message, _, parameters in self.built:
            for i, expected in self.case.indexed("paramafter", message.name).items():
                self._compare(f"{message.name}/{i} after", parameters[i], expected)
        if any(key.startswith(("indiff", "paramdiff")) for key in arrays):
            self._compare_gradients()
        return self.differences

    def _forward(self) -> None:
        self.blobs = dict(self.inputs)
        self.tops: list[tuple[float, str, Tensor]] = []
        for position, message in enumerate(self.case.messages):
            bottoms = [self.blobs[name] for name in message.bottom]
            if position == len(self.built):
                self._build(message, [tuple(bottom.shape) for bottom in bottoms])
            layer = self.built[position][1]
            tops = self._tops(layer, bottoms, self.built[position][2])
            names = list(message.top) or ["(automatic)"] * layer.automatic_top
            weights = list(message.loss_weight) or [1.0] * layer.is_loss
            weights += [0.0] * (len(names) - len(weights))
            self.tops += zip(weights, names, tops, strict=True)
            self.blobs.update(zip(names, tops, strict=True))

    def _tops(self, layer: Layer, bottoms: list[Tensor], parameters: list[Tensor]) -> list[Tensor]:
        if isinstance(layer, Source):
            return [torch.as_tensor(top) for top in layer.read(0) or ()]
        return call(layer, bottoms, parameters)

    def _build(self, message: Any, shapes: list[tuple[int, ...]]) -> None:
        layer = build(message, shapes, str(self.case.arrays["phase"]))
        values = self.case.indexed("param", message.name)
        parameters = []
        for spec, value in zip(layer.specs, values.values(), strict=True):
            # Embedded blobs may come in Caffe's old shape of four axes.
            shape = spec.shape if message.blobs else value.shape
            parameters.append(torch.from_numpy(value.copy()).reshape(shape))
            if tuple(shape) != spec.shape:
                self.differences.append(f"{spec.name}: shape {spec.shape}, not {shape}")
        self._check_fillers(message, layer, values)
        for spec, parameter in zip(layer.specs, parameters, strict=True):
            parameter.requires_grad_(spec.learned)
        self.built.append((message, layer, parameters))

    def _check_fillers(self, message: Any, layer: Layer, values: Mapping[int, np.ndarray]) -> None:
        for key in self.case.arrays.get("param_from_net", ()):
            name, i = str(key).rsplit("/", 1)
            if name == message.name and not message.blobs:
                spec = layer.specs[int(i)]
                fresh = fill(spec.filler, spec.shape, torch.Generator())
                self._compare(f"fresh {key}", fresh, values[int(i)])

    def _compare_gradients(self) -> None:
        self._total().backward()
        for name, value in self.inputs.items():
            expected = self.case.arrays.get(f"indiff/{name}")
            if expected is not None:
                self._compare(f"gradient of {name}", _gradient(value), expected, 2e-4)
        for message, _, parameters in self.built:
            for i, expected in self.case.indexed("paramdiff", message.name).items():
                gradient = _gradient(parameters[i])
                if message.blobs:
                    gradient = gradient.reshape(expected.shape)
                self._compare(f"gradient {message.name}/{i}", gradient, expected, 2e-4)

    def _total(self) -> Tensor:
        """What backward starts from: loss weights and given gradients times the tops."""
        total = torch.zeros((), requires_grad=True)
        loss = 0.0
        # An in-place name stands for several tops; only the last one is an output.
        last = {name: i for i, (_, name, _) in enumerate(self.tops)}
        for i, (weight, name, top) in enumerate(self.tops):
            loss += weight * float(top.detach().sum())
            given = self.case.arrays.get(f"topdiff/{name}")
            if top.requires_grad and weight:
                total = total + weight * top.sum()
            if top.requires_grad and given is not None and i == last[name]:
                total = total + (top * torch.from_numpy(given)).sum()
        self._compare("loss", torch.tensor(loss), self.case.arrays["loss"])
        return total

    def _compare(self, what: str, found: Tensor, expected: Any, tolerance: float = 1e-4) -> None:
        expected = np.asarray(expected, dtype=np.float64)
        value = found.detach().double().numpy()
        if value.shape != expected.shape:
            self.differences.append(f"{what}: shape {value.shape}, not {expected.shape}")
            return
        finite = expected[np.isfinite(expected)]
        allowed = tolerance * max(1.0, float(np.abs(finite).max(initial=0.0)))
        if not np.allclose(value, expected, rtol=0, atol=allowed, equal_nan=True):
            worst = np.abs(value - expected).max()
            self.differences.append(f"{what}: off by {worst:g}, allowed {allowed:g}")


def _gradient(value: Tensor) -> Tensor:
    return torch.zeros_like(value) if value.grad is None else value.grad
