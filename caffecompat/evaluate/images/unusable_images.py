"""Images that cannot be used: an error, or left out with a warning."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from caffecompat.errors import DataError

Image = TypeVar("Image")

log = logging.getLogger(__name__)


def read_if_usable(read: Callable[[int], Image], index: int, skip_corrupt: bool) -> Image | None:
    """What ``read`` returns for an image; None, with a warning, where it cannot be used.

    Raises:
        DataError: it cannot be used, and not ``skip_corrupt``.
    """
    try:
        return read(index)
    except DataError as error:
        if not skip_corrupt:
            raise DataError(
                f"{error}; --skip-corrupt leaves out images that cannot be used"
            ) from error
        log.warning("%s; it is left out", error)
        return None
