"""Curves of trainings: losses, scores and rates over the iterations."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from caffecompat.errors import FormatError, MissingExtra
from caffecompat.proto.atomic_write import atomic_write
from caffecompat.solver.parsed_log import ParsedLog, Row

FORMATS = ("png", "svg", "pdf")


def plot(logs: Sequence[ParsedLog], path: str | os.PathLike[str]) -> None:
    """Draws logs over each other: one panel for losses, one for other outputs, one for the rate.

    Args:
        logs: at least one.
        path: the picture; its ending, ``.png``, ``.svg`` or ``.pdf``, decides the kind.

    Raises:
        FormatError: another ending, or the logs show no iteration.
        MissingExtra: matplotlib is not installed.
        FileProblem: the picture cannot be written.
    """
    kind = Path(path).suffix.lstrip(".").lower()
    if kind not in FORMATS:
        raise FormatError(f"{path}: the name must end in .png, .svg or .pdf")
    for log in logs:
        if not log.train and not log.test:
            raise FormatError(
                f"{log.path}: shows no outputs; train with 'display' or 'test_interval' set"
            )
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("plot-log", "plot") from error
    figure = _draw(logs, Figure)
    with atomic_write(path) as file:
        figure.savefig(file, format=kind, dpi=120)


def _draw(logs: Sequence[ParsedLog], make: Callable[..., Any]) -> Any:
    losses = _outputs(logs, lambda name: "loss" in name.lower())
    scores = _outputs(logs, lambda name: "loss" not in name.lower())
    panels = [("loss", losses), ("output", scores)]
    panels = [(title, names) for title, names in panels if names]
    count = len(panels) + 1
    figure = make(figsize=(8, 2.8 * count), layout="constrained")
    axes = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for axis, (title, names) in zip(axes, panels, strict=False):
        for log in logs:
            for name in names:
                _curve(axis, log.train, name, f"{_owner(log, logs)}train {name}", "-")
                _curve(axis, log.test, name, f"{_owner(log, logs)}test {name}", "--o")
        axis.set_ylabel(title)
    for log in logs:
        _rates(axes[-1], log, _owner(log, logs) + "learning rate")
    axes[-1].set_ylabel("learning rate")
    axes[-1].set_xlabel("iteration")
    for axis in axes:
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize="small")
    return figure


def _outputs(logs: Sequence[ParsedLog], wanted: Callable[[str], bool]) -> list[str]:
    rows = [row for log in logs for row in [*log.train, *log.test]]
    return list(dict.fromkeys(name for row in rows for name in row.outputs if wanted(name)))


def _owner(log: ParsedLog, logs: Sequence[ParsedLog]) -> str:
    return f"{Path(log.path).name}: " if len(logs) > 1 else ""


def _curve(axis: Any, rows: list[Row], name: str, label: str, style: str) -> None:
    points = [(row.iteration, row.outputs[name]) for row in rows if name in row.outputs]
    if points:
        axis.plot(*zip(*points, strict=True), style, label=label, markersize=3, linewidth=1)


def _rates(axis: Any, log: ParsedLog, label: str) -> None:
    points = sorted((iteration, rate) for iteration, rate in log.rates if rate > 0)
    if points:
        axis.step(*zip(*points, strict=True), where="post", label=label, linewidth=1)
        axis.set_yscale("log")
