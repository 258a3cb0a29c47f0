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
_KEPT_BYTES = 768 << 20
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


def _draw(text: str, count: int) -> np.ndarray:
    """Normal values: those of ``standard_normal``, which computes them one by one.

    It is Marsaglia's polar method on pairs of uniform values. All values in 64 bits would take
    twice the memory again, so that they are made in parts.
    """
    random = generator(text)
    values = np.empty(count + count % 2, np.float32)
    done = 0
    while done < count:
        points = random.random_sample((_PART, 2))
        points *= 2
        points -= 1
        x, y = points.T
        radius = x * x + y * y
        inside = np.flatnonzero((radius < 1) & (radius > 0))[: (values.size - done) // 2]
        radius = radius[inside]
        factor = np.sqrt(-2 * np.log(radius) / radius)
        part = values[done : done + 2 * inside.size]
        part[0::2], part[1::2] = factor * y[inside], factor * x[inside]
        done += part.size
    values.flags.writeable = False
    return values[:count]


class NormalValues:
    """Normal values by rule; those that were drawn last stay in memory, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()

    def __call__(self, text: str, shape: Sequence[int]) -> np.ndarray:
        """The values that belong to ``text``: fewer values are the first of more."""
        count = prod(shape)
        kept = self._kept.get(text)
        if kept is None or kept.size < count:
            self._forget(text)
            kept = self._kept[text] = _draw(text, count)
            self._bytes += kept.nbytes
            while self._bytes > self._limit:
                self._forget(next(iter(self._kept)))
        else:
            self._kept.move_to_end(text)
        return kept[:count].reshape(shape)

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0

    def _forget(self, text: str) -> None:
        kept = self._kept.pop(text, None)
        self._bytes -= 0 if kept is None else kept.nbytes


normal_values = NormalValues(_KEPT_BYTES)


def weight(layer: str, kind: str, i: int, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """The rule's values of parameter blob ``i`` of a layer; ``kind`` is its type."""
    normal = normal_values(f"{layer}/{i}", shape)
    if kind == "BatchNorm":
        made = (0.1 * normal, 1 + 0.1 * np.abs(normal), np.ones_like(normal))[i]
    elif kind == "BN":
        made = (1 + 0.1 * normal, 0.1 * normal, 0.1 * normal, 1 + 0.1 * np.abs(normal))[i]
    elif kind == "Scale":
        made = 1 + 0.1 * normal if i == 0 else 0.1 * normal
    elif len(shape) >= 2:
        made = normal * np.float32(sqrt(2 / prod(shape[1:])) * scale)
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
            value = torch.from_numpy(weight(layer.name, layer.type, i, shape, scale))
            with torch.no_grad():
                blob.view(shape).copy_(value)


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


def blob_of(net: Net, name: str, recorded: Mapping[str, Any]) -> np.ndarray:
    """The value that is recorded as ``name``.

    Raises:
        KeyError: the net has none, or, for OpenCV, a later layer changes it in place.
    """
    if is_opencv(recorded):
        last = {top: one.name for one in net.layers for top in one.node.message.top}
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
    for name, facts in recorded.get("layers" if is_opencv(recorded) else "blobs", {}).items():
        try:
            value = blob_of(net, name, recorded).astype(np.float64)
        except KeyError:
            continue
        if "mean" not in facts or facts["shape"][3:] == [_DETECTION]:
            continue
        numbers = [value.mean(), value.std(), *value.ravel()[:8]]
        wanted = np.array([facts["mean"], facts["std"], *facts["first8"]])
        scale = max(1.0, abs(facts["mean"]) + facts["std"])
        if list(value.shape) != facts["shape"] or np.abs(numbers - wanted).max() > bound * scale:
            return str(name)
    return ""
