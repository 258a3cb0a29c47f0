"""Images that int8 takes the ranges of values from, and what it costs in accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from caffecompat.errors import NetError
from caffecompat.net import Net
from caffecompat.net.execution.inference import InferenceOptions
from caffecompat.reporting.activity import Activity, heartbeat
from caffecompat.reporting.glog import LOGGER
from caffecompat.reporting.units import format_shape

Arrays: TypeAlias = dict[str, np.ndarray]

REMEDY = (
    "give calibration=[{'data': array}, ...] in Python, or --calibration train_val.prototxt, whose "
    "data layer gives images"
)


def batches_of_file(path: str, count: int) -> list[Arrays]:
    """Batches of the data layers of a net, in phase TEST.

    Raises:
        FileProblem, TextError, NetError: the net cannot be built, or reads no data.
    """
    net = Net(path, phase="test", shapes_only=False)
    try:
        return _read(net, count, path)
    finally:
        net.close()


def calibration_batches(net: Net, options: InferenceOptions) -> list[Arrays]:
    """The batches of the options, by the names of the net's inputs.

    Raises:
        NetError: there are none, or they do not fit the inputs.
    """
    given = options.calibration
    if given is None:
        raise NetError(f"int8 needs images to take the ranges of values from; {REMEDY}")
    if isinstance(given, int):
        return _read(net, given, net.name or "the net")
    if isinstance(given, Mapping) or not all(isinstance(batch, Mapping) for batch in given):
        raise NetError(f"calibration is no list of batches by input name; {REMEDY}")
    if not given:
        raise NetError(f"calibration has no batches; {REMEDY}")
    feeds = [top.blob for top in net.program().feeds]
    return [_matched(batch, feeds) for batch in given]


def _read(net: Net, count: int, who: str) -> list[Arrays]:
    if count < 1:
        raise NetError(f"the number of calibration batches is {count}, it must be at least 1")
    reads = any(built.source and not built.source.is_input for built in net.layers)
    if not reads:
        raise NetError(f"{who} has no data layer to read images for int8 from; {REMEDY}")
    names = [top.blob for top in net.program().feeds]
    activity = Activity()
    batches = []
    with heartbeat(activity, LOGGER):
        for index in range(count):
            activity.begin("calibration batch", index)
            values = [value.numpy().copy() for value in net.feeds(index)]
            batches.append(dict(zip(names, values, strict=True)))
    return batches


def _matched(batch: Mapping[str, Any], feeds: Sequence[str]) -> Arrays:
    """The arrays for ``feeds``, by name; a single input takes the only array with four axes."""
    arrays = {name: _numbers(name, value) for name, value in batch.items()}
    images = [value for value in arrays.values() if value.ndim == 4]
    if len(feeds) == 1 and feeds[0] not in arrays and len(images) == 1:
        return {feeds[0]: images[0]}
    missing = [name for name in feeds if name not in arrays]
    if missing:
        found = ", ".join(f"{name!r} {format_shape(v.shape)}" for name, v in arrays.items())
        raise NetError(
            f"calibration: a batch has {found or 'nothing'}, but the net's inputs are "
            f"{', '.join(map(repr, feeds))}"
        )
    return {name: arrays[name] for name in feeds}


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise NetError(f"calibration: {name!r} is no array of numbers: {error}") from error


class Agreement:
    """How near the outputs of one program are to those of another, over several batches."""

    def __init__(self) -> None:
        self._same = self._rows = 0
        self._difference = self._largest = 0.0

    def add(self, found: np.ndarray, wanted: np.ndarray) -> None:
        """Takes in one output of one batch; classes, if there are any, stand along axis 1."""
        self._difference = max(self._difference, float(np.abs(found - wanted).max(initial=0)))
        self._largest = max(self._largest, float(np.abs(wanted).max(initial=0)))
        if wanted.ndim >= 2 and wanted.shape[1] > 1:
            same = found.argmax(1) == wanted.argmax(1)
            self._same += int(same.sum())
            self._rows += same.size

    @property
    def top1(self) -> float:
        """The share of rows or positions whose largest value is in the same place."""
        return self._same / self._rows if self._rows else 1.0

    @property
    def difference(self) -> float:
        """The largest difference, relative to the largest magnitude."""
        return self._difference / self._largest if self._largest else self._difference

    def __str__(self) -> str:
        part = f"largest difference {self.difference:.3g} of the largest output"
        if not self._rows:
            return part
        return f"top-1 agrees with fp32 in {self.top1:.1%} of {self._rows} cases, {part}"
