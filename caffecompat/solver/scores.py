"""Scores: the means of a net's outputs over the passes of a test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Scores:
    """Means over the passes of one test.

    Attributes:
        loss: mean loss.
        outputs: mean of every element of every net output, by blob name.
    """

    loss: float
    outputs: dict[str, list[float]]


@dataclass
class ScoreSums:
    """Sums over passes, on the device until :meth:`means` reads them."""

    passes: int = 0
    loss: torch.Tensor | None = None
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, outputs: dict[str, torch.Tensor], loss: torch.Tensor) -> None:
        self.passes += 1
        self.loss = loss if self.loss is None else self.loss + loss
        for name, value in outputs.items():
            value = value.float().flatten()
            known = self.outputs.get(name)
            self.outputs[name] = value if known is None else known + value

    def lines(self) -> Iterator[str]:
        """Log lines before those of the outputs."""
        return iter(())

    def means(self) -> Scores:
        """The means; without a pass the loss is NaN, as Caffe prints it."""
        loss = float("nan") if self.loss is None else float(self.loss / self.passes)
        outputs = {name: (total / self.passes).tolist() for name, total in self.outputs.items()}
        return Scores(loss, outputs)
