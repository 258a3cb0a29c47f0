"""Forward passes over some layers of a net, from ``start`` to ``end``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy import ndarray

from caffecompat.errors import BlobError, CaffeError, LayerError, first_line, suggestion
from caffecompat.graph import Version
from caffecompat.net.blobs.array_view import to_numpy
from caffecompat.net.blobs.inputs import Array
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.execution.stepper import LayeredNet, Stepper
from caffecompat.reporting.units import format_shape


@dataclass(frozen=True)
class ForwardRequest:
    """The layers that a forward pass runs, and the blobs that it returns beside its outputs.

    If a field is an array, it is the value of an input with the name ``start``, ``end`` or
    ``blobs``.
    """

    start: Any = None
    end: Any = None
    blobs: Any = ()

    def inputs(self) -> dict[str, Array]:
        """The values of inputs with these names."""
        if self._is_plain:
            return {}
        return {name: value for name, value in vars(self).items() if _is_array(value)}

    def without_inputs(self) -> ForwardRequest:
        if self._is_plain:
            return self
        return ForwardRequest(**{name: v for name, v in vars(self).items() if not _is_array(v)})

    @property
    def _is_plain(self) -> bool:
        return self.is_whole and isinstance(self.blobs, tuple) and not self.blobs

    @property
    def is_whole(self) -> bool:
        return self.start is None and self.end is None


def _is_array(value: object) -> bool:
    return isinstance(value, (ndarray, torch.Tensor))


def forward_result(values: dict[str, torch.Tensor], given: Iterable[Array]) -> dict[str, Any]:
    """The values that a forward pass returns: arrays if any that was given is one."""
    for value in given:
        if isinstance(value, ndarray):
            return {name: to_numpy(tensor) for name, tensor in values.items()}
    return values


def layer_index(layers: Sequence[BuiltLayer], name: object) -> int:
    """The index in ``layers`` of the first layer with the name ``name``.

    Raises:
        BlobError: there is none.
    """
    names = [built.name for built in layers]
    if not isinstance(name, str):
        raise BlobError(f"start and end are names of layers, found {type(name).__name__}")
    if name not in names:
        known = [built.name for built in layers if not built.node.automatic]
        raise BlobError(f"no layer {name!r} in this net{suggestion(name, known)}")
    return names.index(name)


def tops_of(layers: Sequence[BuiltLayer], name: object) -> list[str]:
    """Names of the tops of the first layer with the name ``name``."""
    return [top.blob for top in layers[layer_index(layers, name)].tops]


def run_between(
    net: LayeredNet,
    which: range,
    index: int,
    given: Mapping[Version, torch.Tensor],
    value_of: Callable[[Version], torch.Tensor],
) -> dict[Version, torch.Tensor]:
    """Runs consecutive layers of a net, without gradients.

    Args:
        which: their indices in ``net.layers``.
        index: number of the pass.
        given: tops of sources that are not read.
        value_of: returns the values of earlier blobs in the last pass.

    Returns:
        The tops of these layers.

    Raises:
        LayerError: a layer cannot work on its bottoms.
    """
    stepper = Stepper(net)
    stepper.begin(index)
    stepper.values.update(given)
    made: dict[Version, torch.Tensor] = dict(given)
    for i in which:
        built = net.layers[i]
        if built.source is not None and all(top in given for top in built.tops):
            continue
        for bottom in built.bottoms:
            if bottom not in stepper.values:
                stepper.values[bottom] = value_of(bottom).detach()
        made.update(zip(built.tops, _run(stepper, i, built), strict=False))
    return made


def _run(stepper: Stepper, i: int, built: BuiltLayer) -> tuple[torch.Tensor, ...]:
    try:
        with torch.no_grad():
            return stepper.forward_layer(i)
    except CaffeError:
        raise
    except RuntimeError as error:
        shapes = ", ".join(
            f"{bottom} {format_shape(stepper.values[bottom].shape)}" for bottom in built.bottoms
        )
        raise LayerError(
            f"{built.place}: cannot work on bottom(s) {shapes}: {first_line(error)}"
        ) from error
