"""Databases of images and boxes, and nets that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from caffecompat import Net
from caffecompat.data.backends.database import create_database
from caffecompat.data.codec.images import encode_image
from caffecompat.proto import schema
from caffecompat.proto.text.parser import parse_text


def parsed(kind: str, text: str) -> Any:
    return parse_text(text, kind)[0]


def write(folder: Path, images: list[tuple[np.ndarray, list[Any]]], encoded: bool = True) -> str:
    """A database of images (H, W, 3) with rows (class, instance, box, difficult)."""
    path = folder / "annotated_lmdb"
    with create_database(path) as writer:
        for number, (pixels, rows) in enumerate(images):
            record = schema.new("AnnotatedDatum")
            record.type = 0
            record.datum.height, record.datum.width, record.datum.channels = pixels.shape
            record.datum.encoded = encoded
            planes = pixels.transpose(2, 0, 1).tobytes()
            record.datum.data = encode_image(pixels, "png") if encoded else planes
            for label, instance, box, difficult in rows:
                group = record.annotation_group.add(group_label=label)
                bbox = group.annotation.add(instance_id=instance).bbox
                bbox.xmin, bbox.ymin, bbox.xmax, bbox.ymax = box
                bbox.difficult = difficult
            writer.write([(b"%08d" % number, record.SerializeToString())])
    return str(path)


def images() -> list[tuple[np.ndarray, list[Any]]]:
    generator = np.random.default_rng(0)
    made = [generator.integers(0, 256, (20, 30, 3)).astype(np.uint8) for _ in range(3)]
    return [
        (made[0], [(2, 0, (0.1, 0.2, 0.5, 0.6), False), (2, 1, (0.5, 0.5, 1, 1), True)]),
        (made[1], []),
        (made[2], [(1, 0, (0, 0, 1, 1), False)]),
    ]


def net(source: str, batch: int = 3, more: str = "", transform: str = "", **options: Any) -> Net:
    text = f"""
        layer {{ name: "data" type: "AnnotatedData" top: "data" top: "label"
          transform_param {{ {transform} }}
          data_param {{ source: "{source}" batch_size: {batch} backend: LMDB }} {more} }}"""
    return Net(parsed("NetParameter", text), **options)


def tops(built: Net, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
    outputs = built.run(index).outputs
    built.close()
    return outputs["data"].numpy(), outputs["label"].numpy()
