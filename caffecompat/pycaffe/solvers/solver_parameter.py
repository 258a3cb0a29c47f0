"""The settings that ``solver.param`` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from caffecompat.errors import CaffeError
from caffecompat.proto.schema import Message

BASE_RATE = "base_lr"


class FixedSetting(CaffeError, AttributeError):
    """A setting of a solver that cannot be changed once the solver is built."""


class SolverParameter:
    """All fields of a solver's definition. Only ``base_lr`` can be set; the next update uses it.

    Args:
        message: the SolverParameter.
        set_base_rate: gets each new ``base_lr``.
    """

    def __init__(self, message: Message, set_base_rate: Callable[[float], None]) -> None:
        vars(self).update(_message=message, _set_base_rate=set_base_rate)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # as when it is copied
            raise AttributeError(name)
        return getattr(self._message, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets ``base_lr``.

        Raises:
            FixedSetting (an AttributeError): it is another field, or no field.
        """
        if name != BASE_RATE:
            raise FixedSetting(
                f"solver.param.{name} cannot be set, only {BASE_RATE}: change the definition and "
                "build the solver again"
            )
        self._message.base_lr = value
        self._set_base_rate(self._message.base_lr)

    def __dir__(self) -> list[str]:
        return [field.name for field in self._message.DESCRIPTOR.fields]

    def __str__(self) -> str:
        return str(self._message)

    def __repr__(self) -> str:
        return repr(self._message)
