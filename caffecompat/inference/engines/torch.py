"""torch: the net's own operators, rewritten."""

from __future__ import annotations

from caffecompat.inference.torch_graph.rewriting import rewritten
from caffecompat.net.execution.inference import inference_engines

inference_engines.register("torch")(rewritten)
