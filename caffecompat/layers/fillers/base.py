"""The contract of fillers, and the one function that the rest of the house calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from caffecompat.errors import LayerError
from caffecompat.proto.schema import Message
from caffecompat.registry import Registry

if TYPE_CHECKING:
    import torch

Filler: TypeAlias = "Callable[[Request], torch.Tensor]"

fillers: Registry[Filler] = Registry("filler", "caffecompat.layers.fillers")


@dataclass(frozen=True)
class Request:
    """What a filler is asked for.

    Attributes:
        message: the FillerParameter.
        shape: shape of the parameter.
        generator: the only source of randomness, on the CPU.
        place: whose parameter it is, for messages.
    """

    message: Message
    shape: tuple[int, ...]
    generator: torch.Generator
    place: str

    @property
    def fan(self) -> float:
        """The number of connections that ``variance_norm`` names.

        fan_in is count / shape[0], fan_out is count / shape[1], or the count itself where there is
        one axis. So it is for every type of layer, also where the weight is stored transposed.
        """
        self.check(len(self.shape) > 0, "the parameter has no axes, so it has no fan")
        count = prod(self.shape)
        fan_in = count / self.shape[0]
        fan_out = count / self.shape[1] if len(self.shape) > 1 else float(count)
        norm = self.message.VarianceNorm.Name(self.message.variance_norm)
        return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[norm]

    def empty(self) -> torch.Tensor:
        import torch

        return torch.empty(self.shape, dtype=torch.float32)

    def check(self, condition: bool, sentence: str) -> None:
        """Raises :class:`LayerError` with the filler's place unless ``condition`` holds."""
        if not condition:
            self.refuse(sentence)

    def refuse(self, sentence: str) -> NoReturn:
        where = f"{self.place}: " if self.place else ""
        raise LayerError(f"{where}filler {self.message.type!r}: {sentence}")


def register(name: str) -> Callable[[Filler], Filler]:
    """Function decorator that enters a filler under Caffe's name."""
    return fillers.register(name)


def fill(
    message: Message, shape: Sequence[int], generator: torch.Generator, place: str = ""
) -> torch.Tensor:
    """First values of a parameter: float32 on the CPU.

    Args:
        message: a FillerParameter.
        shape: shape of the parameter.
        generator: a CPU generator; the values are a pure function of its state.
        place: whose parameter it is, for messages ("net.prototxt:41: layer 'conv1'").

    Raises:
        UnknownName: there is no such filler.
        LayerError: the filler's settings or the shape do not suit it.
    """
    filler = fillers.find(message.type, place)
    request = Request(message, tuple(shape), generator, place)
    sparse_allowed = message.type == "gaussian"
    request.check(sparse_allowed or message.sparse == -1, "sparse is for gaussian only")
    return filler(request)
