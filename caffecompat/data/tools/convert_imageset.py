"""Conversion of an image list to a database.  Source: convert_imageset.cpp, io.cpp."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field

from caffecompat.data.backends.database import (
    DatabaseWriter,
    in_commits,
    refuse_finished,
    resume_database,
)
from caffecompat.data.backends.expected_size import log_expected_size
from caffecompat.data.counter_rng import permutation
from caffecompat.data.loader.threaded_map import threaded_map
from caffecompat.data.sources.image_lists.image_list import (
    Entry,
    read_class_names,
    read_list,
    read_names,
    read_tree,
    read_words,
)
from caffecompat.data.sources.image_lists.image_list_faults import refuse_absent
from caffecompat.data.tools.imageset_records import (
    image_record,
    readable_name,
    record_key,
    unequal_sizes,
)
from caffecompat.data.tools.imageset_settings import ImagesetSettings, check_settings
from caffecompat.errors import DataError
from caffecompat.output_files import atomic_write
from caffecompat.reporting.glog import PROGRESS
from caffecompat.reporting.progress import Progress, ProgressLines
from caffecompat.reporting.terminal import short_name

log = logging.getLogger(__name__)

_RECORDS_PER_COMMIT = 1000
_ENTRIES_PER_STEP = 10
# Settings that do not change the database.
_NOT_IN_FINGERPRINT = ("workers", "on_error", "resume", "overwrite", "max_bytes")


@dataclass
class Conversion:
    """The result of a conversion.

    Attributes:
        images: number of entries of the list.
        records: number of records in the database.
        kept: number of records from before an interruption.
        unreadable: names of images that could not be read.
    """

    images: int
    records: int = 0
    kept: int = 0
    unreadable: list[str] = field(default_factory=list)


def convert_imageset(
    root: str,
    list_path: str | None,
    database: str,
    settings: ImagesetSettings | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Writes the images of a list to a new database.

    Keys are the number of the entry (8 digits, from 0, after shuffling), ``_``, and the name as
    listed. Images that cannot be read are logged and left out; their numbers stay unused.

    Records are first written to ``database`` + ``.unfinished``. After a crash the same call with
    ``resume`` completes that database.

    Args:
        root: the prefix of each name, usually with a slash at its end.
        list_path: the list, see :func:`~caffecompat.data.sources.image_lists.image_list.read_list`;
            None for the folder tree under ``root``, each sub-folder a class. The class names are
            then written to ``database`` + ``.labels.txt`` in order of their labels.
        database: the new database, which appears when everything is written.
        settings: see :class:`ImagesetSettings`; its defaults if None.
        progress: called with (entries done, total) during the work and at the end.

    Raises:
        FileProblem: the list cannot be read, or the database exists or cannot be written.
        DataError: settings contradict each other; the encoding or backend cannot be written; list
            or settings differ from those of the conversion to resume; ``check_size`` failed; an
            image cannot be read and ``on_error`` is ``fail``; no image can be read; or most lines
            of the list do not end in a number.
    """
    settings = settings or ImagesetSettings()
    check_settings(settings, list_path)
    refuse_finished(database)
    root, entries, classes = _entries(root, list_path, settings)
    if not entries:
        raise DataError(f"{list_path or root}: there are no images in it; nothing was written")
    if not settings.resume:
        # When a conversion is resumed, its first images may no longer exist.
        refuse_absent(list_path or root, root, [entry.name for entry in entries])
    if settings.shuffle:
        log.info("Shuffling data")
        order = permutation(settings.seed, len(entries), "convert_imageset order")
        entries = [entries[number] for number in order.tolist()]
    log.info("A total of %d images.", len(entries))
    if settings.encode_type and not settings.encoded:
        log.info("encode_type specified, assuming encoded=true.")
    _log_expected_size(database, root, entries, settings)
    result = Conversion(len(entries))
    fingerprint = _fingerprint(root, entries, settings)
    unfinished = (settings.resume, settings.overwrite)
    with resume_database(database, settings.backend, fingerprint, *unfinished) as writer:
        log.info("Opened %s %s", settings.backend.lower(), database)
        _write(writer, _records(root, entries, settings, writer, result, progress), result)
        if not result.records:
            raise DataError(
                f"{list_path or root}: none of its {len(entries):,} images can be read (the first "
                f"is {short_name(result.unreadable[0])}); the files are not images that OpenCV can "
                "decode"
            )
    if classes is not None:
        with atomic_write(f"{database}.labels.txt") as file:
            file.write("".join(f"{name}\n" for name in classes).encode(errors="surrogateescape"))
    if result.unreadable:
        log.warning(
            "%d of %d images could not be read and were left out",
            len(result.unreadable),
            result.images,
        )
    return result


def _entries(
    root: str, list_path: str | None, settings: ImagesetSettings
) -> tuple[str, list[Entry], list[str] | None]:
    """The root, the entries, and the class names to write beside the database."""
    if list_path is None:
        log.info("Looking for images in %s", root or ".")
        entries, classes = read_tree(root or ".")
        log.info("%d classes in %s", len(classes), root or ".")
        return (os.path.join(root, "") if root else root), entries, classes
    if os.path.isdir(list_path):
        raise DataError(
            f"{list_path}: this is a folder, expected a list; to use the sub-folders of a folder "
            "as classes, give no list: caffecompat convert-imageset FOLDER/ DB"
        )
    if settings.no_labels:
        return root, read_names(list_path, settings.max_bytes), None
    if settings.number_labels:
        return root, *read_words(list_path, None, settings.max_bytes)
    if settings.labels:
        names = read_class_names(settings.labels, settings.max_bytes)
        return root, *read_words(list_path, names, settings.max_bytes)
    return root, read_list(list_path, True, settings.max_bytes), None


def _log_expected_size(
    database: str, root: str, entries: list[Entry], settings: ImagesetSettings
) -> None:
    def stored_size(entry: Entry) -> int | None:
        datum = image_record(root, entry, settings)
        return None if datum is None else datum.ByteSize()

    def file_size(entry: Entry) -> int | None:
        try:
            return os.path.getsize(os.fsencode(root) + entry.name)
        except (OSError, ValueError):
            return None

    raw = not (settings.encoded or settings.encode_type)
    log_expected_size(database, entries, stored_size, file_size if raw else None)


def _fingerprint(root: str, entries: list[Entry], settings: ImagesetSettings) -> str:
    """A text that is equal only for conversions that write the same database."""
    relevant = {k: v for k, v in asdict(settings).items() if k not in _NOT_IN_FINGERPRINT}
    relevant["backend"] = settings.backend.upper()
    listed = hashlib.sha256()
    for entry in entries:
        listed.update(b"%s %d\n" % (entry.name, entry.label))
    return f"{root!r} {sorted(relevant.items())} {listed.hexdigest()}"


def _write(
    writer: DatabaseWriter,
    records: Generator[tuple[bytes, bytes], None, None],
    result: Conversion,
) -> None:
    """Writes all records; logs a line per _RECORDS_PER_COMMIT records."""
    with closing(records):
        for commit in in_commits(records, _RECORDS_PER_COMMIT):
            writer.write(commit)
            before, result.records = result.records, result.records + len(commit)
            if result.records // _RECORDS_PER_COMMIT > before // _RECORDS_PER_COMMIT:
                log.info("Processed %d files.", result.records, extra=PROGRESS)
    result.records += result.kept
    if result.kept:
        log.info("%d records existed already.", result.kept)
    if (result.records - result.kept) % _RECORDS_PER_COMMIT:
        log.info("Processed %d files.", result.records, extra=PROGRESS)


def _records(
    root: str,
    entries: list[Entry],
    settings: ImagesetSettings,
    writer: DatabaseWriter,
    result: Conversion,
    progress: Progress | None,
) -> Generator[tuple[bytes, bytes], None, None]:
    """Keys and values of the readable entries that are not in the database yet, in order."""
    expected: int | None = None
    missing = _missing(entries, writer) if settings.resume else [True] * len(entries)
    result.kept = missing.count(False)
    wanted = (e if absent else None for e, absent in zip(entries, missing, strict=True))
    work = threaded_map(lambda entry: image_record(root, entry, settings), wanted, settings.workers)
    with closing(work) as made:
        for number, datum in enumerate(made):
            name = entries[number].name
            if datum is not None:
                key = record_key(number, name)
                if settings.check_size and expected is None:
                    expected = datum.channels * datum.height * datum.width
                elif settings.check_size and len(datum.data) != expected:
                    raise unequal_sizes(key, datum, expected)
                yield key, datum.SerializeToString()
            elif missing[number]:
                _note_unreadable(root + readable_name(name), settings, result)
            done = number + 1
            if progress and (done % _ENTRIES_PER_STEP == 0 or done == len(entries)):
                progress(done, len(entries))


def _missing(entries: list[Entry], writer: DatabaseWriter) -> list[bool]:
    """For each entry, whether its record is still to be written."""
    looked_up = ProgressLines("images compared with the existing records")
    missing = []
    for number, entry in enumerate(entries):
        missing.append(record_key(number, entry.name) not in writer)
        looked_up(number + 1, len(entries))
    return missing


def _note_unreadable(name: str, settings: ImagesetSettings, result: Conversion) -> None:
    if settings.on_error == "fail":
        raise DataError(
            f"{short_name(name)}: the image is missing or cannot be decoded; replace it, or leave "
            "such images out with: --on-error skip"
        )
    log.error("Could not open or find file %s", short_name(name))
    result.unreadable.append(name)
