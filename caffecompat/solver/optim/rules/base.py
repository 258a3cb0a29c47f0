"""The contract between an update rule and the solver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

from torch import Tensor

from caffecompat.errors import SolverError
from caffecompat.proto.schema import Message
from caffecompat.registry import Registry

Tensors: TypeAlias = list[Tensor]

rules: Registry[type[UpdateRule]] = Registry("solver type", "caffecompat.solver.optim.rules")


def register(name: str) -> Callable[[type[UpdateRule]], type[UpdateRule]]:
    """Class decorator that enters an :class:`UpdateRule` under the solver's ``type``."""

    def enter(rule: type[UpdateRule]) -> type[UpdateRule]:
        rule.type = name
        return rules.register(name)(rule)

    return enter


class UpdateRule:
    """What is subtracted from the parameters, given their gradients.

    A rule sees lists of tensors and works on a whole list at once; it knows nothing about
    clipping, regularisation, files or iterations. Everything it does in :meth:`updates` stays on
    the device, so that a step can be captured.

    Attributes:
        type: Caffe's name, set by :func:`register`.
        blocks: history arrays per parameter. States hold the first array of every parameter,
            then the second of every parameter.
        place: the solver's file, for messages.
    """

    type: ClassVar[str] = ""
    blocks: ClassVar[int] = 1

    def __init__(self, message: Message, place: str) -> None:
        self.place = place
        self.momentum = float(message.momentum)
        self.delta = float(message.delta)
        self.setup(message)

    def setup(self, message: Message) -> None:
        """Reads further constants of the SolverParameter ``message``, refuses impossible ones."""

    def rate_factor(self, iteration: int) -> float:
        """What the rate of ``iteration`` is multiplied with before :meth:`updates` sees it."""
        return 1.0

    def updates(self, gradients: Tensors, history: Sequence[Tensors], rate: Tensor) -> Tensors:
        """What to subtract from the parameters; advances ``history`` in place.

        Args:
            gradients: one tensor per parameter; may be overwritten.
            history: ``blocks`` lists, each with one tensor per parameter.
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
        """All of an update with L2 regularisation in one operation, where torch has one.

        The same as adding ``decay`` times the values to the gradients, :meth:`updates`, and
        subtracting what it gives from the values, within rounding.

        Returns:
            What was subtracted, as :meth:`updates`; None where nothing was done.
        """
        return None

    def check(self, condition: bool, sentence: str) -> None:
        """Raises :class:`SolverError` with the rule's place unless ``condition`` holds."""
        if not condition:
            raise SolverError(f"{self.place}: solver type {self.type}: {sentence}")
