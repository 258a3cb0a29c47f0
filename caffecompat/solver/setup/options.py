"""SolverOptions: options of a solver that are not in its definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from caffecompat.errors import SolverError
from caffecompat.solver.setup.compute import ComputeOptions, PassKeywords, PassOptions

STOP, IGNORE = ON_NAN = ("stop", "ignore")


@dataclass(frozen=True)
class SolverOptions(PassOptions):
    """Options of a :class:`caffecompat.Solver`, which takes each of them as a keyword too.

    Attributes:
        level, stages: merged into ``train_state``, as Caffe's command line does.
        on_nan: what happens if the loss is not finite: ``"stop"`` raises an error, ``"ignore"``
            continues as Caffe does. Weights that are not finite are never written.
        forecast: log the needs of the training before its first iteration.
        auto_iter_size: if the memory is not sufficient, divide ``batch_size`` and multiply
            ``iter_size``; the samples and the updates stay the same.
        layers, on_mismatch: of the weights to start from; see
            :meth:`caffecompat.net.Net.load_weights`.
        allow_python: run the code that Python layers name; otherwise they are refused.
        skip_corrupt: replace a record that cannot be read by the next good one.
        lenient: ignore unknown fields, with a note, instead of refusing them.
        dialect: see :class:`caffecompat.layers.BuildOptions`.
        max_bytes: the largest solver file, net, weight file, solver state or list to read, and the
            most that such a file may claim to hold; None for the default limit of each kind.
        precision, channels_last, compiled, cuda_graph, fused, kernels: see
            :class:`caffecompat.solver.setup.compute.PassOptions`.
        batch_per_device: each rank reads the whole ``batch_size``, as in Caffe, instead of its
            shard.
        large_pages: on the CPU, move the memory of a large net to pages of 2 MB after 50 updates;
            see :mod:`caffecompat.large_pages`.

    Raises:
        SolverError: ``on_nan`` has another value.
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
    dialect: str = ""
    max_bytes: int | None = None
    batch_per_device: bool = False
    large_pages: bool = True

    def __post_init__(self) -> None:
        if self.on_nan not in ON_NAN:
            allowed = ", ".join(ON_NAN)
            raise SolverError(f"on_nan is {self.on_nan!r}; it must be one of: {allowed}")

    @property
    def compute(self) -> ComputeOptions:
        """The compute options."""
        own = {field.name: getattr(self, field.name) for field in fields(PassOptions)}
        return ComputeOptions(**own)


class SolverKeywords(PassKeywords, total=False):
    """The fields of :class:`SolverOptions` as keywords, for type checkers."""

    level: int | None
    stages: Sequence[str] | None
    on_nan: str
    forecast: bool
    auto_iter_size: bool
    layers: Sequence[str] | None
    on_mismatch: str
    allow_python: bool
    skip_corrupt: bool
    lenient: bool
    dialect: str
    max_bytes: int | None
    batch_per_device: bool
    large_pages: bool
