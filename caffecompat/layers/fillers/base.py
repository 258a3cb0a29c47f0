"""The registry of fillers and the function ``fill``, which applies them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from caffecompat.errors import LayerError
from caffecompat.proto.schema import Message
from caffecompat.registry import Registry

if TYPE_CHECKING:
    import torch

Filler: TypeAlias = "Callable[[Request], torch.Tensor]"

# Fields of forks in a FillerParameter that a filler here reads.
FORK_FIELDS = ("diag_val",)

fillers: Registry[Filler] = Registry("filler", "caffecompat.layers.fillers")


class Checked(Exception):
    """Ends a filler that was called for its checks, none of which failed."""


@dataclass(frozen=True)
class Request:
    """The arguments of a filler.

    Attributes:
        message: the FillerParameter.
        shape: shape of the parameter.
        generator: the CPU generator of all random values.
        place: the layer and the parameter, for messages.
        checks_only: the caller wants no values; see :meth:`empty`.
    """

    message: Message
    shape: tuple[int, ...]
    generator: torch.Generator
    place: str
    checks_only: bool = False

    @property
    def fan(self) -> float:
        """fan_in, fan_out or their mean, as ``variance_norm`` says.

        fan_in is count / shape[0]; fan_out is count / shape[1], or count if there is one axis.
        This applies to all layer types, including those that store the weight transposed.
        """
        self.check(len(self.shape) > 0, "the parameter has no axes, so it has no fan")
        count = prod(self.shape)
        fan_in = count / self.shape[0]
        fan_out = count / self.shape[1] if len(self.shape) > 1 else float(count)
        norm = self.message.VarianceNorm.Name(self.message.variance_norm)
        return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[norm]

    def empty(self) -> torch.Tensor:
        """Memory for the values, which a filler asks for when all its checks are done."""
        import torch

        if self.checks_only:
            raise Checked
        return torch.empty(self.shape, dtype=torch.float32)

    def check(self, condition: bool, sentence: str) -> None:
        """Raises :class:`LayerError` with the filler's place unless ``condition`` is true."""
        if not condition:
            self.refuse(sentence)

    def refuse(self, sentence: str) -> NoReturn:
        where = f"{self.place}: " if self.place else ""
        raise LayerError(f"{where}filler {self.message.type!r}: {sentence}")


def register(name: str) -> Callable[[Filler], Filler]:
    """Function decorator that registers a filler under Caffe's name."""
    return fillers.register(name)


def fill(
    message: Message, shape: Sequence[int], generator: torch.Generator, place: str = ""
) -> torch.Tensor:
    """Initial values of a parameter: float32 on the CPU.

    Args:
        message: a FillerParameter.
        shape: shape of the parameter.
        generator: a CPU generator; the values are a pure function of its state.
        place: the layer and the parameter, for messages ("net.prototxt:41: layer 'conv1'").

    Raises:
        UnknownName: there is no such filler.
        LayerError: the filler cannot be used with these settings or this shape.
    """
    return _apply(Request(message, tuple(shape), generator, place))


def check_filler(message: Message, shape: Sequence[int], place: str = "") -> None:
    """Raises what :func:`fill` raises for these arguments, without making the values."""
    import torch

    with suppress(Checked):
        _apply(Request(message, tuple(shape), torch.Generator(), place, checks_only=True))


def _apply(request: Request) -> torch.Tensor:
    message = request.message
    filler = fillers.find(message.type, request.place)
    sparse_allowed = message.type == "gaussian"
    request.check(sparse_allowed or message.sparse == -1, "sparse is for gaussian only")
    return filler(request)
