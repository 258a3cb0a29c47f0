"""Architectures of other programs, step by step, with the names of their parameters.

A family of ``layouts/`` builds each of its architectures with a :class:`Builder`. The steps of a
Caffe net have the same form (``net_steps.py``), so that both can be walked side by side: where all
steps agree, each parameter has its name in the other program, whatever the layers are called.
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
class Step:
    """One step of a net.

    Attributes:
        kind: one of the constants above, or the type of a Caffe layer that has no such kind.
        name: the prefix of its parameters' names, or its Caffe layer's name.
        inputs: the steps that it reads.
        settings: what must agree: kernel, stride, pad, ...
        shape: its output in a Caffe net (N, C, H, W); empty in an architecture.
        scale: for batch normalisation in a Caffe net, the Scale layer behind; "" if there is none.
    """

    kind: str
    name: str = ""
    inputs: tuple[Step, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    scale: str = ""


@dataclass(frozen=True)
class Architecture:
    """A net of another program: its name there, and its last step."""

    name: str
    output: Step


class Builder:
    """Makes the steps of an architecture; each method returns the step after those it is given."""

    def input(self) -> Step:
        return Step(INPUT)

    def conv(
        self, x: Step, name: str, kernel: int, stride: int = 1, pad: int = 0, bias: bool = True
    ) -> Step:
        settings = {
            "kernel": (kernel, kernel),
            "stride": (stride, stride),
            "pad": (pad, pad),
            "dilation": (1, 1),
            "groups": 1,
            "bias": bias,
        }
        return Step(CONVOLUTION, name, (x,), settings)

    def norm(self, x: Step, name: str, eps: float = 1e-5) -> Step:
        return Step(NORM, name, (x,), {"eps": eps})

    def relu(self, x: Step) -> Step:
        return Step(RELU, "", (x,))

    def max_pool(self, x: Step, kernel: int, stride: int, pad: int = 0, ceil: bool = False) -> Step:
        settings = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "pad": (pad,) * 2}
        return Step(MAX_POOL, "", (x,), {**settings, "ceil": ceil})

    def mean_pool(self, x: Step) -> Step:
        return Step(MEAN_POOL, "", (x,))

    def linear(self, x: Step, name: str, side: int | None = None) -> Step:
        """A fully connected layer; ``side`` is that of the map that the program resizes it to."""
        return Step(LINEAR, name, (x,), {"map": None if side is None else (side, side)})

    def concat(self, *steps: Step) -> Step:
        return Step(CONCAT, "", steps)

    def add(self, one: Step, other: Step) -> Step:
        return Step(SUM, "", (one, other))


layouts: Registry[Callable[[], Iterable[Architecture]]] = Registry(
    "layout", "caffecompat.export.layouts"
)
"""By family: what gives its architectures. A new file needs no other change."""
