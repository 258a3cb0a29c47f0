"""The optimizer: clipping, normalisation and regularisation of gradients, and the update rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from caffecompat.errors import SolverError, UnknownName
from caffecompat.net import Learnable
from caffecompat.proto.schema import Message
from caffecompat.reporting.units import format_shape
from caffecompat.solver.diagnostics.nonfinite import array_is_finite
from caffecompat.solver.optim.rules import DeviceUpdate, UpdateRule
from caffecompat.weights import SolverState, match_shape


def _l2(gradients: list[Tensor], values: list[Tensor], decay: float) -> None:
    torch._foreach_add_(gradients, values, alpha=decay)


def _l1(gradients: list[Tensor], values: list[Tensor], decay: float) -> None:
    torch._foreach_add_(gradients, torch._foreach_sign(values), alpha=decay)


REGULARIZATIONS: dict[str, Callable[[list[Tensor], list[Tensor], float], None]] = {
    "L1": _l1,
    "L2": _l2,
}


@dataclass
class _Group:
    """Parameters with the same multipliers, updated by the same few operations.

    ``members`` are their positions among all parameters; ``rate`` is a 0-axis tensor.
    """

    members: list[int]
    values: list[Tensor]
    history: list[list[Tensor]]
    lr_mult: np.float32
    decay: float
    rate: Tensor


class Optimizer:
    """Updates a net's learnable parameters.

    The order is Caffe's: clip the summed gradients, divide them by ``iter_size``, add the
    regularisation, let the rule compute the updates, subtract them. These are a few
    multi-tensor operations per group of equal ``lr_mult`` and ``decay_mult``; the host never waits
    for the device, and the rate is a tensor.

    Args:
        kernel: compute updates by a Triton kernel where the rule has one.

    Attributes:
        history: the rule's arrays in the order of Caffe's solver states.
    """

    def __init__(
        self,
        learnable: Sequence[Learnable],
        rule: UpdateRule,
        message: Message,
        place: str,
        kernel: bool = False,
    ) -> None:
        if message.regularization_type not in REGULARIZATIONS:
            name = message.regularization_type
            raise UnknownName("regularization_type", name, REGULARIZATIONS, place)
        self._regularize = REGULARIZATIONS[message.regularization_type]
        self._learnable = list(learnable)
        self._values = [entry.tensor for entry in learnable]
        self._rule = rule
        self._kernel = kernel
        self._clip = float(message.clip_gradients)
        self._passes = int(message.iter_size)
        self._keep = bool(message.snapshot_diff)
        self._zero_gradients: dict[int, Tensor] = {}
        self._last: dict[int, Tensor] = {}
        self.history = [
            torch.zeros_like(v) for _ in range(rule.history_slots) for v in self._values
        ]
        self._groups = self._make_groups(np.float32(message.weight_decay))

    def _make_groups(self, weight_decay: np.float32) -> list[_Group]:
        members: dict[tuple[float, float], list[int]] = {}
        for i, entry in enumerate(self._learnable):
            members.setdefault((entry.lr_mult, entry.decay_mult), []).append(i)
        count = len(self._values)
        return [
            _Group(
                which,
                [self._values[i] for i in which],
                [
                    [self.history[b * count + i] for i in which]
                    for b in range(self._rule.history_slots)
                ],
                np.float32(lr_mult),
                float(weight_decay * np.float32(decay_mult)),
                torch.zeros((), device=self._values[which[0]].device),
            )
            for (lr_mult, decay_mult), which in members.items()
        ]

    @torch.no_grad()
    def clear(self, in_place: bool = False, replaced: bool = False) -> None:
        """Clears all gradients, before the first pass of an iteration.

        Args:
            in_place: fill them with zeros. Otherwise ``.grad`` becomes None, and the next pass
                assigns new tensors, which is faster than adding to zeros.
            replaced: leave them, since the next pass overwrites them.
        """
        if not in_place:
            for entry in self._learnable:
                entry.tensor.grad = None
        present = [] if replaced else self.gradients
        present += self._zero_gradients.values()
        if present:
            torch._foreach_zero_(present)

    @property
    def obstacle(self) -> str:
        """What keeps the update from being work of the device alone; empty if nothing does."""
        if not self._rule.updates_on_device:
            return f"type {self._rule.type}"
        if self._clip >= 0:
            return "clip_gradients"
        if self._keep:
            return "snapshot_diff"
        if self._regularize is not _l2 and any(group.decay for group in self._groups):
            return "regularization_type"
        return ""

    @property
    def gradients(self) -> list[Tensor]:
        """The gradients that the last passes have computed."""
        return [e.tensor.grad for e in self._learnable if e.tensor.grad is not None]

    @torch.no_grad()
    def set_rates(self, rate: np.float32, iteration: int) -> None:
        """Writes the rate of ``iteration`` to the device, for :meth:`apply_on_device`."""
        factor = np.float32(self._rule.rate_factor(iteration))
        for group in self._groups:
            group.rate.fill_(float(rate * group.lr_mult * factor))

    @property
    def writes_copies(self) -> bool:
        """Whether :meth:`apply_on_device` takes copies in 16 bits."""
        return self._rule.writes_copies

    @torch.no_grad()
    def apply_on_device(
        self, skip: Tensor | None, copies: Mapping[int, Tensor] = MappingProxyType({})
    ) -> None:
        """The update with the rates of :meth:`set_rates`, by operations of the device alone.

        Args:
            skip: one number; unless it is 0, nothing changes.
            copies: of parameters, by position, in 16 bits: they hold the gradients of these, and
                are updated with them.
        """
        gradients = [self._gradient(i, copies.get(i)) for i in range(len(self._values))]
        for group in self._groups:
            halves = [copies.get(i) for i in group.members] if copies else []
            given = DeviceUpdate(group.rate, skip, group.decay, self._kernel, halves)
            own = [gradients[i] for i in group.members]
            self._rule.update_on_device(group.values, own, group.history, given)

    @torch.no_grad()
    def apply(self, rate: np.float32, iteration: int, skip: Tensor | None = None) -> Tensor | None:
        """Updates the parameters from the gradients of ``iter_size`` passes.

        Args:
            rate: the learning rate of this iteration.
            iteration: counted from 0.
            skip: one number on the device; unless it is 0, nothing changes. Only where there is no
                :attr:`obstacle`.

        Returns:
            The norm of all gradients as a 0-axis tensor; None without ``clip_gradients``.
        """
        gradients = [self._gradient(i) for i in range(len(self._values))]
        if not gradients:
            return None
        norm = self._clip_gradients(gradients)
        if self._passes > 1:
            torch._foreach_mul_(gradients, float(np.float32(1) / np.float32(self._passes)))
        if skip is not None or (self._kernel and not self.obstacle):
            # The same operations as in a CUDA graph, so that both make the same updates.
            self.set_rates(rate, iteration)
            self.apply_on_device(skip)
            return norm
        factor = np.float32(self._rule.rate_factor(iteration))
        for group in self._groups:
            own = [gradients[i] for i in group.members]
            self._apply_group(group, own, float(rate * group.lr_mult * factor))
        return norm

    def _apply_group(self, group: _Group, gradients: list[Tensor], rate: float) -> None:
        updates: list[Tensor] | None = None
        if group.decay == 0 or self._regularize is _l2:
            given = (group.values, gradients, group.history)
            updates = self._rule.update_at_once(*given, rate, group.decay)
        if updates is None:
            if group.decay != 0:
                self._regularize(gradients, group.values, group.decay)
            group.rate.fill_(rate)
            updates = self._rule.updates(gradients, group.history, group.rate)
            torch._foreach_sub_(group.values, updates)
        if self._keep:
            self._last.update(zip(group.members, updates, strict=True))

    def _clip_gradients(self, gradients: list[Tensor]) -> Tensor | None:
        if self._clip < 0:
            return None
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        scale = torch.where(norm > self._clip, self._clip / norm, torch.ones_like(norm))
        torch._foreach_mul_(gradients, scale)
        return norm

    def _gradient(self, i: int, copy: Tensor | None = None) -> Tensor:
        """The gradient of a parameter, which its copy holds if it has one; zeros if no pass has
        computed one.

        Regularisation applies to those too, and changes the second moments of some rules.
        """
        gradient = (self._learnable[i].tensor if copy is None else copy).grad
        if gradient is not None:
            return gradient
        if i not in self._zero_gradients:
            self._zero_gradients[i] = torch.zeros_like(self._values[i])
        return self._zero_gradients[i]

    def use_torch_operators(self) -> None:
        """Computes further updates without the Triton kernel."""
        self._kernel = False

    def keep_updates(self) -> None:
        """Keeps the updates of each iteration for :meth:`show_updates`, as ``snapshot_diff``."""
        self._keep = True

    @torch.no_grad()
    def show_updates(self) -> None:
        """Copies the last updates into the gradients, for snapshots with ``snapshot_diff``.

        Caffe computes updates in place of the gradients, so its files hold the updates.
        """
        for i, update in self._last.items():
            tensor = self._learnable[i].tensor
            if tensor.grad is not None:
                tensor.grad.copy_(update)
            elif tensor.requires_grad:
                # No pass has reached it: the update is that of the regularisation.
                tensor.grad = update.clone()

    def check(self, state: SolverState, place: str) -> None:
        """Checks that the history of a solver state fits, before a change.

        Args:
            place: the state's file, for messages.

        Raises:
            SolverError: number or shapes of the arrays differ, or sums of squares are negative;
                usually the state is of another net or another solver type.
        """
        if len(state.history) != len(self.history):
            raise SolverError(
                f"{place}: has {len(state.history)} history arrays, this solver "
                f"({self._rule.type}, {len(self._values)} parameters) needs {len(self.history)}. "
                "Is it the state of another net, or of another solver type?"
            )
        for i, (array, fitted) in enumerate(zip(state.history, self._fitted(state), strict=True)):
            if not array_is_finite(array):
                raise SolverError(
                    f"{place}: history array {i} has values that are not finite; the file is "
                    "damaged, or of a training that had diverged; give an earlier snapshot"
                )
            if i // len(self._values) in self._rule.squares and array.min(initial=0) < 0:
                raise SolverError(
                    f"{place}: history array {i} has values below 0, which {self._rule.type} never "
                    "stores: the state is of another solver type; resume with that type, or start "
                    "from its weights (--weights)"
                )
            if fitted is None:
                entry = self._learnable[i % len(self._values)]
                raise SolverError(
                    f"{place}: history array {i} is {format_shape(array.shape)}, parameter "
                    f"{entry.index} of layer {entry.layer!r} is "
                    f"{format_shape(self.history[i].shape)}. Is it the state of another net?"
                )

    @torch.no_grad()
    def restore(self, state: SolverState) -> None:
        """Copies the history of a solver state that :meth:`check` has accepted."""
        for target, array in zip(self.history, self._fitted(state), strict=True):
            if array is not None:
                # Copied first: arrays of a memory-mapped file may be at unaligned addresses.
                target.copy_(torch.from_numpy(np.array(array, dtype=np.float32)))

    def _fitted(self, state: SolverState) -> list[np.ndarray | None]:
        """The state's arrays in the shapes of :attr:`history`; None where one does not fit."""
        return [
            match_shape(array, legacy, tuple(target.shape))
            for array, legacy, target in zip(state.history, state.legacy, self.history, strict=True)
        ]
