"""Whether a training is played back as a CUDA graph, and whether the update is part of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from caffecompat.layers import Layer
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.proto.schema import Message
from caffecompat.solver.optim.policies import Policy
from caffecompat.solver.setup.compute import ComputeOptions


def obstacle_to_capture(
    layers: Sequence[BuiltLayer], device: torch.device, compute: ComputeOptions, world_size: int
) -> str:
    """Why the passes of a training are not captured, as a clause; empty if they can be tried.

    With ``cuda_graph`` True, which ``ComputeOptions.check`` has accepted, they are tried in any
    case.

    Args:
        layers: of the train net.
        device: of the net.
        world_size: the number of ranks.
    """
    if compute.cuda_graph is not None:
        return "" if compute.cuda_graph else "it is switched off"
    if device.type != "cuda":
        return "it needs a GPU"
    if world_size > 1:
        return "several ranks sum their gradients during the backward pass"
    if compute.compiled:
        return "the net is compiled; --cuda-graph does both"
    return next((clause for built in layers if (clause := _obstacle_in(built))), "")


def what_is_captured(outside: str) -> str:
    """A line for the log; ``outside`` is the clause of :func:`obstacle_to_update`."""
    if not outside:
        return "CUDA graph: the pass and the update are captured and played back"
    return (
        f"CUDA graph: the pass is captured and played back; the update is not part of it: {outside}"
    )


def _obstacle_in(built: BuiltLayer) -> str:
    """Why a layer's pass cannot be played back, or must not be run several times to capture it."""
    layer = built.layer
    if layer is None or built.source is not None:
        return ""
    if layer.keeps_state:
        return f"{built.place}: it keeps its state from pass to pass"
    if layer.imports_code or not layer.can_be_restored:
        return f"{built.place}: it runs code that may have effects outside of the net"
    if layer.uses_host:
        return f"{built.place}: a pass exchanges numbers with the host"
    if type(layer).infer is not Layer.infer:
        return f"{built.place}: the shapes of its tops depend on values, or it has other effects"
    return ""


def obstacle_to_update(
    message: Message, policy: Policy, compute: ComputeOptions, device: torch.device
) -> str:
    """Why the update stays outside of a captured pass, as a clause; empty if it may be part of it.

    The optimizer has further obstacles of its own.

    Args:
        message: a SolverParameter.
        policy: its learning-rate policy.
        device: of the net.
    """
    if message.iter_size > 1:
        return "iter_size"
    if policy.watches_loss:
        return "the rate depends on the loss"
    return "" if compute.kernels_on(device).update else "its kernel is not used"
