"""How much memory a training needs, found by following what autograd keeps on ``meta`` tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import torch

from caffecompat.errors import CaffeError
from caffecompat.net import Net
from caffecompat.net.build import BuiltLayer

_BYTES = 4


@dataclass(frozen=True)
class Footprint:
    """Bytes that a training needs on its device.

    Attributes:
        parameters, gradients, history: of all learnable parameters.
        moments: what a pass takes at each of its moments, in two parts: values and gradients of
            blobs, which grow with the batch, and new gradients of parameters, which do not.
        scratch: what the update takes for a moment.
    """

    parameters: int
    gradients: int
    history: int
    moments: tuple[tuple[int, int], ...]
    scratch: int

    @property
    def activations(self) -> int:
        """The most that a pass takes at any moment."""
        return max((blobs + own for blobs, own in self.moments), default=0)

    def divided(self, parts: int) -> Footprint:
        """The need with a batch that is ``parts`` times smaller."""
        return replace(self, moments=tuple((blobs // parts, own) for blobs, own in self.moments))

    @property
    def fixed(self) -> int:
        """What does not depend on the batch."""
        return self.parameters + self.gradients + self.history

    @property
    def total(self) -> int:
        return self.fixed + max(self.activations, self.scratch)


def footprint(net: Net, blocks: int, scratch: bool) -> Footprint:
    """The need of a training of ``net``, which may have been built for its shapes only.

    Args:
        blocks: history arrays per parameter.
        scratch: the update rule makes an array per parameter on its way.
    """
    learnable = net.learnable
    sizes = [_BYTES * entry.tensor.numel() for entry in learnable]
    learned = [size for size, e in zip(sizes, learnable, strict=True) if e.lr_mult != 0]
    return Footprint(
        sum(sizes),
        sum(learned),
        blocks * sum(sizes),
        tuple(_moments(net)),
        sum(sizes) if scratch else 0,
    )


def _moments(net: Net) -> Iterator[tuple[int, int]]:
    """Bytes while the backward pass is at each layer; a forward pass takes no more."""
    try:
        kept = _what_is_kept(net)
    except (CaffeError, RuntimeError, NotImplementedError, TypeError):
        # Layers whose shapes depend on values cannot run on meta; every blob and its gradient is
        # a fair guess then.
        yield 2 * sum(_size(shape) for built in net.layers for shape in built.shapes), 0
        return
    for i, built in enumerate(net.layers):
        alive = sum(size for size, first in kept.values() if first <= i)
        tops = sum(_size(shape) for shape in built.shapes)
        bottoms = sum(_size(net.shape_of(bottom)) for bottom in built.bottoms)
        own = sum(_BYTES * blob.numel() for blob in built.module.blobs()) if built.module else 0
        yield alive + tops + bottoms, own


@dataclass
class _Ledger:
    """Storages that autograd keeps: bytes and the first layer that keeps them."""

    kept: dict[int, tuple[int, int]] = field(default_factory=dict)
    held: list[torch.Tensor] = field(default_factory=list)
    layer: int = 0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        self.kept.setdefault(storage._cdata, (storage.nbytes(), self.layer))
        # While it is held no other storage gets its number.
        self.held.append(tensor)
        return tensor


def _what_is_kept(net: Net) -> dict[int, tuple[int, int]]:
    ledger = _Ledger()
    program = net.program()
    feeds = [torch.empty(net.shape_of(top), device="meta") for top in program.feeds]
    hooks = torch.autograd.graph.saved_tensors_hooks(ledger.pack, lambda tensor: tensor)
    with _counting_layers(net.layers, ledger), _learning(net), hooks:
        result = program(feeds)
    parameters = {blob.untyped_storage()._cdata for blob in [*net.parameters(), *net.buffers()]}
    del result
    return {key: entry for key, entry in ledger.kept.items() if key not in parameters}


@contextmanager
def _counting_layers(layers: list[BuiltLayer], ledger: _Ledger) -> Iterator[None]:
    handles = []
    for i, built in enumerate(layers):
        if built.module is not None:

            def enter(module: object, arguments: object, i: int = i) -> None:
                ledger.layer = i

            handles.append(built.module.register_forward_pre_hook(enter))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _learning(net: Net) -> Iterator[None]:
    """Lets the parameters of a net that was built for its shapes want gradients."""
    changed = [
        entry.tensor
        for entry in net.learnable
        if entry.lr_mult != 0 and not entry.tensor.requires_grad
    ]
    for tensor in changed:
        tensor.requires_grad_(True)
    try:
        yield
    finally:
        for tensor in changed:
            tensor.requires_grad_(False)


def _size(shape: tuple[int, ...]) -> int:
    return _BYTES * prod(shape)


def available(device: torch.device) -> int | None:
    """Bytes that a training may still take on ``device``; None where nobody can tell."""
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
    """What a cgroup still allows; its limit is often far below the machine's memory."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text().strip()
        return None if limit == "max" else int(limit) - int(used)
    except (OSError, ValueError):
        return None
