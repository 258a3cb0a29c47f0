"""Two engines on the same inputs: differences of outputs, or of every value."""

from __future__ import annotations

import gc
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import ExportError, MissingExtra
from caffecompat.export.engines.base import Arrays, Engine, EngineOptions, NotComparable, engines
from caffecompat.export.engines.caffe_net import CaffeNet
from caffecompat.export.model import CaffeModel
from caffecompat.export.targets.base import targets
from caffecompat.export.verify.inputs import draw_inputs
from caffecompat.layers import Shape
from caffecompat.reporting.units import format_shape
from caffecompat.weights.mapped import release_pages

TOLERANCE = 1e-4
LOOSE = "what is equal but for rounding may change places"
# Probabilities so close to 0 or 1 say little about the values that they are made of.
SATURATED = 1e-6
# Weights of models whose values are all compared then: programs copy the model for that.
MOST_BYTES = 128 << 20
# How many values inside of a net have a line of their own.
MOST_LINES = 5


@dataclass(frozen=True)
class Difference:
    """The difference between the values that two engines have under one name.

    Attributes:
        name: the name of the value.
        shape: its shape in the first engine.
        absolute: the largest absolute difference; infinite if shapes differ, or if one value is no
            number where the other is one.
        relative: ``absolute`` divided by the largest magnitude in the first engine.
        note: why they cannot be compared; "" if they can.
        counts: whether the engines disagree if it is large.
    """

    name: str
    shape: Shape
    absolute: float
    relative: float
    note: str = ""
    counts: bool = True


@dataclass(frozen=True)
class Comparison:
    """All differences, in the order of execution.

    Attributes:
        differences: one per name that both engines have; at least one.
        tolerance: the largest relative difference of engines that agree.
        outputs: names of the outputs, where all values were compared.
    """

    differences: Sequence[Difference]
    tolerance: float = TOLERANCE
    outputs: Collection[str] = ()

    @property
    def worst(self) -> Difference:
        """The largest difference; of those that decide if there are any."""
        deciding = [d for d in self.differences if d.counts] or self.differences
        return max(deciding, key=lambda difference: difference.relative)

    @property
    def agrees(self) -> bool:
        return self.first is None

    @property
    def first(self) -> Difference | None:
        """The first difference beyond the tolerance."""
        apart = (d for d in self.differences if not d.relative <= self.tolerance)
        return next((d for d in apart if d.counts), None)


def verify_conversion(
    model: CaffeModel, path: Path, seed: int = 0, engine: str | None = None
) -> list[str]:
    """Runs a model and the file that was just written from it, and says how close they are.

    Args:
        path: a file of a target that has an ``engine``.
        engine: the name of that engine; None for what the suffix says.

    Returns:
        Lines for the user: one per output and the verdict; or why nothing was compared.

    Raises:
        ExportError: they differ by more than :data:`TOLERANCE`, or the engine cannot run the file.
    """
    try:
        comparison = compare_conversion(model, path, seed, engine)
    except (MissingExtra, NotComparable) as error:
        return [f"not verified: {error}"]
    lines = [
        f"{d.name}: {format_shape(d.shape)}, largest difference {d.absolute:.2g}, "
        f"{d.relative:.2g} of the largest magnitude" + (f" ({d.note})" if d.note else "")
        for d in _shown(comparison)
    ]
    if not comparison.agrees:
        raise ExportError(
            f"{path}: computes something else than {model.path or 'the net'}: {'; '.join(lines)}; "
            "'caffecompat verify --layers' finds the layer"
        )
    if left := len(comparison.differences) - len(lines):
        lines.append(f"and {left} values inside of the net, which differ by less")
    return [*lines, f"verified: {path} computes what the net does, within {TOLERANCE:g}"]


def _shown(comparison: Comparison) -> list[Difference]:
    """All differences if they are few; of all values of a net the outputs and the worst ones."""
    if not comparison.outputs:
        return list(comparison.differences)
    inner = [d for d in comparison.differences if d.name not in comparison.outputs]
    worst = sorted(inner, key=lambda d: (not d.counts, -d.relative))[:MOST_LINES]
    return [d for d in comparison.differences if d.name in comparison.outputs or d in worst]


def compare_conversion(
    model: CaffeModel, path: Path, seed: int = 0, engine: str | None = None
) -> Comparison:
    """The outputs of a model and of the file that was just written from it.

    The file is trusted, also if it has a form that could contain code. Weights that are views into
    a file must not have been written to.

    Raises:
        ExportError: no engine runs such files, or it fails.
        MissingExtra: the engine is not installed.
    """
    engine = engine or _engine_of(path)
    _release_pages(model)
    kind = engines.find(engine)
    # The file was written here, whatever its form could contain.
    options = EngineOptions(trust=True, allow_python=True)
    # An engine may read all of the file to know the inputs, so it comes before the net's weights.
    target = None if kind.needs_other else kind(path, options)
    source = CaffeNet.of(model)
    if target is None:
        target = kind(path, replace(options, other=source))
    inputs = draw_inputs(source, target, seed)
    steps = source.preprocessing or target.preprocessing
    if source.loose:
        found = compare(*run_both(source, target, inputs), loose=source.loose)
        return replace(found, outputs=source.net.outputs)
    expected = _run(source, inputs, steps)
    every_value = says_little(expected) and _weight_bytes(model) <= MOST_BYTES
    if every_value:
        expected = _run(source, inputs, steps, every_value)
    outputs = source.net.outputs if every_value else ()
    # Its weights make room for those of the other engine. A net is part of reference cycles.
    del source
    gc.collect()
    _release_pages(model)
    found = compare(expected, _run(target, inputs, steps, every_value))
    return replace(found, outputs=outputs)


def _weight_bytes(model: CaffeModel) -> int:
    return sum(blob.nbytes for layer in model.weights.layers for blob in layer.blobs)


def says_little(outputs: Arrays) -> bool:
    """Whether all outputs are 0 or 1 but for rounding, as of a softmax over very different values.

    Such outputs are equal for nets that differ, so that values before them are to be compared.
    """
    return all(
        bool(((abs(values) < SATURATED) | (abs(values - 1) < SATURATED)).all())
        for values in outputs.values()
    )


def _engine_of(path: Path) -> str:
    """The engine of the target that writes files of this suffix.

    Raises:
        ExportError: there is none.
    """
    for target in map(targets.find, targets):
        if target.engine is not None and path.name.endswith(target.suffixes):
            return target.engine
    raise ExportError(f"{path}: no engine runs such files")


def _release_pages(model: CaffeModel) -> None:
    """Releases the memory of weights that are views into a file, until they are read again."""
    for layer in model.weights.layers:
        for blob in layer.blobs:
            release_pages(blob)


def run_both(
    first: Engine, second: Engine, inputs: Arrays, every_value: bool = False
) -> tuple[Arrays, Arrays]:
    """The outputs of both engines, or every value that they show.

    If no output has the same name in both, as where one of them is a part of the net, the outputs
    of each are compared with all values of the other. If the rows of all outputs may change places,
    all values are returned.

    An engine without preprocessing inside gets preprocessed images where the other one has it.

    Raises:
        ExportError: an engine fails.
    """
    steps = first.preprocessing or second.preprocessing
    found = _run(first, inputs, steps, every_value), _run(second, inputs, steps, every_value)
    common = set(found[0]) & set(found[1])
    loose = {*first.loose, *second.loose}
    if every_value or common - loose:
        return found
    one = {**_run(first, inputs, steps, True), **found[0]}
    other = {**_run(second, inputs, steps, True), **found[1]}
    if common:
        return one, other
    outputs = set(found[0]) | set(found[1])
    return _named(one, outputs), _named(other, outputs)


def _named(values: Arrays, names: set[str]) -> Arrays:
    return {name: value for name, value in values.items() if name in names}


def _run(
    engine: Engine, inputs: Arrays, steps: Preprocessing | None, every_value: bool = False
) -> Arrays:
    given = inputs if steps is None or engine.preprocessing else preprocess(inputs, steps)
    return engine.values(given) if every_value else engine.run(given)


def preprocess(inputs: Arrays, steps: Preprocessing) -> Arrays:
    """Images (N, C, H, W), RGB or gray from 0 to 1, as the net wants them."""
    channels = 1 if steps.channel_order == "gray" else 3
    images = [n for n, v in inputs.items() if v.ndim == 4 and v.shape[1] == channels]
    if not images:
        return dict(inputs)
    pixels = inputs[images[0]] * np.float32(255)
    if steps.channel_order == "BGR":
        pixels = pixels[:, ::-1]
    mean = np.asarray(steps.mean, np.float32).reshape(1, -1, 1, 1)
    image = np.ascontiguousarray((pixels - mean) * np.float32(steps.scale))
    return {**inputs, images[0]: image}


def compare(
    first: Arrays, second: Arrays, tolerance: float = TOLERANCE, loose: Collection[str] = ()
) -> Comparison:
    """Compares the values that have the same name, in the order of ``first``.

    Args:
        loose: values whose rows may change places, see :class:`Engine`; they do not decide.

    Raises:
        ExportError: there are none.
    """
    names = [name for name in first if name in second]
    if not names:
        raise ExportError(
            "no output has the same name in both: "
            f"{', '.join(map(repr, first))} and {', '.join(map(repr, second))}"
        )
    found = [difference(name, first[name], second[name]) for name in names]
    for index, one in enumerate(found):
        if one.name in loose and not one.relative <= tolerance:
            note = "; ".join(filter(None, [one.note, LOOSE]))
            found[index] = replace(one, note=note, counts=False)
    return Comparison(found, tolerance)


def _without_ones(values: np.ndarray) -> list[int]:
    """The shape without axes of extent 1, which do not change the order of the values."""
    return [extent for extent in values.shape if extent != 1]


def difference(name: str, first: np.ndarray, second: np.ndarray) -> Difference:
    if first.shape != second.shape:
        note = f"{format_shape(first.shape)} and {format_shape(second.shape)}"
        if _without_ones(first) != _without_ones(second):
            return Difference(name, first.shape, np.inf, np.inf, note)
        same = difference(name, first, second.reshape(first.shape))
        return replace(same, note="; ".join(filter(None, [note, same.note])))
    if not np.array_equal(np.isnan(first), np.isnan(second)):
        return Difference(name, first.shape, np.inf, np.inf, "NaN in one only")
    equal = (first == second) | np.isnan(first)
    with np.errstate(invalid="ignore"):
        apart = np.where(equal, 0, np.abs(first.astype(np.float64) - second))
    absolute = float(apart.max(initial=0))
    finite = np.abs(first[np.isfinite(first)])
    magnitude = float(finite.max(initial=0))
    if absolute == 0:
        return Difference(name, first.shape, 0.0, 0.0)
    relative = absolute / magnitude if magnitude > 0 else np.inf
    return Difference(name, first.shape, absolute, relative)
