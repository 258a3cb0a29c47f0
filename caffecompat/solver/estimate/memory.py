"""How much memory a training needs, found by following what autograd keeps on ``meta`` tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from caffecompat.errors import CaffeError
from caffecompat.net import Net
from caffecompat.net.build import BuiltLayer

_BYTES = 4
# The operations of our layers that torch.autocast runs in 16 bits, and those in fp32.
_IN_HALF = {"conv1d", "conv2d", "conv3d", "linear", "einsum", "matmul"}
_IN_HALF |= {f"conv_transpose{axes}d" for axes in (1, 2, 3)}
_IN_FLOAT = {"pow", "__pow__", "exp", "log", "softmax", "log_softmax", "softplus", "sum", "cumsum"}
_IN_FLOAT |= {"binary_cross_entropy_with_logits"}


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


def footprint(net: Net, blocks: int, scratch: bool, half: torch.dtype | None = None) -> Footprint:
    """The need of a training of ``net``, which may have been built for its shapes only.

    Args:
        blocks: history arrays per parameter.
        scratch: the update rule makes an array per parameter on its way.
        half: what autocast computes products in, None without it.
    """
    learnable = net.learnable
    sizes = [_BYTES * entry.tensor.numel() for entry in learnable]
    learned = [size for size, e in zip(sizes, learnable, strict=True) if e.lr_mult != 0]
    return Footprint(
        sum(sizes),
        sum(learned),
        blocks * sum(sizes),
        tuple(_moments(net, half)),
        sum(sizes) if scratch else 0,
    )


def _moments(net: Net, half: torch.dtype | None) -> Iterator[tuple[int, int]]:
    """Bytes while the backward pass is at each layer; a forward pass takes no more."""
    try:
        ledger = _what_is_kept(net, half)
    except (CaffeError, RuntimeError, NotImplementedError, TypeError):
        # Layers whose shapes depend on values cannot run on meta; every blob and its gradient is
        # a fair guess then.
        yield 2 * sum(_size(shape) for built in net.layers for shape in built.shapes), 0
        return
    for i, built in enumerate(net.layers):
        alive = sum(size for size, first in ledger.kept.values() if first <= i)
        own = sum(_BYTES * blob.numel() for blob in built.module.blobs()) if built.module else 0
        yield alive + ledger.around.get(i, 0), own + ledger.copies


@dataclass
class _Ledger:
    """What a pass takes.

    Attributes:
        kept: storages that autograd keeps: bytes and the first layer that keeps them.
        around: bytes of the bottoms and tops of each layer.
        copies: bytes of the parameters that autocast has copied.
        held: all tensors that were kept.
        layer: the one that runs.
    """

    kept: dict[int, tuple[int, int]] = field(default_factory=dict)
    around: dict[int, int] = field(default_factory=dict)
    copies: int = 0
    held: list[torch.Tensor] = field(default_factory=list)
    layer: int = 0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        self.kept.setdefault(storage._cdata, (storage.nbytes(), self.layer))
        # While it is held no other storage gets its number.
        self.held.append(tensor)
        return tensor


class _Autocast(TorchFunctionMode):
    """What torch.autocast does, which knows nothing of ``meta`` tensors; counts copies."""

    def __init__(self, half: torch.dtype) -> None:
        super().__init__()
        self._half = half
        self.copies: dict[int, torch.Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        wanted = self._half if name in _IN_HALF else torch.float32 if name in _IN_FLOAT else None
        if wanted is not None:
            args, kwargs = tree_map_only(
                torch.Tensor, lambda t: self._cast(t, wanted), (tuple(args), kwargs or {})
            )
        return func(*args, **(kwargs or {}))

    def _cast(self, tensor: torch.Tensor, wanted: torch.dtype) -> torch.Tensor:
        if tensor.dtype == wanted or not tensor.is_floating_point():
            return tensor
        if not tensor.is_leaf or not tensor.requires_grad:
            return tensor.to(wanted)
        return self.copies.setdefault(id(tensor), tensor.to(wanted))


def _what_is_kept(net: Net, half: torch.dtype | None) -> _Ledger:
    ledger = _Ledger()
    autocast = None if half is None else _Autocast(half)
    program = net.program()
    feeds = [torch.empty(net.shape_of(top), device="meta") for top in program.feeds]
    hooks = torch.autograd.graph.saved_tensors_hooks(ledger.pack, lambda tensor: tensor)
    with _counting_layers(net.layers, ledger), _learning(net), hooks, autocast or nullcontext():
        result = program(feeds)
    parameters = {blob.untyped_storage()._cdata for blob in [*net.parameters(), *net.buffers()]}
    del result
    if autocast is not None:
        parameters |= {copy.untyped_storage()._cdata for copy in autocast.copies.values()}
        ledger.copies = sum(copy.untyped_storage().nbytes() for copy in autocast.copies.values())
    ledger.kept = {key: entry for key, entry in ledger.kept.items() if key not in parameters}
    return ledger


@contextmanager
def _counting_layers(layers: list[BuiltLayer], ledger: _Ledger) -> Iterator[None]:
    handles = []
    for i, built in enumerate(layers):
        if built.module is not None:

            def enter(module: object, arguments: object, i: int = i) -> None:
                ledger.layer = i

            def leave(module: object, bottoms: Any, tops: Any, i: int = i) -> None:
                blobs = tree_leaves((bottoms, tops))
                ledger.around[i] = sum(b.numel() * b.element_size() for b in blobs)

            handles.append(built.module.register_forward_pre_hook(enter))
            handles.append(built.module.register_forward_hook(leave))
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
