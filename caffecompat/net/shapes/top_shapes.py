"""Top shapes, inferred by running layers on ``meta`` tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from caffecompat.errors import CaffeError, LayerError
from caffecompat.graph import LayerNode
from caffecompat.layers import Layer, Shape
from caffecompat.net.layer_checks import shape_error
from caffecompat.net.module import LayerModule
from caffecompat.net.shapes.operator_shapes import OperatorShapes
from caffecompat.proto import schema


class InferredShapes:
    """A cache of inferred top shapes by layer type, settings, bottom and parameter shapes.

    Running a layer on ``meta`` tensors takes up to a millisecond, and large nets have many equal
    layers.
    """

    def __init__(self) -> None:
        self._shapes: dict[tuple[Any, ...], list[Shape]] = {}

    def infer(
        self, module: LayerModule, node: LayerNode, bottoms: Sequence[Shape], tops: int
    ) -> list[Shape]:
        """The same as :func:`infer_shapes`, from the cache where that is possible."""
        layer = module.layer
        # Layers of other packages may use any part of the message; embedded blobs are large.
        own = type(layer).__module__.startswith("caffecompat.layers.")
        if not own or len(node.message.blobs):
            return infer_shapes(module, node, bottoms, tops)
        settings = schema.new("LayerParameter")
        settings.CopyFrom(node.message)
        for name in ("name", "bottom", "top", "param"):
            settings.ClearField(name)
        text = settings.SerializeToString(deterministic=True)
        parameters = tuple(spec.shape for spec in layer.specs)
        key = (type(layer), node.phase, text, tops, tuple(bottoms), parameters)
        if type(layer).infer is not Layer.infer or key not in self._shapes:
            self._shapes[key] = infer_shapes(module, node, bottoms, tops)
        return list(self._shapes[key])


def infer_shapes(
    module: LayerModule, node: LayerNode, bottoms: Sequence[Shape], tops: int
) -> list[Shape]:
    """Top shapes from bottom shapes, by running the layer on ``meta`` tensors.

    Raises:
        LayerError: the layer cannot work on these shapes.
    """
    try:
        with torch.no_grad(), OperatorShapes():
            result = module.infer(*(torch.empty(shape, device="meta") for shape in bottoms))
    except CaffeError:
        raise
    except (RuntimeError, ValueError, IndexError, ArithmeticError) as error:
        raise shape_error(node.place, node.bottoms, bottoms, error) from error
    values = _as_tuple(result)
    if len(values) < tops:
        raise LayerError(
            f"{node.place}: has {tops} tops, but the layer computes {len(values)}; remove the rest"
        )
    return [tuple(value.shape) for value in values[:tops]]


def _as_tuple(result: Any) -> tuple[torch.Tensor, ...]:
    if result is None:
        return ()
    return (result,) if isinstance(result, torch.Tensor) else tuple(result)
