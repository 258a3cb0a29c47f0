"""All changes of a net's graph, in their order."""

from __future__ import annotations

from caffecompat.errors import NetError
from caffecompat.inference.torch_graph.channels_last import use_channels_last
from caffecompat.inference.torch_graph.folding import fold
from caffecompat.inference.torch_graph.fusing import fuse
from caffecompat.inference.torch_graph.graph import InferenceGraph, OptimizedProgram
from caffecompat.inference.torch_graph.half import use_half
from caffecompat.inference.torch_graph.merging import merge
from caffecompat.inference.torch_graph.packing import pack
from caffecompat.inference.torch_graph.removal import remove_identities
from caffecompat.net import Net
from caffecompat.net.execution.inference import InferenceOptions, Optimization


def rewritten(net: Net, options: InferenceOptions) -> Optimization:
    """A rewritten fx graph whose convolutions run in oneDNN with packed weights.

    Works for every net, on every device; packing is for the CPU.

    Raises:
        NetError: the precision is int8.
    """
    if options.precision == "int8":
        raise NetError("engine torch has no int8; use engine onnxruntime or openvino")
    graph = InferenceGraph(net, options.blobs, options.shapes)
    lines = []
    if options.remove:
        lines.append(remove_identities(graph))
    if options.fold:
        lines.append(fold(graph))
    if options.fuse:
        lines.append(fuse(graph))
    if options.merge:
        lines.append(merge(graph))
    if options.channels_last:
        lines.append(use_channels_last(graph))
    precision, line = use_half(graph, options.precision)
    lines.append(line)
    if options.pack:
        lines.append(pack(graph, options.winograd))
    done = tuple(line for line in lines if line)
    return Optimization("torch", precision, done, OptimizedProgram(graph))
