"""Plots of training logs: losses, scores and learning rates over the iterations."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from caffecompat.errors import FormatError, needing_extra
from caffecompat.logs.parse import ParsedLog, Row
from caffecompat.output_files import atomic_write
from caffecompat.reporting.terminal import printable, shorten

FORMATS = ("png", "svg", "pdf")
# The charts of Caffe's plot_training_log by number: phase, y axis, x axis.
CHARTS = (
    ("test", "score", "iteration"),
    ("test", "score", "seconds"),
    ("test", "loss", "iteration"),
    ("test", "loss", "seconds"),
    ("train", "rate", "iteration"),
    ("train", "rate", "seconds"),
    ("train", "loss", "iteration"),
    ("train", "loss", "seconds"),
)
# Fewer points are not joined by a line, which would suggest a trend.
_MIN_POINTS_OF_LINE = 5
# A picture with more curves takes minutes, and nobody can read it.
_MAX_OUTPUTS = 400
_MAX_LEGEND = 40
_LONGEST_LABEL = 100
# Up to this many different learning rates each get a tick.
_MAX_TICKS = 6


def plot(logs: Sequence[ParsedLog], path: str | os.PathLike[str], chart: int | None = None) -> None:
    """Plots logs in one figure: a panel for losses, one for other outputs, one for the rate.

    Args:
        logs: at least one.
        path: the figure's file; its suffix ``.png``, ``.svg`` or ``.pdf`` decides the format.
        chart: the number of one of Caffe's charts, see ``CHARTS``; None for all panels.

    Raises:
        FormatError: another suffix, or the logs have no values to plot.
        MissingExtra: matplotlib is not installed.
        FileProblem: the figure cannot be written.
    """
    kind = Path(path).suffix.lstrip(".").lower()
    if kind not in FORMATS:
        raise FormatError(f"{path}: the name must end in .png, .svg or .pdf")
    for log in logs:
        if not log.train and not log.test:
            raise FormatError(
                f"{log.path}: has no outputs; train with 'display' or 'test_interval' set"
            )
    with needing_extra("plot-log", "plot"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    # Names of blobs and files are no formulas.
    with rc_context({"text.parse_math": False}):
        figure = _draw(logs, Figure) if chart is None else _draw_chart(logs, Figure, chart)
        with atomic_write(path) as file:
            figure.savefig(file, format=kind, dpi=120)


def _draw(logs: Sequence[ParsedLog], make: Callable[..., Any]) -> Any:
    panels = [(kind, _outputs(logs, kind)) for kind in ("loss", "score")]
    panels = [(kind, names) for kind, names in panels if names]
    count = len(panels) + 1
    figure = make(figsize=(8, 2.8 * count + 0.4), layout="constrained")
    axes = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for axis, (kind, names) in zip(axes, panels, strict=False):
        for log in logs:
            for name in names:
                for phase, rows in (("train", log.train), ("test", log.test)):
                    for what, points in _curves(rows, name, "iteration").items():
                        _curve(axis, points, logs, log, f"{phase} {what}")
        axis.set_ylabel(_axis_name(kind, names))
    for log in logs:
        points = [(float(iteration), rate) for iteration, rate in log.rates]
        _rates(axes[-1], points, _owner(log, logs) + "learning rate")
    _label_rates(axes[-1])
    axes[-1].set_xlabel("iteration")
    _finish(figure, axes, _title(logs))
    return figure


def _draw_chart(logs: Sequence[ParsedLog], make: Callable[..., Any], chart: int) -> Any:
    phase, kind, over = CHARTS[chart]
    figure = make(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    names = [] if kind == "rate" else _outputs(logs, kind)
    for log in logs:
        rows = log.train if phase == "train" else log.test
        for name in names:
            for what, points in _curves(rows, name, over).items():
                _curve(axis, points, logs, log, f"{phase} {what}")
        if kind == "rate":
            points = [(_place(row, over), row.rate) for row in rows]
            _rates(axis, points, _owner(log, logs) + "learning rate")
    if not axis.lines:
        raise FormatError(
            f"{logs[0].path}: has no values for chart {chart}, the {phase} "
            f"{'learning rate' if kind == 'rate' else kind} over the {over}"
        )
    if kind == "rate":
        _label_rates(axis)
    else:
        axis.set_ylabel(f"{phase} {_axis_name(kind, names)}")
    axis.set_xlabel("seconds since the start" if over == "seconds" else "iteration")
    _finish(figure, [axis], _title(logs))
    return figure


def _finish(figure: Any, axes: Sequence[Any], title: str) -> None:
    figure.suptitle(title)
    for axis in axes:
        axis.grid(alpha=0.3)
        # A longer legend leaves no room for the curves.
        if 0 < len(axis.get_legend_handles_labels()[0]) <= _MAX_LEGEND:
            axis.legend(fontsize="small")


def _title(logs: Sequence[ParsedLog]) -> str:
    names = [Path(log.path).name for log in logs]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return _shown(f"Training of {shown}")


def _axis_name(kind: str, names: Sequence[str]) -> str:
    """The label of a panel's y axis: the names of its outputs if there are one or two."""
    if kind == "loss" or len(names) > 2:
        return kind
    return _shown(", ".join(names))


def _shown(text: str) -> str:
    """A text with names of files, without what XML cannot hold, and not too long."""
    return shorten(printable(text), _LONGEST_LABEL)


def _outputs(logs: Sequence[ParsedLog], kind: str) -> list[str]:
    rows = [row for log in logs for row in [*log.train, *log.test]]
    names = dict.fromkeys(name for row in rows for name in row.outputs)
    if len(names) > _MAX_OUTPUTS:
        path = logs[0].path
        raise FormatError(
            f"{path}: has {len(names):,} outputs, more than the {_MAX_OUTPUTS} that a picture can "
            f"show; the table has all: caffecompat parse-log {shlex.quote(path)} ."
        )
    return [name for name in names if ("loss" in name.lower()) == (kind == "loss")]


def _owner(log: ParsedLog, logs: Sequence[ParsedLog]) -> str:
    return f"{_shown(Path(log.path).name)}: " if len(logs) > 1 else ""


def _place(row: Row, over: str) -> float:
    return row.seconds if over == "seconds" else float(row.iteration)


def _curves(rows: list[Row], name: str, over: str) -> dict[str, list[tuple[float, float]]]:
    """The points of an output by what they are called, one curve for each test net."""
    shown = [row for row in rows if name in row.outputs]
    several = len({row.net for row in shown}) > 1
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in shown:
        points = curves.setdefault(f"{name} of net #{row.net}" if several else name, [])
        points.append((_place(row, over), row.outputs[name]))
    return curves


def _curve(
    axis: Any,
    points: list[tuple[float, float]],
    logs: Sequence[ParsedLog],
    log: ParsedLog,
    what: str,
) -> None:
    if not points:
        return
    line = "-" if what.startswith("train") else "--o"
    style = "o" if len(points) < _MIN_POINTS_OF_LINE else line
    label = _shown(_owner(log, logs) + what)
    size = 5 if style == "o" else 3
    axis.plot(*zip(*points, strict=True), style, label=label, markersize=size, linewidth=1)


def _rates(axis: Any, points: list[tuple[float, float]], label: str) -> None:
    shown = sorted((place, rate) for place, rate in points if rate > 0 and math.isfinite(rate))
    if shown:
        axis.step(*zip(*shown, strict=True), where="post", label=label, linewidth=1)


def _label_rates(axis: Any) -> None:
    """Makes the axis logarithmic, with ticks at the rates, written as in a solver file."""
    axis.set_ylabel("learning rate")
    rates = sorted({float(rate) for line in axis.lines for rate in line.get_ydata()})
    if not rates:
        return
    axis.set_yscale("log")
    axis.set_ylim(rates[0] / 2, rates[-1] * 2)
    if len(rates) <= _MAX_TICKS:
        axis.set_yticks(rates)
        axis.minorticks_off()
    axis.yaxis.set_major_formatter(lambda rate, position: f"{rate:g}")
    axis.yaxis.set_minor_formatter(lambda rate, position: "")
