"""The fastest of the engines that are installed, measured on the sizes of the inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import isfinite, log, prod
from typing import TypeAlias

import torch

from caffecompat.errors import CaffeError, ExportError, MissingExtra, NetError
from caffecompat.graph import Version
from caffecompat.inference.timing import example_feeds, least_seconds
from caffecompat.large_pages import collapse_parameters, large_pages
from caffecompat.net import Net
from caffecompat.net.execution.inference import (
    InferenceOptions,
    InferenceProgram,
    Optimization,
    inference_engines,
    tell,
)
from caffecompat.reporting.units import format_shape

_NAME = "fastest"
# An engine that takes this many times the time of the best is not kept for other sizes.
HOPELESS = 2.0
# A size is measured once it has come this often in a row, and at most this many sizes are.
PASSES_IN_A_ROW = 3
MOST_SIZES = 8

# Ends the names of engines that run parts of a batch.
_PARTS = "-parts"
# For single rows, these engines are measured too if their copies of the weights are small.
_FEW_WEIGHTS = 1 << 25

# The shapes of all inputs.
_Sizes: TypeAlias = tuple[tuple[int, ...], ...]


@inference_engines.register(_NAME)
def optimize(net: Net, options: InferenceOptions) -> Optimization:
    """Runs random inputs in all engines, in turns, and takes the one with the least time.

    For other sizes another engine may be taken if it differs by rounding alone: not one with
    another precision, and none in int8, where engines quantize differently.

    Raises:
        NetError: no engine runs the net in this precision.
    """
    with large_pages(options.large_pages and net.device.type == "cpu") as pages:
        # Only the engines that are kept get large pages, which take some time to move to.
        chosen = _fastest(net, replace(options, large_pages=False))
    if pages.bytes and chosen.engine == "torch":
        pages.bytes += collapse_parameters(net)
    return replace(chosen, lines=(*chosen.lines, *filter(None, [str(pages)])))


def _fastest(net: Net, options: InferenceOptions) -> Optimization:
    feeds = example_feeds(net, options.shapes)
    tell([f"builds and measures the engines that are installed for {_inputs(feeds)}"])
    made, lines = _engines(net, options)
    if not made:
        raise NetError("\n".join(["no engine runs the net so", *lines]))
    if len(made) == 1:
        (chosen,) = made.values()
        return replace(chosen, lines=(*lines, f"{chosen.engine} alone runs it", *chosen.lines))
    program = FastestProgram({name: one.program for name, one in made.items()})
    best, more = program.choose(feeds)
    chosen = made[best]
    program.drop_hopeless()
    alike = {n for n, one in made.items() if one.precision == chosen.precision != "int8"}
    program.keep({best, *alike})
    return replace(chosen, lines=(*lines, *more, *chosen.lines), program=program)


def _engines(net: Net, options: InferenceOptions) -> tuple[dict[str, Optimization], list[str]]:
    """The net in each engine that runs it, and why others do not."""
    made: dict[str, Optimization] = {}
    lines: list[str] = []
    for engine in inference_engines:
        if engine == _NAME or (engine.endswith(_PARTS) and not _worth_parts(net, options)):
            continue
        try:
            made[engine] = inference_engines.find(engine)(net, options)
        except MissingExtra:
            lines.append(f"{engine}: not installed")
        except ExportError as error:
            lines.append(str(error))
        except CaffeError as error:
            lines.append(f"{engine}: {error}")
    return made, lines


def _worth_parts(net: Net, options: InferenceOptions) -> bool:
    """Whether engines that run parts of a batch may have further copies of the weights."""
    shapes = options.shapes or {}
    rows = [shapes.get(top.blob, net.shape_of(top))[:1] for top in net.program().feeds]
    weights = sum(parameter.numel() for parameter in net.parameters())
    return weights <= _FEW_WEIGHTS or max(rows, default=(1,)) > (1,)


class FastestProgram:
    """Runs inputs of each size in the engine that was the fastest with it.

    A size that comes several times in a row is measured then; until then, and beyond a number of
    sizes, the engine of the nearest measured size runs it.

    Args:
        programs: the net in each engine.
    """

    def __init__(self, programs: Mapping[str, InferenceProgram]) -> None:
        self._programs = dict(programs)
        first = next(iter(self._programs.values()))
        self.feeds, self.versions = first.feeds, first.versions
        self._chosen: dict[_Sizes, str] = {}
        self._times: dict[str, float] = {}
        self._last: _Sizes = ()
        self._in_a_row = 0

    def __call__(
        self, feeds: Sequence[torch.Tensor]
    ) -> tuple[dict[Version, torch.Tensor], torch.Tensor | None]:
        sizes = tuple([feed.shape for feed in feeds])
        name = self._chosen.get(sizes)
        if name is None:
            name = self._new_size(sizes, feeds)
        return self._programs[name](feeds)

    def choose(self, feeds: Sequence[torch.Tensor]) -> tuple[str, list[str]]:
        """Measures all engines; returns the name of the fastest, and lines about the times."""
        sizes = tuple(tuple(feed.shape) for feed in feeds)
        self._times = least_seconds(self._programs, feeds)
        best = min(self._times, key=lambda name: self._times[name])
        self._chosen[sizes] = best
        lines = [
            f"{name}: {1000 * seconds:.4g} ms" if isfinite(seconds) else f"{name}: its passes fail"
            for name, seconds in self._times.items()
        ]
        return best, [*lines, f"{best} is the fastest here, for {_inputs(feeds)}"]

    def drop_hopeless(self) -> None:
        """Frees the engines that no size of inputs will make the fastest."""
        limit = HOPELESS * min(self._times.values())
        self._programs = {n: p for n, p in self._programs.items() if self._times[n] <= limit}

    def keep(self, names: Collection[str]) -> None:
        """Frees the engines that have other names."""
        self._programs = {n: p for n, p in self._programs.items() if n in names}

    def _new_size(self, sizes: _Sizes, feeds: Sequence[torch.Tensor]) -> str:
        self._in_a_row = self._in_a_row + 1 if sizes == self._last else 1
        self._last = sizes
        often = self._in_a_row >= PASSES_IN_A_ROW
        if len(self._programs) > 1 and often and len(self._chosen) < MOST_SIZES:
            tell([f"measures {', '.join(self._programs)} for {_inputs(feeds)}"])
            name, lines = self.choose(feeds)
            tell(lines)
            return name
        values = _values(sizes)
        nearest = min(self._chosen, key=lambda known: abs(log(_values(known) / values)))
        return self._chosen[nearest]


def _inputs(feeds: Sequence[torch.Tensor]) -> str:
    return f"inputs {', '.join(format_shape(feed.shape) for feed in feeds)}"


def _values(sizes: _Sizes) -> int:
    """How many numbers inputs of these sizes have, at least one."""
    return max(1, sum(map(prod, sizes)))
