"""A picture of where two engines diverge."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffecompat.errors import FormatError, needing_extra
from caffecompat.export.verify.verification import Comparison
from caffecompat.output_files import atomic_write
from caffecompat.reporting.terminal import printable, shorten

# Differences of 0 cannot be drawn on a logarithmic axis.
SMALLEST = 1e-9
LARGEST = 1e3
# More names than this cannot be read.
MOST_NAMES = 60
LONGEST_NAME = 60
# In inches: matplotlib draws at most 65,536 pixels.
LARGEST_WIDTH = 200.0


def plot_differences(comparison: Comparison, path: str) -> None:
    """Draws the relative difference of each value, in order of execution, into a PNG.

    Raises:
        FormatError: the name does not end in ``.png``.
        MissingExtra: matplotlib is not installed.
        FileProblem: the file cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise FormatError(f"{path}: the picture is a PNG; give a name that ends in .png")
    with needing_extra("--plot", "plot"):
        from matplotlib.figure import Figure
    differences = comparison.differences
    heights = np.clip([d.relative for d in differences], SMALLEST, LARGEST)
    colours = ["tab:blue" if d.relative <= comparison.tolerance else "tab:red" for d in differences]
    width = min(max(6.0, 0.2 * len(differences)), LARGEST_WIDTH)
    figure = Figure(figsize=(width, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(len(differences)), heights, color=colours)
    axes.axhline(comparison.tolerance, color="black", linestyle="dashed", linewidth=1)
    axes.set_yscale("log")
    axes.set_ylabel("largest difference, relative to the largest value")
    if len(differences) <= MOST_NAMES:
        # parse_math: a name with dollar signs is no formula.
        names = [shorten(printable(d.name), LONGEST_NAME) for d in differences]
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7, parse_math=False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)
