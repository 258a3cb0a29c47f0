"""Automatic Split layers: each reader of a blob with several readers gets its own alias.

Layer and blob names are Caffe's, so that blobs are found by name and weight files are equal.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from caffecompat.graph.graph import LayerNode, Version
from caffecompat.proto import schema

# The one layer type that a net adds by itself. Graphs are built without layer classes.
AUTOMATIC_TYPE = "Split"


def insert_splits(nodes: list[LayerNode], notes: list[str], phase: str) -> list[LayerNode]:
    """The nodes with a Split after every top that has more than one reader.

    An explicit non-zero loss weight counts as a reader. It moves to the split's first top, and the
    layer loses all its ``loss_weight`` values, as in Caffe; a loss layer then has its default
    weight of 1. Source of names and counts: Caffe's InsertSplits.

    Args:
        nodes: the nodes, with bottoms and tops.
        notes: a sentence is appended for each layer that loses weights.
        phase: the net's, which splits have, also those of layers with a phase of their own.
    """
    readers = Counter(bottom for node in nodes for bottom in node.bottoms)
    weights = {
        top: weight
        for node in nodes
        for top, weight in zip(node.tops, node.loss_weights, strict=False)
        if weight
    }
    readers.update(weights.keys())
    split = {top for top, count in readers.items() if count > 1}
    producers = {
        top: (node, i) for node in nodes for i, top in enumerate(node.tops) if top in split
    }
    used: Counter[Version] = Counter({top: 1 for top in split if top in weights})

    result: list[LayerNode] = []
    for node in nodes:
        bottoms = []
        for bottom in node.bottoms:
            if bottom in split:
                source, position = producers[bottom]
                bottoms.append(
                    Version(split_blob(bottom.blob, source.name, position, used[bottom]))
                )
                used[bottom] += 1
            else:
                bottoms.append(bottom)
        moved = [top for top in node.tops if top in split and top in weights]
        if moved:
            _note_lost_weights(node, moved, notes)
        kept = () if moved else node.loss_weights
        result.append(replace(node, index=len(result), bottoms=tuple(bottoms), loss_weights=kept))
        for position, top in enumerate(node.tops):
            if top in split:
                split_node = _split_node(node, position, readers[top], weights.get(top, 0.0))
                result.append(replace(split_node, index=len(result), phase=phase))
    return result


def split_layer(blob: str, layer: str, position: int) -> str:
    """The name of the Split after top ``position`` of ``layer``."""
    return f"{blob}_{layer}_{position}_split"


def split_blob(blob: str, layer: str, position: int, reader: int) -> str:
    """The name of the split's top for reader number ``reader``."""
    return f"{split_layer(blob, layer, position)}_{reader}"


def _split_node(source: LayerNode, position: int, readers: int, loss_weight: float) -> LayerNode:
    top = source.tops[position]
    message = schema.new("LayerParameter")
    message.name = split_layer(top.blob, source.name, position)
    message.type = AUTOMATIC_TYPE
    message.bottom.append(top.blob)
    names = [split_blob(top.blob, source.name, position, reader) for reader in range(readers)]
    message.top.extend(names)
    if loss_weight:
        message.loss_weight.extend([loss_weight] + [0.0] * (readers - 1))
    return LayerNode(
        index=source.index,
        name=message.name,
        type=AUTOMATIC_TYPE,
        message=message,
        phase=source.phase,
        place=f"{source.place}, split of top {top.blob!r}",
        bottoms=(top,),
        tops=tuple(Version(name) for name in names),
        loss_weights=tuple(message.loss_weight),
        automatic=True,
        location=source.location,
    )


def _note_lost_weights(node: LayerNode, moved: list[Version], notes: list[str]) -> None:
    given = zip(node.tops, node.loss_weights, strict=False)
    lost = [f"{weight:g} of {str(top)!r}" for top, weight in given if weight and top not in moved]
    if lost:
        notes.append(
            f"{node.place}: its loss_weight {', '.join(lost)} has no effect, as in Caffe: another "
            f"layer reads {str(moved[0])!r}, and with the loss_weight of such a top those of the "
            "layer's other tops are dropped"
        )
