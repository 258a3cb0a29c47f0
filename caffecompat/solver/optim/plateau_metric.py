"""The plateau metric: the output of a test net that a learning-rate policy watches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffecompat.errors import SolverError, suggestion
from caffecompat.net import Net
from caffecompat.reporting.units import format_shape
from caffecompat.solver.scores import Scores


@dataclass(frozen=True)
class PlateauMetric:
    """An output of a test net with one value.

    Attributes:
        net: the number of the test net.
        blob: the output's name.
        sign: 1 where lower is better, -1 where higher is.
    """

    net: int
    blob: str
    sign: int

    def value(self, scores: Scores) -> float:
        """The watched score; lower is better."""
        return self.sign * scores.outputs[self.blob][0]

    def describe(self) -> str:
        better = "lower" if self.sign > 0 else "higher"
        return f"Plateau: watching {self.blob!r} of test net #{self.net}; {better} is better"


def find_metric(metric: str, nets: Sequence[Net], place: str) -> PlateauMetric:
    """The output called ``metric`` of the first test net that has one.

    Of losses lower values are better, of everything else higher ones; a minus before a name
    (``"-error"``) says that lower ones are.

    Raises:
        SolverError: no test net has such an output, or it has several values.
    """
    lower = metric.startswith("-") and not any(metric in net.outputs for net in nets)
    blob = metric[1:] if lower else metric
    for number, net in enumerate(nets):
        if blob not in net.outputs:
            continue
        built = next(b for b in reversed(net.layers) if blob in (top.blob for top in b.tops))
        shape = next(s for t, s in zip(built.tops, built.shapes, strict=True) if t.blob == blob)
        if any(extent != 1 for extent in shape):
            raise SolverError(
                f"{place}: plateau_metric is {metric!r}, but this output has the shape "
                f"{format_shape(shape)}; watch one with a single value"
            )
        is_loss = built.layer is not None and built.layer.is_loss
        return PlateauMetric(number, blob, 1 if lower or is_loss else -1)
    if not nets:
        raise SolverError(
            f"{place}: plateau_metric is {metric!r}, but there is no test net; give test_iter and "
            "test_interval, or leave plateau_metric out to watch the training loss"
        )
    known = {name for net in nets for name in net.outputs}
    raise SolverError(
        f"{place}: plateau_metric is {metric!r}, but no test net has such an output"
        f"{suggestion(blob, known)}"
    )
