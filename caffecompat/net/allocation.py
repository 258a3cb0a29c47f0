"""Free memory, and the errors of failed allocations."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch

from caffecompat.errors import LayerError, NetError
from caffecompat.layers import Shape
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.reporting.units import format_memory, format_shape

_BYTES = 4
# Libraries need some memory too, and free memory is fragmented.
_USABLE = 0.9
_CPU_ALLOCATOR = re.compile(r"can't allocate memory: you tried to allocate (\d+) bytes")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is a failed allocation, on the CPU or on a GPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _CPU_ALLOCATOR.search(str(error)) is not None


def zeros(
    built: BuiltLayer, shape: Shape, device: torch.device, layers: Sequence[BuiltLayer]
) -> torch.Tensor:
    """Allocates a top of ``built``, filled with zeros.

    Raises:
        LayerError: there is not enough memory; the message has the bytes and a batch size.
    """
    try:
        return torch.zeros(shape, device=device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise _too_large(built, shape, device, layers) from error


def parameter_too_large(
    built: BuiltLayer, name: str, shape: Shape, device: torch.device
) -> LayerError:
    """The error of a parameter that there is no memory for."""
    return LayerError(
        f"{built.place}: out of memory: {name} of {format_shape(shape)} needs "
        f"{format_memory(_BYTES * prod(shape))}{_free(device)}; is the layer's size right?"
    )


def explain_allocation(
    layers: Sequence[BuiltLayer], device: torch.device, error: BaseException
) -> NetError:
    """The error to show for a pass that ran out of memory."""
    found = _CPU_ALLOCATOR.search(str(error))
    wanted = int(found[1]) if found else None
    for built in layers:
        for shape in built.shapes:
            if wanted == _BYTES * prod(shape):
                return _too_large(built, shape, device, layers)
    amount = f", {format_memory(wanted)} were asked for" if wanted else ""
    return NetError(
        f"the pass failed: out of memory{amount}{_free(device)}{_fitting(layers, device)}"
    )


def _too_large(
    built: BuiltLayer, shape: Shape, device: torch.device, layers: Sequence[BuiltLayer]
) -> LayerError:
    return LayerError(
        f"{built.place}: out of memory: a blob of {format_shape(shape)} needs "
        f"{format_memory(_BYTES * prod(shape))}{_free(device)}{_fitting(layers, device)}"
    )


def _free(device: torch.device) -> str:
    free = available(device)
    return "" if free is None else f", {format_memory(free)} are free"


def _fitting(layers: Sequence[BuiltLayer], device: torch.device) -> str:
    """The remedy: a batch size with which all blobs fit into memory."""
    free = available(device)
    batch = next((b.shapes[0][0] for b in layers if b.source and b.shapes and b.shapes[0]), 0)
    blobs = sum(_BYTES * prod(shape) for built in layers for shape in built.shapes)
    training = any(built.node.phase == "TRAIN" for built in layers)
    if free is None or batch < 2 or not blobs:
        return "; make the net's blobs smaller"
    # A backward pass needs a gradient beside each value.
    fitting = int(_USABLE * free * batch / (blobs * (2 if training else 1)))
    if fitting < 1:
        return "; not even one image would fit"
    return f"; about batch_size {min(fitting, batch - 1)} would fit"


def available(device: torch.device) -> int | None:
    """The bytes that a training can still allocate on ``device``; None if unknown."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + int(unused)
    limits = [_free_ram(), _free_in_container()]
    known = [limit for limit in limits if limit is not None]
    return min(known, default=None)


def _free_ram() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _free_in_container() -> int | None:
    """The bytes left in the cgroup, whose limit is often far below the machine's memory."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text().strip()
        return None if limit == "max" else int(limit) - int(used)
    except (OSError, ValueError):
        return None
