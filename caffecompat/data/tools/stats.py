"""Statistics of a database, and the search for faulty records."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from caffecompat.data.backends.database import Database
from caffecompat.data.codec.annotated_datum import parse_record
from caffecompat.data.codec.datum import decode_datum
from caffecompat.data.codec.images import image_kind, image_shape, is_cut_off
from caffecompat.data.loader.threaded_map import threaded_map
from caffecompat.errors import DataError
from caffecompat.reporting.progress import Progress
from caffecompat.reporting.units import format_bytes, format_shape

_RECORDS_PER_STEP = 10
_BAR = 40

Shape = tuple[int, int, int]


@dataclass
class Summary:
    """Statistics of a database.

    Attributes:
        records: number of records.
        disk: size of its files, in bytes.
        sizes: size of the smallest value, of the largest, and of all together, in bytes.
        kinds: number of records by encoding: ``raw``, ``float``, ``jpg``, ``png``, ...
        shapes: number of records by channels, height and width.
        labels: number of records by label.
        unlabelled: number of records without a label, which Caffe reads as 0.
        annotated: number of records of convert-annoset, whose objects count instead of labels.
        objects: number of objects in them by class.
        unknown: number of records that are not a Datum or not an image; they are not in the
            counts above.
    """

    records: int = 0
    disk: int = 0
    sizes: tuple[int, int, int] = (0, 0, 0)
    kinds: Counter[str] = field(default_factory=Counter)
    shapes: Counter[Shape] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    unlabelled: int = 0
    annotated: int = 0
    objects: Counter[int] = field(default_factory=Counter)
    unknown: int = 0


def summarise(database: Database, progress: Progress | None = None) -> Summary:
    """Computes the statistics from every record; of JPEGs and PNGs only the header is read.

    Raises:
        DataError: a record cannot be read from the database.
    """
    summary = Summary(len(database), _disk(database.path))
    smallest, largest, total = 0, 0, 0
    for position in range(len(database)):
        value = database.read(position)[1]
        smallest = min(smallest, len(value)) if position else len(value)
        largest, total = max(largest, len(value)), total + len(value)
        try:
            _count(value, summary)
        except DataError:
            summary.unknown += 1
        _step(progress, position + 1, len(database))
    summary.sizes = (smallest, largest, total)
    return summary


def _count(value: bytes, summary: Summary) -> None:
    datum, objects = parse_record(value)
    if datum.encoded:
        shape = image_shape(datum.data)
        if shape is None:
            raise DataError("not an image")
        kind = image_kind(datum.data) or "other image"
    else:
        shape = (datum.channels, datum.height, datum.width)
        kind = "raw" if datum.data else "float"
    summary.kinds[kind] += 1
    summary.shapes[shape] += 1
    if objects is not None:
        summary.annotated += 1
        summary.objects.update(objects.labels.tolist())
        return
    summary.labels[datum.label] += 1
    summary.unlabelled += not datum.HasField("label")


def describe(summary: Summary, max_entries: int = 10) -> str:
    """The summary as text; long lists show the ``max_entries`` largest entries."""
    smallest, largest, total = summary.sizes
    lines = [f"records   {summary.records:,}"]
    lines.append(f"on disk   {format_bytes(summary.disk)}")
    if summary.records:
        mean = format_bytes(total / summary.records)
        span = f"{format_bytes(smallest)} to {format_bytes(largest)}"
        lines.append(f"values    {format_bytes(total)}, {mean} each ({span})")
    kinds = [f"{count:,} {kind}" for kind, count in summary.kinds.most_common()]
    lines.append(f"stored    {', '.join(kinds) or 'nothing'}")
    if summary.unknown:
        lines.append(f"unusable  {summary.unknown:,}; which: caffecompat dataset verify")
    lines += _listed("shapes (channels x height x width)", _by_shape(summary), max_entries)
    lines += _numbers("labels", summary.labels, max_entries)
    if summary.annotated:
        boxes = sum(summary.objects.values())
        lines.append(f"boxes     {boxes:,}, in {summary.annotated:,} records of convert-annoset")
        lines += _numbers("classes of boxes", summary.objects, max_entries)
    if summary.unlabelled:
        lines.append(f"  {summary.unlabelled:,} records have no label, which counts as 0")
    return "\n".join(lines) + "\n"


def _numbers(what: str, counts: Counter[int], max_entries: int) -> list[str]:
    """How often each label or class occurs, and how many numbers between them do not."""
    if not counts:
        return []
    least, most = min(counts), max(counts)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    title = f"{what}: {len(counts):,} different, {least} to {most}"
    lines = _listed(title, [(str(number), count) for number, count in ordered], max_entries)
    gaps = most - least + 1 - len(counts)
    if gaps:
        lines.append(f"  {gaps:,} numbers between {least} and {most} are not used")
    return lines


def _by_shape(summary: Summary) -> list[tuple[str, int]]:
    return [(format_shape(shape), n) for shape, n in summary.shapes.most_common()]


def _listed(title: str, counts: list[tuple[str, int]], max_entries: int) -> list[str]:
    lines = [title]
    if not counts:
        return []
    largest = max(count for _, count in counts)
    width = max(len(name) for name, _ in counts[:max_entries])
    for name, count in counts[:max_entries]:
        lines.append(f"  {name:>{width}}  {count:>9,}  {'#' * -(-_BAR * count // largest)}")
    if len(counts) > max_entries:
        rest = [count for _, count in counts[max_entries:]]
        lines.append(f"  {len(rest):,} more, of {min(rest):,} to {max(rest):,} records each")
    return lines


def find_faults(
    database: Database, workers: int | None = None, progress: Progress | None = None
) -> Iterator[str]:
    """Decodes every record and yields an error message for each that cannot be used.

    A JPEG or PNG without its end is an error, too, although OpenCV silently fills the missing
    part. The records of a damaged database page share one message, which names page and records.
    """

    def items() -> Iterator[tuple[int, bytes, bytes | DataError]]:
        for position in range(len(database)):
            try:
                yield position, *database.read(position)
            except DataError as error:
                yield position, b"", error

    latest: str | None = None
    with closing(threaded_map(_fault, items(), workers)) as faults:
        for position, fault in enumerate(faults):
            if fault not in (None, latest):
                yield fault
            latest = fault or latest
            _step(progress, position + 1, len(database))


def _fault(item: tuple[int, bytes, bytes | DataError]) -> str | None:
    position, key, value = item
    if isinstance(value, DataError):
        return str(value)
    try:
        datum = parse_record(value)[0]
        # With force_color, because 16-bit images can be used with it.
        decode_datum(datum, force_color=True)
        if datum.encoded and is_cut_off(datum.data):
            raise DataError(
                f"its {len(datum.data)} encoded bytes have no end: the image is cut off"
            )
    except DataError as error:
        return f"record {position} (key {key.decode(errors='backslashreplace')!r}): {error}"
    return None


def _step(progress: Progress | None, done: int, total: int) -> None:
    if progress and (done % _RECORDS_PER_STEP == 0 or done == total):
        progress(done, total)


def _disk(path: str) -> int:
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(entry.stat().st_size for entry in os.scandir(path) if entry.is_file())
