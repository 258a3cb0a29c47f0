"""A diagram as text for graphviz.

Every name is written as a quoted string whose backslashes are doubled, since graphviz replaces
``\\N``, ``\\G`` and others in labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from caffecompat.draw.diagram import Diagram, DrawnLayer
from caffecompat.draw.kinds import UNKNOWN
from caffecompat.draw.layer_boxes import boxes_of

# Kind -> fill and border.
_COLOURS: Mapping[str, tuple[str, str]] = {
    "data": ("#e9ecf1", "#6b7a90"),
    "convolution": ("#dfe9f6", "#3d6fb6"),
    "product": ("#eae4f4", "#7a5bb0"),
    "pooling": ("#f6e2dd", "#b5533c"),
    "activation": ("#f7eed9", "#b98a1d"),
    "normalisation": ("#dff0e8", "#3f8f6b"),
    "join": ("#dceef1", "#35889c"),
    "loss": ("#f5dfea", "#b0457b"),
    "score": ("#e6ecdc", "#56703a"),
    "other": ("#eeecea", "#77706a"),
    UNKNOWN: ("#fdecea", "#b3261e"),
}


@dataclass(frozen=True)
class DotOptions:
    """How the picture looks.

    Attributes:
        rankdir: the direction of the arrows: TB, LR, BT or RL.
        learning_rates: show the lr_mult of parameters where it is not 0.
    """

    rankdir: str = "TB"
    learning_rates: bool = False


def dot_text(diagram: Diagram, options: DotOptions) -> str:
    """The drawing in graphviz's language: a box for each layer, shapes on the arrows."""
    boxes = boxes_of(diagram.layers)
    lines = [
        "digraph net {",
        f"  label={_quoted(_title(diagram))}; labelloc=t; fontname=Helvetica;",
        f"  rankdir={options.rankdir}; ranksep=0.35; nodesep=0.25;",
        '  node [shape=box, style="filled,rounded", fontname=Helvetica, fontsize=11];',
        '  edge [fontname=Helvetica, fontsize=9, color="#7b8594", fontcolor="#5d6877"];',
    ]
    for number, members in enumerate(boxes.members):
        layers = [diagram.layers[position] for position in members]
        lines.append(f"  b{number} [{_node(layers, options)}];")
    for edge in boxes.edges:
        label = edge.blob if not edge.shape else f"{edge.blob} {edge.shape}"
        lines.append(f"  b{edge.start} -> b{edge.end} [label={_quoted(label)}];")
    return "\n".join([*lines, "}", ""])


def _title(diagram: Diagram) -> str:
    parts = [diagram.title, f"phase {diagram.phase}", f"{diagram.parameter_count:,} parameters"]
    return ", ".join(parts)


def _node(layers: list[DrawnLayer], options: DotOptions) -> str:
    problem = any(layer.problem for layer in layers)
    fill, border = _COLOURS[UNKNOWN if problem else layers[0].kind]
    rows = [row for layer in layers for row in _rows(layer, options)]
    ends = [top.shape for top in layers[-1].tops]
    if any(shape is None for shape in ends):
        rows.append("shape unknown")
    look = f'fillcolor="{fill}", color="{border}"' + (', style="filled,dashed"' if problem else "")
    return f"label={_quoted(chr(10).join(rows))}, {look}"


def _rows(layer: DrawnLayer, options: DotOptions) -> list[str]:
    rows = [layer.name, f"{layer.type} {layer.geometry}".rstrip()]
    if layer.parameter_count:
        rows.append(f"{layer.parameter_count:,} parameters")
    rates = [f"{p.lr_mult:g}" for p in layer.parameters if p.lr_mult]
    if options.learning_rates and rates:
        rows.append(f"lr_mult {', '.join(rates)}")
    if layer.problem:
        rows.append("cannot be built")
    return rows


def _quoted(text: str) -> str:
    """A string of graphviz's language, characters that cannot be printed replaced."""
    kept = "".join(
        c if c.isprintable() or c in "\n " else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    escaped = kept.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    # graphviz reads entities of HTML in labels.
    return f'"{escaped.replace("&", "&amp;")}"'
