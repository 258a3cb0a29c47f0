"""Parameters and activations of the layers of a diagram, as statistics and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.draw.arrays.pictures import activation_picture, filter_picture
from caffecompat.draw.arrays.statistics import Statistics, statistics_of
from caffecompat.draw.diagram import Diagram, DrawnLayer
from caffecompat.errors import WeightsError
from caffecompat.net import Net
from caffecompat.reporting.units import format_shape
from caffecompat.weights import LayerWeights, Weights

_LARGEST = 5

Report = Callable[[str], None]


@dataclass(frozen=True)
class ArrayView:
    """What is shown of one array.

    Attributes:
        role: ``"parameter"`` or ``"activation"``.
        name: of the parameter or the blob.
        picture: the address with the data of a PNG, and a sentence about it; None without one.
        note: a sentence about the array, or empty.
        largest: of a vector of scores, position, name and value of the largest ones.
    """

    role: str
    name: str
    statistics: Statistics
    picture: tuple[str, str] | None = None
    note: str = ""
    largest: tuple[tuple[int, str, float], ...] = ()


def parameter_views(
    diagram: Diagram, weights: Weights, report: Report
) -> dict[int, list[ArrayView]]:
    """The parameters of the layers, by position, from a weight file.

    Args:
        report: gets the name of the layer that is worked on.

    Raises:
        WeightsError: the file has no layer of the net.
    """
    found = {}
    for position, layer in enumerate(diagram.layers):
        if layer.name in weights and weights[layer.name].blobs:
            report(layer.name)
            found[position] = _parameters(layer, weights[layer.name])
    if not found:
        raise WeightsError(
            f"{weights.path}: no layer of {diagram.source} has weights in this file; are they "
            "those of another net?"
        )
    return found


def _parameters(layer: DrawnLayer, stored: LayerWeights) -> list[ArrayView]:
    views = []
    indices = stored.indices or range(len(stored.blobs))
    for index, array in zip(indices, stored.blobs, strict=True):
        known = layer.parameters[index] if index < len(layer.parameters) else None
        values, note = np.asarray(array), ""
        if known is not None and values.shape != known.shape:
            if values.size == np.prod(known.shape, dtype=np.int64):
                values = values.reshape(known.shape)
            else:
                note = (
                    f"the file has {format_shape(values.shape)}, the net needs "
                    f"{format_shape(known.shape)}"
                )
        name = known.name if known is not None else f"blob {index}"
        views.append(
            ArrayView("parameter", name, statistics_of(values), filter_picture(values), note)
        )
    return views


def activation_views(
    diagram: Diagram, net: Net, labels: Sequence[str], report: Report
) -> dict[int, list[ArrayView]]:
    """The tops of the layers after a pass of one image, by position in the diagram.

    Args:
        diagram: of the same net in the same phase.
        net: after its pass.
        labels: names of classes, or none.
    """
    built = [layer for layer in net.layers if not layer.node.automatic]
    found = {}
    for position, (drawn, layer) in enumerate(zip(diagram.layers, built, strict=True)):
        report(drawn.name)
        found[position] = [
            _activation(top.blob, net.value_of(top).detach().cpu().numpy(), labels)
            for top in layer.tops
        ]
    return found


def _activation(name: str, value: NDArray[np.floating], labels: Sequence[str]) -> ArrayView:
    first = value[0] if value.ndim > 1 else value
    scores = first.reshape(-1) if first.size == max(first.shape, default=0) else None
    largest = _largest(scores, labels) if scores is not None and scores.size > 1 else ()
    return ArrayView(
        "activation", name, statistics_of(first), activation_picture(first), largest=largest
    )


def _largest(
    scores: NDArray[np.floating], labels: Sequence[str]
) -> tuple[tuple[int, str, float], ...]:
    order = np.argsort(-scores, kind="stable")[:_LARGEST]
    named = labels if len(labels) == scores.size else ()
    return tuple((int(i), named[i] if named else "", float(scores[i])) for i in order)


def merged(*views: Mapping[int, list[ArrayView]]) -> dict[int, list[ArrayView]]:
    """Several kinds of arrays together, by position of their layer."""
    result: dict[int, list[ArrayView]] = {}
    for one in views:
        for position, arrays in one.items():
            result.setdefault(position, []).extend(arrays)
    return result
