"""One self-contained HTML page about an evaluation: errors, confusions, the worst mistakes."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import Pixels, encode_image, rescale_image
from caffecompat.errors import DataError, FileProblem
from caffecompat.evaluate.classification.error_rates import (
    confusion_matrix,
    ranks,
    top_k_error,
)
from caffecompat.evaluate.classification.posteriors import Posteriors
from caffecompat.evaluate.images.labelled_images import LabelledImages
from caffecompat.output_files import atomic_write

PAGE = "index.html"
_MISTAKES = 24
_THUMBNAIL = 160
_CLASSES_SHOWN = 20
_CONFUSIONS_SHOWN = 20
# The picture of the confusion matrix is at least this wide, in pixels.
_PICTURE = 400
_STYLE = """
body { font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { border-bottom: 1px solid #ccc; padding: 0.2em 0.8em; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: 0 1em 1em 0; vertical-align: top; width: 12em; }
figcaption { font-size: 12px; overflow-wrap: anywhere; }
img.matrix { image-rendering: pixelated; border: 1px solid #ccc; }
"""


@dataclass(frozen=True)
class ReportContent:
    """What the page is about.

    Attributes:
        title: its heading.
        facts: lines about the model and the protocol.
        class_names: by label; numbers are shown for labels without a name.
    """

    title: str
    facts: Sequence[str]
    class_names: Sequence[str] = ()

    def name(self, label: int) -> str:
        """The name of a class, or its number."""
        if label < len(self.class_names):
            return f"{label} {self.class_names[label]}"
        return str(label)


def write_report(
    folder: str, content: ReportContent, found: Posteriors, images: LabelledImages
) -> Path:
    """Writes ``index.html`` into a folder, which is made if it is missing.

    Args:
        folder: of the page.
        content: title, facts and class names.
        found: the posteriors of the images.
        images: the data that ``found`` is about, for the pictures of the worst mistakes.

    Returns:
        the path of the page.

    Raises:
        FileProblem: the page cannot be written.
        DataError: no image has a label.
    """
    if not found.labelled.any():
        raise DataError("--report: the images have no labels, so there are no errors to report")
    page = _Page(content, found, images)
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileProblem(f"{folder}: cannot be made: {error.strerror or error}") from error
    with atomic_write(path / PAGE) as file:
        file.write(page.text().encode("utf-8", "replace"))
    return path / PAGE


class _Page:
    """The page and its sections, over the images that have labels."""

    def __init__(self, content: ReportContent, found: Posteriors, images: LabelledImages) -> None:
        self._content = content
        self._images = images
        self._labels = found.labels[found.labelled]
        self._values = found.values[found.labelled]
        self._indices = found.indices[found.labelled]
        self._ranks = ranks(self._values, self._labels)

    def text(self) -> str:
        title = html.escape(self._content.title)
        sections = (self._summary(), self._classes(), self._confusions(), self._mistakes())
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{title}</title><style>{_STYLE}</style></head><body>\n"
            f"<h1>{title}</h1>\n{''.join(sections)}</body></html>\n"
        )

    def _summary(self) -> str:
        errors = [
            [f"top-{k} error", f"{100 * top_k_error(self._values, self._labels, k):.2f} %"]
            for k in (1, 5)
            if k == 1 or k < self._values.shape[1]
        ]
        facts = "".join(f"<li>{html.escape(fact)}</li>" for fact in self._content.facts)
        count = [["images with a label", f"{len(self._labels):,}"]]
        return _table([], errors + count) + f"<ul>{facts}</ul>\n"

    def _classes(self) -> str:
        counts = np.bincount(self._labels, minlength=self._values.shape[1])
        wrong = np.bincount(self._labels[self._ranks > 0], minlength=self._values.shape[1])
        error = wrong / np.maximum(counts, 1)
        worst = [c for c in np.argsort(-error, kind="stable") if counts[c]][:_CLASSES_SHOWN]
        rows = [
            [self._content.name(int(c)), f"{counts[c]:,}", f"{100 * error[c]:.2f} %"] for c in worst
        ]
        return "<h2>Classes with the largest top-1 error</h2>\n" + _table(
            ["class", "images", "top-1 error"], rows
        )

    def _confusions(self) -> str:
        matrix = confusion_matrix(self._values, self._labels)
        pairs = np.argwhere((matrix > 0) & ~np.eye(len(matrix), dtype=bool))
        order = np.argsort(-matrix[tuple(pairs.T)], kind="stable")[:_CONFUSIONS_SHOWN]
        name = self._content.name
        rows = [
            [name(int(right)), name(int(predicted)), f"{matrix[right, predicted]:,}"]
            for right, predicted in pairs[order]
        ]
        return (
            "<h2>Confusion matrix</h2>\n<p>Rows are classes, columns predictions; darker cells "
            "hold a larger share of the images of their row.</p>\n"
            f'<img class="matrix" alt="confusion matrix" src="{_matrix_picture(matrix)}">\n'
            + _table(["class", "predicted", "images"], rows)
        )

    def _mistakes(self) -> str:
        """Pictures of the images with the smallest posterior for their class."""
        own = np.take_along_axis(self._values, self._labels[:, None], 1)[:, 0]
        wrong = np.flatnonzero(self._ranks > 0)
        worst = wrong[np.argsort(own[wrong], kind="stable")][:_MISTAKES]
        figures = "".join(self._figure(int(index)) for index in worst)
        return f"<h2>The worst mistakes</h2>\n{figures or '<p>There is none.</p>'}\n"

    def _figure(self, row: int) -> str:
        image = self._images.read(int(self._indices[row]))
        values = self._values[row]
        best = np.argsort(-values, kind="stable")[:3]
        label = int(self._labels[row])
        lines = [f"<b>{html.escape(self._content.name(label))}</b> {values[label]:.3f}"]
        lines += [f"{html.escape(self._content.name(int(c)))} {values[c]:.3f}" for c in best]
        return (
            f'<figure><img alt="" src="{_thumbnail(image.pixels)}"><figcaption>'
            f"{html.escape(image.name)}<br>{'<br>'.join(lines)}</figcaption></figure>"
        )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; the cells after the first are aligned as numbers if they begin as one."""
    names = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td{_kind(cell)}>{html.escape(cell)}</td>" for cell in row) + "</tr>\n"
        for row in rows
    )
    return f"<table>{f'<tr>{names}</tr>' if head else ''}\n{body}</table>\n"


def _kind(cell: str) -> str:
    return (
        ' class="number"' if cell.rstrip(" %").replace(",", "").replace(".", "").isdigit() else ""
    )


def _matrix_picture(matrix: NDArray[np.int64]) -> str:
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    gray = np.round(255 * (1 - shares)).astype(np.uint8)
    factor = max(1, -(-_PICTURE // len(gray)))
    enlarged = np.repeat(np.repeat(gray, factor, 0), factor, 1)
    return _data_address(encode_image(enlarged, "png"), "png")


def _thumbnail(pixels: Pixels) -> str:
    height, width = pixels.shape[:2]
    longest = max(height, width)
    size = (max(1, _THUMBNAIL * height // longest), max(1, _THUMBNAIL * width // longest))
    return _data_address(encode_image(rescale_image(pixels, *size), "jpg"), "jpeg")


def _data_address(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
