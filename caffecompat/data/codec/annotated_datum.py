"""AnnotatedDatum, the message of SSD's database records: an image and its objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from caffecompat.data.boxes import Boxes
from caffecompat.data.codec.datum import is_annotated, parse_datum
from caffecompat.errors import DataError
from caffecompat.proto import schema
from caffecompat.proto.schema import Message


@dataclass(frozen=True)
class Objects:
    """The objects of an image.

    Attributes:
        labels: (G,) classes.
        instances: (G,) numbers of the objects among those of their class in the image.
        boxes: (G, 4), xmin, ymin, xmax, ymax, relative to the image.
        difficult: (G,).
    """

    labels: NDArray[np.int64]
    instances: NDArray[np.int64]
    boxes: Boxes
    difficult: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def chosen(self, kept: NDArray[np.bool_], boxes: Boxes) -> Objects:
        """The objects in the mask ``kept``, with these boxes, of which there are G."""
        return Objects(self.labels[kept], self.instances[kept], boxes[kept], self.difficult[kept])

    def rows(self) -> NDArray[np.float32]:
        """(G, 8): 0, class, instance, xmin, ymin, xmax, ymax, difficult."""
        columns = (np.zeros(len(self)), self.labels, self.instances, *self.boxes.T, self.difficult)
        return np.stack(columns, 1).astype(np.float32)


def parse_annotated_datum(value: bytes) -> Message:
    """The AnnotatedDatum in a record's bytes.

    Raises:
        DataError: the bytes are not an AnnotatedDatum.
    """
    problem = (
        f"its {len(value)} bytes are not an AnnotatedDatum; a database for AnnotatedData is made "
        "by: caffecompat convert-annoset"
    )
    try:
        found = schema.message_class("AnnotatedDatum").FromString(value)
    except DecodeError as error:
        raise DataError(problem) from error
    if not found.HasField("datum"):
        raise DataError(problem)
    return found


def parse_record(value: bytes) -> tuple[Message, Objects | None]:
    """The Datum in a record of either kind; of an AnnotatedDatum also its objects.

    Raises:
        DataError: the bytes are neither a Datum nor an AnnotatedDatum.
    """
    if not is_annotated(value):
        return parse_datum(value), None
    record = parse_annotated_datum(value)
    return record.datum, objects_of(record)


def objects_of(record: Message) -> Objects:
    """The objects in an AnnotatedDatum, in their order."""
    rows = []
    for group in record.annotation_group:
        for one in group.annotation:
            box = one.bbox
            edges = (box.xmin, box.ymin, box.xmax, box.ymax)
            rows.append((group.group_label, one.instance_id, *edges, box.difficult))
    table = np.array(rows, np.float64).reshape(-1, 7)
    return Objects(
        table[:, 0].astype(np.int64),
        table[:, 1].astype(np.int64),
        table[:, 2:6].astype(np.float32),
        table[:, 6].astype(bool),
    )
