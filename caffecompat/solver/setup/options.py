"""What the user of a solver chooses beside its definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffecompat.errors import SolverError
from caffecompat.solver.setup.compute import ComputeOptions

STOP, IGNORE = ON_NAN = ("stop", "ignore")


@dataclass(frozen=True)
class SolverOptions:
    """Options of a :class:`caffecompat.Solver`, which takes each of them as a keyword too.

    Attributes:
        level, stages: put into ``train_state``, as Caffe's command line does it.
        on_nan: what a loss that is no finite number does: ``"stop"`` raises, ``"ignore"`` goes on
            as Caffe does. Weights that are not finite are never written in either case.
        forecast: say before the first iteration what the training needs.
        auto_iter_size: where memory would not suffice, divide ``batch_size`` and multiply
            ``iter_size``; the samples and the updates are the same.
        layers, on_mismatch: of the weights to start from; see
            :meth:`caffecompat.net.Net.load_weights`.
        allow_python: run the code that Python layers name; without it they are refused.
        skip_corrupt: let the next good record stand in for one that cannot be read.
        lenient: pass over fields that nothing here knows, with a note, instead of refusing them.
        max_bytes: the largest solver file, net, weight file, solver state or list to read, and the
            most that such a file may claim to hold; None for the limit that each kind has.
        precision, channels_last, compiled, cuda_graph: how nets compute; see
            :class:`caffecompat.solver.setup.compute.ComputeOptions`.
        batch_per_device: each rank works on the whole ``batch_size``, as in Caffe, instead of on
            its slice.

    Raises:
        SolverError: ``on_nan`` is none of its values.
    """

    level: int | None = None
    stages: Sequence[str] | None = None
    on_nan: str = STOP
    forecast: bool = False
    auto_iter_size: bool = False
    layers: Sequence[str] | None = None
    on_mismatch: str = "error"
    allow_python: bool = False
    skip_corrupt: bool = False
    lenient: bool = False
    max_bytes: int | None = None
    precision: str = "fp32"
    channels_last: bool | None = None
    compiled: bool = False
    cuda_graph: bool = False
    batch_per_device: bool = False

    def __post_init__(self) -> None:
        if self.on_nan not in ON_NAN:
            allowed = ", ".join(ON_NAN)
            raise SolverError(f"on_nan is {self.on_nan!r}; it must be one of: {allowed}")

    @property
    def compute(self) -> ComputeOptions:
        """How the nets compute."""
        return ComputeOptions(self.precision, self.channels_last, self.compiled, self.cuda_graph)

    @property
    def in_one_piece(self) -> bool:
        """Whether a pass is one program, which cannot be watched or left between layers."""
        return self.compiled or self.cuda_graph
