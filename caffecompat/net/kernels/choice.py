"""Which operations their Triton kernels compute."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from importlib.util import find_spec

NOT_INSTALLED = "triton is not installed"


@dataclass(frozen=True)
class Kernels:
    """For each operation whether its Triton kernel computes it, instead of torch's operators.

    Attributes:
        dropout: see :mod:`caffecompat.net.kernels.dropout`.
        pooling: see :mod:`caffecompat.net.kernels.pooling`.
        rectified: see :mod:`caffecompat.net.kernels.rectified`.
        normalisation: see :mod:`caffecompat.net.kernels.input_normalisation`.
        update: see :mod:`caffecompat.net.kernels.update`.
    """

    dropout: bool = False
    pooling: bool = False
    rectified: bool = False
    normalisation: bool = False
    update: bool = False

    @classmethod
    def every(cls) -> Kernels:
        """All of them."""
        return cls(**dict.fromkeys(cls.names(), True))

    @classmethod
    def names(cls) -> list[str]:
        return [field.name for field in fields(cls)]

    def without(self, name: str) -> Kernels:
        """The same, but torch's operators for one operation."""
        return replace(self, **{name: False})

    def chosen(self) -> list[str]:
        """The names of the operations that kernels compute."""
        return [name for name in self.names() if getattr(self, name)]


TORCH_OPERATORS = Kernels()


def has_triton() -> bool:
    """Whether Triton is installed; it comes with CUDA builds of torch."""
    return find_spec("triton") is not None
