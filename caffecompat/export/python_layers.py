"""Layers that run a user's Python code, which no other form has."""

from __future__ import annotations

from caffecompat.errors import ExportError
from caffecompat.export.model import CaffeModel
from caffecompat.export.outputs import output_flags
from caffecompat.layers import BuildOptions
from caffecompat.net.definition import graph_of
from caffecompat.net.layer_checks import layer_classes


def refuse_python_layers(model: CaffeModel) -> None:
    """Refuses a net in phase TEST whose layers need code of their own.

    Raises:
        ExportError: names them all, and the flags that leave them out.
        NetError: the definition is no graph, or has unknown layer types.
    """
    options = BuildOptions(dialect=model.definition.dialect)
    graph = graph_of(model.definition, "test", options)
    found = [
        node
        for node, layer_class in zip(graph, layer_classes(graph, options), strict=True)
        if layer_class is not None and layer_class.imports_code
    ]
    if not found:
        return
    names = ", ".join(f"{n.name!r} (module {n.message.python_param.module!r})" for n in found)
    flags = output_flags(graph, {node.name for node in found})
    way = f"; without them the net is converted with {flags}" if flags else ""
    raise ExportError(
        f"{model.path or 'the net'}: Python code, which is not converted and does not run here, "
        f"computes the layers {names}{way}"
    )
