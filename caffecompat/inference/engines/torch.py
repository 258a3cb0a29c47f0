"""torch: the net's own operators, rewritten."""

from __future__ import annotations

from dataclasses import replace

from caffecompat.inference.timing import one_pass
from caffecompat.inference.torch_graph.rewriting import rewritten
from caffecompat.large_pages import collapse_parameters, large_pages
from caffecompat.net import Net
from caffecompat.net.execution.inference import (
    InferenceOptions,
    Optimization,
    inference_engines,
)


@inference_engines.register("torch")
def optimize(net: Net, options: InferenceOptions) -> Optimization:
    """The net's fx graph with packed weights, in large pages on the CPU.

    Raises:
        NetError: the precision is int8.
    """
    if net.device.type != "cpu" or not options.large_pages:
        return rewritten(net, options)
    with large_pages() as pages:
        made = rewritten(net, options)
        # Its blobs take the memory that later passes take again.
        one_pass(net, made.program, options.shapes)
    pages.bytes += collapse_parameters(net)
    return replace(made, lines=(*made.lines, *filter(None, [str(pages)])))
