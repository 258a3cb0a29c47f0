"""torch: the net's own operators, rewritten."""

from __future__ import annotations

from dataclasses import replace

import torch

from caffecompat.errors import CaffeError
from caffecompat.inference.large_pages import collapse, large_pages
from caffecompat.inference.timing import example_feeds
from caffecompat.inference.torch_graph.rewriting import rewritten
from caffecompat.net import Net
from caffecompat.net.execution.inference import (
    InferenceOptions,
    InferenceProgram,
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
        _pass(net, options, made.program)
    own = [(p.data_ptr(), p.data_ptr() + p.nbytes) for p in net.parameters()]
    pages.bytes += collapse(own)
    return replace(made, lines=(*made.lines, *filter(None, [str(pages)])))


def _pass(net: Net, options: InferenceOptions, program: InferenceProgram) -> None:
    reads = any(built.source and not built.source.is_input for built in net.layers)
    if reads or any(built.layer and built.layer.keeps_state for built in net.layers):
        return
    try:
        with torch.no_grad():
            program(example_feeds(net, options.shapes))
    except (CaffeError, RuntimeError):
        return  # The user's own pass says why.
