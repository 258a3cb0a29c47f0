"""ImageGtData, DetectionData and EvalData over pictures that tests make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.data.codec.images import encode_image
from caffecompat.layers import BuildOptions, Context, Source, catalogue
from tests.layers.messages import message

Box = tuple[int, ...]
Entry = tuple[np.ndarray, Sequence[Box], Sequence[Box]]


def picture(number: int, height: int, width: int) -> np.ndarray:
    """Pixels that tell their image, row and column."""
    rows, columns = np.indices((height, width), np.uint8)
    return np.stack([np.full_like(rows, 50 * number + 1), rows + 1, columns + 1], 2).astype(
        np.uint8
    )


def listed(folder: Path, entries: Sequence[Entry], name: str = "list") -> str:
    """A list of pictures with objects and regions to ignore; its path."""
    text = []
    for number, (pixels, objects, regions) in enumerate(entries):
        (folder / f"{name}{number}.png").write_bytes(encode_image(pixels, "png"))
        text += [f"# {number}", f"{name}{number}.png", "3", *map(str, pixels.shape[:2])]
        text += [str(len(objects)), *(" ".join(map(str, box)) for box in objects)]
        text += [str(len(regions)), *(" ".join(map(str, box)) for box in regions)]
    (folder / name).write_text("\n".join(text) + "\n")
    return str(folder / name)


def source(kind: str, path: str, text: str, tops: int, **options: Any) -> Source:
    given = BuildOptions(**{"seed": 3, "workers": 1, **options})
    layer = catalogue.find(kind)(Context("TRAIN", "layer 'one'", given))
    field = {"ImageGtData": "image_gt_data", "DetectionData": "detection_data"}.get(
        kind, "eval_data"
    )
    own, _, transform = text.partition("|")
    definition = message(
        kind,
        f"{field}_param {{ source: '{path}' root_folder: '{Path(path).parent}/' {own} }} "
        f"transform_param {{ {transform} }}",
        tops,
    )
    assert isinstance(layer, Source)
    layer.setup(definition, ())
    return layer


def read(layer: Source, index: int = 0) -> list[np.ndarray]:
    found = layer.read(index)
    assert found is not None
    return [np.asarray(top) for top in found]


def rounded(value: float) -> int:
    return int(math.floor(abs(value) + 0.5) * math.copysign(1, value))
