"""What the HTML page knows about a net, as values that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from caffecompat.draw.arrays.array_views import ArrayView
from caffecompat.draw.box_groups import groups_of
from caffecompat.draw.diagram import Blob, Diagram, DrawnLayer, DrawnParameter
from caffecompat.draw.kinds import KINDS
from caffecompat.draw.layer_boxes import boxes_of

Values = dict[str, Any]


def net_values(diagram: Diagram, facts: Mapping[str, str]) -> Values:
    """The net itself: layers, boxes, arrows and groups.

    Args:
        diagram: the net.
        facts: further lines for the page's overview, such as the file of the weights.
    """
    boxes = boxes_of(diagram.layers)
    kinds = {layer.kind for layer in diagram.layers}
    return {
        "title": diagram.title,
        "source": diagram.source,
        "phase": diagram.phase,
        "batch": diagram.batch,
        "parameters": diagram.parameter_count,
        "multiplyAdds": diagram.multiply_adds,
        "facts": dict(facts),
        "notes": list(diagram.notes),
        "kinds": {key: words for key, words in KINDS.items() if key in kinds},
        "layers": [_layer(layer) for layer in diagram.layers],
        "boxes": boxes.members,
        "edges": [[edge.start, edge.end, edge.blob, edge.shape] for edge in boxes.edges],
        "groups": [asdict(group) for group in groups_of(diagram.layers, boxes)],
    }


def _layer(layer: DrawnLayer) -> Values:
    return {
        "name": layer.name,
        "type": layer.type,
        "kind": layer.kind,
        "phase": layer.phase,
        "place": layer.place,
        "geometry": layer.geometry,
        "text": layer.text,
        "problem": layer.problem,
        "bottoms": [_blob(blob) for blob in layer.bottoms],
        "tops": [_blob(blob) for blob in layer.tops],
        "parameters": [_parameter(parameter) for parameter in layer.parameters],
        "parameterCount": layer.parameter_count,
        "multiplyAdds": layer.multiply_adds,
    }


def _blob(blob: Blob) -> Values:
    return {"name": blob.name, "shape": blob.shape, "makers": blob.makers}


def _parameter(parameter: DrawnParameter) -> Values:
    return {
        "name": parameter.name,
        "shape": parameter.shape,
        "count": parameter.count,
        "owner": parameter.owner,
        "lr": f"{parameter.lr_mult:g}",
        "decay": f"{parameter.decay_mult:g}",
    }


def view_values(views: Sequence[ArrayView]) -> list[Values]:
    """Arrays of one layer: their statistics, pictures and largest values."""
    return [
        {
            "role": view.role,
            "name": view.name,
            "note": view.note,
            "picture": view.picture[0] if view.picture else "",
            "words": view.picture[1] if view.picture else "",
            "largest": [[i, name, f"{value:.4g}"] for i, name, value in view.largest],
            **_statistics(view),
        }
        for view in views
    ]


def _statistics(view: ArrayView) -> Values:
    found = view.statistics
    return {
        "shape": found.shape,
        "count": found.count,
        "notFinite": found.not_finite,
        "zeros": found.zeros,
        "minimum": found.minimum,
        "maximum": found.maximum,
        "mean": found.mean,
        "deviation": found.deviation,
        "norm": found.norm,
        "histogram": found.histogram,
        "sampled": found.sampled,
    }
