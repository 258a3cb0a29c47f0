"""Definitions for use whose passes take seconds: smaller layers, a batch of 1, smaller images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from caffecompat import Net
from caffecompat.errors import CaffeError
from caffecompat.export.deploy.definition import DeployOptions, deploy
from caffecompat.export.inputs.region_inputs import PROPOSALS
from caffecompat.graph import Version
from caffecompat.layers import BuildOptions
from caffecompat.net.definition import Definition, read_definition
from tools.zoo_report import DIALECTS, IMAGE, STATED, UNKNOWN_SHAPE, fill_in

MOST_OUTPUTS, FEWER_OUTPUTS = 1000, 500
MOST_MULTIPLY_ADDS = 5 * 10**9
# Of all values at once; that many are compared on a small machine.
MOST_BYTES = 4 << 30
FLOAT_BYTES = 4


def for_table(path: Path) -> Definition | None:
    """The definition with small layers and a batch of 1.

    None if the file is no net, or a definition for training beside one for use.
    """
    message = message_in(path)
    if message is None or not message.layer:
        return None
    fill_in(message, path.parent.name)
    if not is_for_use(message) and any(
        is_for_use(message_in(other)) for other in path.parent.glob("*.prototxt")
    ):
        return None
    dialect = DIALECTS.get(path.parent.name, "")
    definition = replace(read_definition(message), dialect=dialect)
    if not is_for_use(message):
        definition = deployed(definition, path)
    definition = _with_fewer_outputs(definition)
    definition = _changed(definition, _batch_of_one)
    while is_large(definition):
        smaller = _changed(definition, _half_images)
        if smaller.message == definition.message:
            smaller = _changed(definition, _smaller_planes)
        if smaller.message == definition.message:
            break
        definition = smaller
    return definition


def message_in(path: Path) -> Any:
    """The NetParameter of a prototxt; None if it does not parse as one."""
    try:
        return read_definition(path, lenient=True).message
    except CaffeError:
        return None


def is_for_use(message: Any) -> bool:
    """Whether a net is fed by its caller and computes no loss."""
    kinds = {layer.type for layer in message.layer} if message is not None else set()
    return "Input" in kinds and not any("Loss" in kind for kind in kinds)


def deployed(definition: Definition, path: Path) -> Definition:
    """The definition for use; shapes that it does not tell are those of the zoo's report.

    Raises:
        CaffeError: there is none.
    """
    made = {top for layer in definition.message.layer if not layer.bottom for top in layer.top}
    stated = STATED.get(path.parent.name, {})
    shapes = {name: shape for name, shape in stated.items() if name in made}
    for _ in made:
        options = DeployOptions(shapes=shapes, net=BuildOptions(dialect=definition.dialect))
        try:
            message = deploy(definition, options, path.name).message
        except CaffeError as error:
            unknown = UNKNOWN_SHAPE.search(str(error))
            if unknown is None or unknown[1] in shapes:
                raise
            shapes[unknown[1]] = IMAGE
        else:
            return replace(read_definition(message), dialect=definition.dialect)
    raise CaffeError("the shapes of its data are not known")


def _with_fewer_outputs(definition: Definition) -> Definition:
    """The definition with smaller layers, or as it was if others need their size."""
    changed = replace(read_definition(definition.message), dialect=definition.dialect)
    for layer in changed.message.layer:
        p = layer.inner_product_param
        if layer.type == "InnerProduct" and p.num_output > MOST_OUTPUTS:
            p.num_output = FEWER_OUTPUTS
    try:
        Net(changed, shapes_only=True)
    except CaffeError:
        return definition
    return changed


def _changed(definition: Definition, change: Callable[[list[Any]], None]) -> Definition:
    """The definition with other input shapes, or as it was if it cannot be built with them."""
    changed = replace(read_definition(definition.message), dialect=definition.dialect)
    change([s for layer in changed.message.layer for s in layer.input_param.shape if s.dim])
    try:
        Net(changed, shapes_only=True)
    except CaffeError:
        return definition
    return changed


def _batch_of_one(shapes: list[Any]) -> None:
    if len({shape.dim[0] for shape in shapes}) == 1:
        for shape in shapes:
            shape.dim[0] = 1


def _half_images(shapes: list[Any]) -> None:
    for shape in shapes:
        if len(shape.dim) > 3 and min(shape.dim[2:]) > 1:
            shape.dim[2:] = [extent // 2 for extent in shape.dim[2:]]


def _smaller_planes(shapes: list[Any]) -> None:
    """Makes the planes of volumes smaller, whose layers may need their depth."""
    for shape in shapes:
        if len(shape.dim) > 4:
            shape.dim[3:] = [extent * 2 // 3 for extent in shape.dim[3:]]


def is_large(definition: Definition) -> bool:
    net = Net(definition, shapes_only=True)
    return multiply_adds(net) > MOST_MULTIPLY_ADDS or value_bytes(net) > MOST_BYTES


def multiply_adds(net: Net) -> int:
    return sum(
        built.layer.multiply_adds([net.shape_of(b) for b in built.bottoms], built.shapes)
        for built in net.layers
        if built.layer is not None
    )


def value_bytes(net: Net) -> int:
    """The size of all values, with as many regions as the net may propose."""
    regions: dict[Version, int] = {}
    total = 0
    for built in net.layers:
        factor = max((regions.get(bottom, 1) for bottom in built.bottoms), default=1)
        if isinstance(built.layer, PROPOSALS):
            # A pair of scores for each anchor.
            anchors = prod(net.shape_of(built.bottoms[0])) // 2
            factor = max(1, min(built.layer.made.after, anchors) // built.shapes[0][0])
        regions.update(dict.fromkeys(built.tops, factor))
        total += sum(FLOAT_BYTES * prod(shape) * factor for shape in built.shapes)
    return total
