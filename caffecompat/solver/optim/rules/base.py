"""The base class of update rules, and their registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from torch import Tensor

from caffecompat.errors import SolverError
from caffecompat.proto.schema import Message
from caffecompat.registry import Registry

Tensors: TypeAlias = list[Tensor]

rules: Registry[type[UpdateRule]] = Registry("solver type", "caffecompat.solver.optim.rules")


def register(name: str) -> Callable[[type[UpdateRule]], type[UpdateRule]]:
    """Class decorator that registers an :class:`UpdateRule` under the solver's ``type``."""

    def enter(rule: type[UpdateRule]) -> type[UpdateRule]:
        rule.type = name
        return rules.register(name)(rule)

    return enter


@dataclass(frozen=True)
class DeviceUpdate:
    """What an update reads on the device.

    Attributes:
        rate: 0-axis tensor.
        skip: a tensor of one number; unless it is 0, nothing changes. None to update always.
        decay: of the L2 regularisation.
        kernel: compute it by the Triton kernel.
        copies: the copy of each parameter in 16 bits, which the update writes too, or None; empty
            if there are none. Only for a rule that :attr:`UpdateRule.writes_copies`.
    """

    rate: Tensor
    skip: Tensor | None
    decay: float
    kernel: bool
    copies: Sequence[Tensor | None] = ()


class UpdateRule:
    """Computes the updates, which are subtracted from the parameters, from the gradients.

    A rule gets lists of tensors and processes a whole list at once; clipping, regularisation and
    solver states are not part of it. :meth:`updates` runs on the device only, so that a step can
    be captured.

    Attributes:
        type: Caffe's name, set by :func:`register`.
        history_slots: history arrays per parameter. States hold the first array of every parameter,
            then the second of every parameter.
        squares: which of them hold sums of squares, which are never negative.
        writes_copies: :meth:`update_on_device` writes the copies of its argument.
        place: the solver's file, for messages.
    """

    type: ClassVar[str] = ""
    history_slots: ClassVar[int] = 1
    squares: ClassVar[tuple[int, ...]] = ()
    writes_copies: ClassVar[bool] = False

    def __init__(self, message: Message, place: str) -> None:
        self.place = place
        self.momentum = float(message.momentum)
        self.delta = float(message.delta)
        self.setup(message)

    def setup(self, message: Message) -> None:
        """Reads further constants of the SolverParameter ``message``; checks them."""

    def rate_factor(self, iteration: int) -> float:
        """The factor of the rate of ``iteration``, applied before :meth:`updates` gets it."""
        return 1.0

    def updates(self, gradients: Tensors, history: Sequence[Tensors], rate: Tensor) -> Tensors:
        """The updates to subtract from the parameters; changes ``history`` in place.

        Args:
            gradients: one tensor per parameter; may be overwritten.
            history: ``history_slots`` lists, each with one tensor per parameter.
            rate: 0-axis tensor on the parameters' device.

        Returns:
            One tensor per parameter; they may be the gradients or the history themselves.
        """
        raise NotImplementedError

    def update_at_once(
        self,
        values: Tensors,
        gradients: Tensors,
        history: Sequence[Tensors],
        rate: float,
        decay: float,
    ) -> Tensors | None:
        """A whole update with L2 regularisation in one operation, if torch has one.

        Equal to adding ``decay`` times the values to the gradients, :meth:`updates`, and
        subtracting its result from the values, within rounding.

        Returns:
            The updates that were subtracted; None if nothing was done.
        """
        return None

    @property
    def updates_on_device(self) -> bool:
        """Whether the rule's own class, not one that it derives from, has the method below."""
        return "update_on_device" in vars(type(self))

    def update_on_device(
        self, values: Tensors, gradients: Tensors, history: Sequence[Tensors], given: DeviceUpdate
    ) -> None:
        """A whole update with L2 regularisation whose rate and flag the device reads.

        A CUDA graph that holds it thus makes the update of the iteration in which it is played
        back. Equal to :meth:`updates` within rounding.
        """
        raise NotImplementedError

    def check(self, condition: bool, sentence: str) -> None:
        """Raises :class:`SolverError` with the rule's place unless ``condition`` holds."""
        if not condition:
            raise SolverError(f"{self.place}: solver type {self.type}: {sentence}")
