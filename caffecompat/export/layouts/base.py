"""Architectures of other programs, operation by operation, with the names of their parameters.

A family of ``layouts/`` builds each of its architectures with a :class:`Builder`. The operations of
a Caffe net have the same form (``net_operations.py``), so that both can be walked side by side:
where all of them agree, each parameter has its name in the other program, whatever the layers are
called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from caffecompat.registry import Registry

CONVOLUTION, LINEAR, NORM = "convolution", "fully connected layer", "batch normalisation"
MAX_POOL, MEAN_POOL = "max pooling", "average of the whole map"
RELU, CONCAT, SUM, INPUT = "ReLU", "concatenation", "sum", "input"
WITH_PARAMETERS = (CONVOLUTION, LINEAR, NORM)


@dataclass(eq=False)
class Operation:
    """One operation of a net.

    Attributes:
        kind: one of the constants above, or the type of a Caffe layer that has no such kind.
        name: the prefix of its parameters' names, or its Caffe layer's name.
        inputs: the operations that it reads.
        settings: what must agree: kernel, stride, pad, ...
        shape: its output in a Caffe net (N, C, H, W); empty in an architecture.
        scale: for batch normalisation in a Caffe net, the Scale layer behind; "" if there is none.
    """

    kind: str
    name: str = ""
    inputs: tuple[Operation, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    scale: str = ""


@dataclass(frozen=True)
class Architecture:
    """A net of another program: its name there, and its last operation."""

    name: str
    output: Operation


class Builder:
    """Makes the operations of an architecture; each method returns one on those it is given."""

    def input(self) -> Operation:
        return Operation(INPUT)

    def conv(
        self, x: Operation, name: str, kernel: int, stride: int = 1, pad: int = 0, bias: bool = True
    ) -> Operation:
        settings = {
            "kernel": (kernel, kernel),
            "stride": (stride, stride),
            "pad": (pad, pad),
            "dilation": (1, 1),
            "groups": 1,
            "bias": bias,
        }
        return Operation(CONVOLUTION, name, (x,), settings)

    def norm(self, x: Operation, name: str, eps: float = 1e-5) -> Operation:
        return Operation(NORM, name, (x,), {"eps": eps})

    def relu(self, x: Operation) -> Operation:
        return Operation(RELU, "", (x,))

    def max_pool(
        self, x: Operation, kernel: int, stride: int, pad: int = 0, ceil: bool = False
    ) -> Operation:
        settings = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "pad": (pad,) * 2}
        return Operation(MAX_POOL, "", (x,), {**settings, "ceil": ceil})

    def mean_pool(self, x: Operation) -> Operation:
        return Operation(MEAN_POOL, "", (x,))

    def linear(self, x: Operation, name: str, side: int | None = None) -> Operation:
        """A fully connected layer; ``side`` is that of the map that the program resizes it to."""
        return Operation(LINEAR, name, (x,), {"map": None if side is None else (side, side)})

    def concat(self, *operations: Operation) -> Operation:
        return Operation(CONCAT, "", operations)

    def add(self, one: Operation, other: Operation) -> Operation:
        return Operation(SUM, "", (one, other))


layouts: Registry[Callable[[], Iterable[Architecture]]] = Registry(
    "layout", "caffecompat.export.layouts"
)
"""By family: what gives its architectures. A new file needs no other change."""
