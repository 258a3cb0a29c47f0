"""Published nets with values recorded from another program: weights, inputs, comparison.

A zoo folder has a ``manifest.tsv``, one row per file, and a folder per model. Beside a definition
``X.prototxt`` may lie ``X.golden.json`` and ``X.golden.npz``, the outputs and statistics of all
blobs for weights and inputs that are made by a rule; its README describes both.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caffecompat import Net

_SAMPLED = 4096
# Drawing the values of a large layer takes seconds, and the layers of many nets have equal names.
_KEPT_BYTES = 1200 << 20
_PART = 1 << 14
_DETECTION = 7


@dataclass(frozen=True)
class Entry:
    """One file of a zoo.

    Attributes:
        path: the file.
        name: folder and file.
        kind: ``"deploy"``, ``"deploy+loss"``, ``"train_val"`` or ``"solver"``.
        source: the repository that published it.
    """

    path: Path
    name: str
    kind: str
    source: str

    @property
    def recorded(self) -> dict[str, Any] | None:
        """What was recorded; None if nothing was."""
        path = self.path.with_suffix(".golden.json")
        return json.loads(path.read_text()) if path.exists() else None


def entries(zoo: Path) -> Iterator[Entry]:
    """The files that the manifest of a zoo lists."""
    with open(zoo / "manifest.tsv") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            path = zoo / row["name"] / row["file"]
            yield Entry(path, f"{row['name']}/{row['file']}", row["kind"], row["source_repo"])


def generator(text: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(text.encode()) & 0x7FFFFFFF)


class _Draw:
    """Normal values one after the other: those of ``standard_normal``, which computes them singly.

    It is Marsaglia's polar method on pairs of uniform values. All values in 64 bits would take
    twice the memory again, so that they are made in parts.
    """

    def __init__(self, text: str) -> None:
        self._random = generator(text)
        self._left = np.empty(0, np.float32)
        self.values = self._left

    def extend(self, count: int) -> None:
        """Makes ``values`` the first ``count``; those that are there are not drawn again."""
        values = np.empty(count, np.float32)
        done = min(self.values.size, count)
        values[:done] = self.values
        part = self._left
        while True:
            taken = min(part.size, count - done)
            values[done : done + taken] = part[:taken]
            done += taken
            if done == count:
                break
            part = self._part()
        self._left = part[taken:].copy()
        values.flags.writeable = False
        self.values = values

    def _part(self) -> np.ndarray:
        points = self._random.random_sample((_PART, 2))
        points *= 2
        points -= 1
        x, y = points.T
        radius = x * x + y * y
        inside = np.flatnonzero((radius < 1) & (radius > 0))
        radius = radius[inside]
        # torch computes several logarithms at a time.
        factor = torch.from_numpy(radius).log().numpy()
        factor *= -2
        factor /= radius
        np.sqrt(factor, out=factor)
        part = np.empty(2 * inside.size, np.float32)
        part[0::2], part[1::2] = factor * y[inside], factor * x[inside]
        return part


class NormalValues:
    """Normal values by rule; those that were drawn last stay in memory, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._kept: OrderedDict[str, _Draw] = OrderedDict()

    def __call__(self, text: str, shape: Sequence[int]) -> np.ndarray:
        """The values that belong to ``text``: fewer values are the first of more."""
        count = prod(shape)
        kept = self._kept.get(text)
        if kept is None:
            kept = self._kept[text] = _Draw(text)
        self._kept.move_to_end(text)
        if kept.values.size < count:
            self._bytes -= kept.values.nbytes
            kept.extend(count)
            self._bytes += kept.values.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._kept.popitem(last=False)[1].values.nbytes
        return kept.values[:count].reshape(shape)

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0


normal_values = NormalValues(_KEPT_BYTES)


def weight(
    layer: str,
    kind: str,
    i: int,
    shape: tuple[int, ...],
    scale: float,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """The rule's values of parameter blob ``i`` of a layer; ``kind`` is its type.

    Large ones are written to ``out``, if it is given, and need no memory of their own then.
    """
    normal = normal_values(f"{layer}/{i}", shape)
    if kind == "BatchNorm":
        made = (0.1 * normal, 1 + 0.1 * np.abs(normal), np.ones_like(normal))[i]
    elif kind == "BN":
        made = (1 + 0.1 * normal, 0.1 * normal, 0.1 * normal, 1 + 0.1 * np.abs(normal))[i]
    elif kind == "Scale":
        made = 1 + 0.1 * normal if i == 0 else 0.1 * normal
    elif len(shape) >= 2:
        made = np.multiply(normal, np.float32(sqrt(2 / prod(shape[1:])) * scale), out=out)
    else:
        made = normal * np.float32(0.1)
    return np.asarray(made, np.float32)


def fill_weights(net: Net, scale: float) -> None:
    """Sets all parameters of a net by the rule."""
    for layer in net.layers:
        blobs = layer.module.blobs() if layer.module else []
        for i, blob in enumerate(blobs):
            assert layer.module is not None
            shape = layer.module.layer.specs[i].shape
            target = blob.detach().view(shape).numpy()
            value = weight(layer.name, layer.type, i, shape, scale, target)
            if value is not target:
                target[...] = value


def input_value(name: str, facts: Mapping[str, Any]) -> np.ndarray:
    """The value of an input of a recorded net."""
    shape = facts["shape"]
    if "values" in facts:
        return np.array(facts["values"], np.float32).reshape(shape)
    image = len(shape) == 4 and shape[1] == 3
    value = normal_values(f"input/{name}", shape)
    return value * np.float32(50 if image else 1)


def prepare(message: Any, recorded: Mapping[str, Any]) -> None:
    """Changes a definition to what the other program makes of it.

    OpenCV ignores k of LRN, and its Axpy is a y + x, not a x + y.
    """
    if not is_opencv(recorded):
        return
    for layer in message.layer:
        if layer.HasField("lrn_param"):
            layer.lrn_param.ClearField("k")
        if layer.type == "Axpy":
            a, x, y = layer.bottom
            layer.bottom[:] = [a, y, x]


def is_opencv(recorded: Mapping[str, Any]) -> bool:
    """Whether OpenCV recorded the values; it names them after layers, not after blobs."""
    return str(recorded["oracle"]).startswith("OpenCV")


def run(net: Net, recorded: Mapping[str, Any]) -> None:
    """One forward pass on the recorded weights and inputs."""
    fill_weights(net, recorded.get("weight_scale", 1.0))
    inputs = {name: input_value(name, facts) for name, facts in recorded["inputs"].items()}
    with torch.no_grad():
        net.forward(**inputs)


def last_layers(net: Net) -> dict[str, str]:
    """By blob the last layer that has it as a top."""
    return {top: one.name for one in net.layers for top in one.node.message.top}


def blob_of(
    net: Net, name: str, recorded: Mapping[str, Any], last: Mapping[str, str] | None = None
) -> np.ndarray:
    """The value that is recorded as ``name``; ``last`` is :func:`last_layers`, if it is there.

    Raises:
        KeyError: the net has none, or, for OpenCV, a later layer changes it in place.
    """
    if is_opencv(recorded):
        last = last_layers(net) if last is None else last
        layer = next((one for one in net.layers if one.name == name), None)
        if layer is None:
            raise KeyError(name)
        name = (layer.node.message.top or layer.node.message.bottom)[0]
        if last.get(name, layer.name) != layer.name and layer.node.message.top:
            raise KeyError(name)
    return net.blobs[name].data.numpy()


def output_of(net: Net, name: str, recorded: Mapping[str, Any]) -> np.ndarray:
    """:func:`blob_of`, where a later layer works in place the value from before it."""
    try:
        return blob_of(net, name, recorded)
    except KeyError:
        with torch.no_grad():
            (value,) = net.forward(end=name).values()
        return np.asarray(value)


def output_difference(found: np.ndarray, facts: Mapping[str, Any], arrays: Any) -> float:
    """The largest difference from a recorded output, relative to its largest magnitude or 1.

    Infinite where the shapes differ. Rows of detections may be in any order.
    """
    wanted = arrays[facts.get("npz", facts.get("key"))]
    if facts["shape"][:2] == [1, 1] and facts["shape"][3:] == [_DETECTION]:
        return _detection_difference(found.reshape(-1, _DETECTION), wanted)
    if list(found.shape) != facts["shape"]:
        return float("inf")
    flat = found.ravel()
    if not facts["full"]:
        flat = flat[(np.arange(_SAMPLED) * (flat.size - 1)) // (_SAMPLED - 1)]
    scale = max(1.0, float(np.abs(wanted).max(initial=0)))
    return float(np.abs(flat - wanted).max(initial=0)) / scale


def _detection_difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """Each row is compared with the nearest that is left; OpenCV fills up with rows of 0."""
    left = wanted.reshape(-1, _DETECTION)
    left = left[(left != 0).any(1)]
    if len(found) != len(left):
        return float("inf")
    worst = 0.0
    for row in found:
        distances = np.abs(left - row).max(1)
        nearest = int(distances.argmin())
        worst = max(worst, float(distances[nearest]))
        left = np.delete(left, nearest, 0)
    return worst


def first_divergent(net: Net, recorded: Mapping[str, Any], bound: float) -> str:
    """The first blob (OpenCV: layer) whose statistics are not the recorded ones; "" if all are."""
    last = last_layers(net)
    for name, facts in recorded.get("layers" if is_opencv(recorded) else "blobs", {}).items():
        try:
            value = blob_of(net, name, recorded, last)
        except KeyError:
            continue
        if "mean" not in facts or facts["shape"][3:] == [_DETECTION]:
            continue
        wanted = recorded_statistics(facts)
        scale = max(1.0, abs(facts["mean"]) + facts["std"])
        differs = np.abs(statistics(value) - wanted).max() > bound * scale
        if list(value.shape) != facts["shape"] or differs:
            return str(name)
    return ""


def statistics(value: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and the first eight values."""
    value = value.astype(np.float64)
    return np.array([value.mean(), value.std(), *value.ravel()[:8]])


def recorded_statistics(facts: Mapping[str, Any]) -> np.ndarray:
    """What :func:`statistics` gave for the blob where it was recorded."""
    return np.array([facts["mean"], facts["std"], *facts["first8"]])
