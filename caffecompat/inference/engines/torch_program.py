"""torch: the net's own operators, rewritten."""

from __future__ import annotations

from caffecompat.inference.torch_graph.folding import fold
from caffecompat.inference.torch_graph.fusing import fuse
from caffecompat.inference.torch_graph.graph import InferenceGraph, OptimizedProgram
from caffecompat.inference.torch_graph.half import use_half
from caffecompat.inference.torch_graph.layout import use_channels_last
from caffecompat.inference.torch_graph.packing import pack
from caffecompat.inference.torch_graph.removal import remove_identities
from caffecompat.net import Net
from caffecompat.net.execution.inference import InferenceOptions, Optimization, inference_engines


@inference_engines.register("torch")
def optimize(net: Net, options: InferenceOptions) -> Optimization:
    """A rewritten fx graph whose convolutions run in oneDNN with packed weights.

    Works for every net, on every device; packing is for the CPU.
    """
    graph = InferenceGraph(net)
    lines = []
    if options.remove:
        lines.append(remove_identities(graph))
    if options.fold:
        lines.append(fold(graph))
    if options.fuse:
        lines.append(fuse(graph))
    if options.channels_last:
        lines.append(use_channels_last(graph))
    precision, line = use_half(graph, options.precision)
    lines.append(line)
    if options.pack:
        lines.append(pack(graph))
    done = tuple(line for line in lines if line)
    return Optimization("torch", precision, done, OptimizedProgram(graph))
