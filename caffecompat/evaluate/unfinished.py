"""The finished parts of an evaluation, so that it can continue after it was ended."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from caffecompat.errors import DataError
from caffecompat.output_files import atomic_write

Part = TypeVar("Part")

log = logging.getLogger(__name__)

_SETTINGS = "settings.json"
# In the text of settings.
_FASTEST = '"engine": "fastest"'


class UnfinishedEvaluation(Generic[Part]):
    """A folder beside the result, with one file for each finished part.

    Args:
        output: the file that the evaluation will write; None keeps nothing.
        settings: all that decides the result, as JSON values.
        load, save: read and write the file (.npz) of a part.
        several: other processes work on parts of the same result.

    Raises:
        DataError: the folder is of an evaluation with other settings.
    """

    def __init__(
        self,
        output: str | None,
        settings: dict[str, Any],
        load: Callable[[Path], Part],
        save: Callable[[Part, Path], None],
        several: bool = False,
    ) -> None:
        self._load, self._save = load, save
        self._folder = None if output is None else Path(f"{output}.unfinished")
        text = json.dumps(settings, sort_keys=True, indent=1)
        record = None if self._folder is None else self._folder / _SETTINGS
        if _FASTEST in text and (several or (record is not None and record.exists())):
            log.warning(
                "each process measures which engine is the fastest, so that parts of this result "
                "may be of several engines, which round differently and quantize differently; "
                "--engine with a name takes one"
            )
        if self._folder is None or record is None:
            return
        if record.exists():
            _compare(json.loads(record.read_text("utf-8")), json.loads(text), self._folder)
            return
        self._folder.mkdir(exist_ok=True)
        with atomic_write(record) as file:
            file.write(text.encode())

    def load(self, part: int) -> Part | None:
        """The result of a part that is finished, else None."""
        if self._folder is None or not self._file(part).exists():
            return None
        return self._load(self._file(part))

    def save(self, part: int, found: Part) -> None:
        """Keeps the result of a finished part."""
        if self._folder is not None:
            self._save(found, self._file(part))

    def remove(self) -> None:
        """Removes the folder, after the result has been written."""
        if self._folder is not None:
            shutil.rmtree(self._folder)

    def _file(self, part: int) -> Path:
        assert self._folder is not None
        return self._folder / f"part-{part:06d}.npz"


def _compare(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    different = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if different:
        key = different[0]
        raise DataError(
            f"{folder}: an unfinished evaluation with {key} {before.get(key)!r}, now it is "
            f"{now.get(key)!r}; give another --output, or remove the folder"
        )
