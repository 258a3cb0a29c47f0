"""Settings of the conversion of an image list, and which of them exclude each other."""

from __future__ import annotations

from dataclasses import dataclass

from caffecompat.errors import DataError


@dataclass(frozen=True)
class ImagesetSettings:
    """Settings of a conversion; names and defaults are those of Caffe's flags, where they exist.

    Attributes:
        gray: read images as grayscale.
        shuffle: write them in a random order.
        seed: the seed of the shuffling.
        resize_width, resize_height: new size in pixels, used only if both are positive.
        min_side: rescale each image isotropically to this smallest side, in pixels; 0 to keep it.
        check_size: refuse a record whose size in bytes differs from the first one's.
        encoded: store encoded images; the bytes of the file if it has that encoding and no resize
            is requested (or needed for ``min_side``), even with ``gray``.
        encode_type: the encoding (``png``, ``jpg``, ...); implies ``encoded``. Without it each
            file keeps the encoding of its extension.
        backend: name of the backend.
        workers: threads that read, resize and encode; None for one per core, at most 16.
        on_error: ``skip`` leaves out images that cannot be read, ``fail`` stops at the first.
        resume: continue an interrupted conversion.
        overwrite: delete the unfinished database of an interrupted conversion and start again.
        no_labels: each line of the list is a name; all labels are 0.
        number_labels: labels are words, which are numbered in byte order.
        labels: path of a file of words, one per line; labels are these words, numbered from 0.
        max_bytes: the largest accepted size of the list and of the file of words; None for
            512 MiB.
    """

    gray: bool = False
    shuffle: bool = False
    seed: int = 0
    resize_width: int = 0
    resize_height: int = 0
    min_side: int = 0
    check_size: bool = False
    encoded: bool = False
    encode_type: str = ""
    backend: str = "LMDB"
    workers: int | None = None
    on_error: str = "skip"
    resume: bool = False
    overwrite: bool = False
    no_labels: bool = False
    number_labels: bool = False
    labels: str = ""
    max_bytes: int | None = None


def check_settings(settings: ImagesetSettings, list_path: str | None) -> None:
    """Refuses settings that contradict each other, or that have no meaning without a list.

    Args:
        settings: what is asked for.
        list_path: the list of the images; None for a folder tree.

    Raises:
        DataError: the message says which, and what to leave out.
    """
    kinds = [settings.no_labels, settings.number_labels, bool(settings.labels)]
    if sum(kinds) > 1:
        raise DataError("no_labels, number_labels and labels exclude each other; give one")
    if any(kinds) and list_path is None:
        raise DataError(
            "no_labels, number_labels and labels apply to the labels of a list, but without a list "
            "the sub-folders are the classes; leave them out, or give a list"
        )
    if settings.resume and settings.overwrite:
        raise DataError("resume continues an unfinished database, overwrite deletes it; give one")
    if settings.min_side and (settings.resize_width or settings.resize_height):
        raise DataError(
            "min_side keeps proportions, resize_width and resize_height do not; give one kind"
        )
    if settings.min_side < 0:
        raise DataError(f"min_side is {settings.min_side}, expected 1 or more pixels")
    if settings.resume and settings.check_size:
        raise DataError(
            "check_size compares with the first record, which resume may skip; leave one out"
        )
    if settings.workers is not None and settings.workers < 1:
        raise DataError(f"workers is {settings.workers}, expected 1 or more")
    if settings.on_error not in ("skip", "fail"):
        raise DataError(f"on_error is {settings.on_error!r}, expected 'skip' or 'fail'")
