"""The base class of learning-rate policies, and their registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from caffecompat.errors import SolverError
from caffecompat.proto.schema import Message
from caffecompat.registry import Registry
from caffecompat.weights import SolverState

policies: Registry[type[Policy]] = Registry("lr_policy", "caffecompat.solver.optim.policies")


def register(name: str) -> Callable[[type[Policy]], type[Policy]]:
    """Class decorator that registers a :class:`Policy` under its name in ``lr_policy``."""

    def enter(policy: type[Policy]) -> type[Policy]:
        policy.name = name
        return policies.register(name)(policy)

    return enter


class Policy:
    """The learning rate as a function of the iteration.

    A subclass reads its constants in :meth:`setup` and returns the rate in :meth:`rate`. Constants
    are float32 values, as the definition stores them; a policy rounds where Caffe rounds, so that
    rates are equal to the last bit.

    Attributes:
        name: value of ``lr_policy``, set by :func:`register`.
        fork_fields: fields of forks in the SolverParameter that the policy reads.
        status: start of the log line about a change of ``step``; empty for no line.
        watches_loss: whether :meth:`observe` is called with the loss of every iteration.
        metric: the output of a test net with which :meth:`observe` is called after every test.
        step: the counter that solver states hold as ``current_step``; :meth:`rate` may change it.
        base_lr: ``base_lr`` of the definition.
        place: the definition's file, for messages.
    """

    name: ClassVar[str] = ""
    fork_fields: ClassVar[tuple[str, ...]] = ()
    status: ClassVar[str] = ""
    watches_loss: bool = False
    metric: str | None = None

    def __init__(self, message: Message, place: str) -> None:
        self.place = place
        self.base_lr = np.float32(message.base_lr)
        self.step = 0
        self.setup(message)

    def setup(self, message: Message) -> None:
        """Reads the SolverParameter ``message``; raises for impossible values."""

    def rate(self, iteration: int) -> np.float32:
        """The rate that the update of ``iteration`` (counted from 0) uses."""
        raise NotImplementedError

    def observe(self, iteration: int, value: float) -> None:
        """Gets the watched value, before :meth:`rate` is called for ``iteration``.

        Args:
            iteration: counted from 0.
            value: a loss, or a score of the test before this iteration; lower is better. Scores
                for which higher is better are negated.
        """

    def save(self, state: SolverState) -> None:
        """Writes the policy's state into a solver state."""
        state.current_step = self.step

    def load(self, state: SolverState) -> None:
        """Restores the policy's state from a solver state."""
        self.step = state.current_step

    def check(self, condition: bool, sentence: str) -> None:
        """Raises :class:`SolverError` with the policy's place unless ``condition`` holds."""
        if not condition:
            raise SolverError(f'{self.place}: lr_policy "{self.name}": {sentence}')


def decayed(base: np.float32, gamma: np.float32, exponent: int) -> np.float32:
    """``base * gamma ** exponent`` in double precision, rounded once."""
    return np.float32(float(base) * power(gamma, exponent))


def power(base: np.float32, exponent: float) -> float:
    """``base ** exponent`` in double precision, with C's infinities and NaNs, never an error."""
    with np.errstate(all="ignore"):
        return float(np.power(np.float64(base), np.float64(exponent)))
