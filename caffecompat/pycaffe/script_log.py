"""The log of a pycaffe script, in the format of Caffe's."""

from __future__ import annotations

import logging
import os

from caffecompat.reporting.glog import LOGGER, GlogFormatter, StderrHandler

# Levels of glog: 0 INFO, 1 WARNING, 2 ERROR, 3 FATAL.
_LEVELS = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


def init_log(level: int | None = None, stderr: bool = True) -> None:
    """Writes the log to standard error from now on.

    Args:
        level: the lowest level to write, 0 (INFO) to 3 (FATAL); by default that of the environment
            variable ``GLOG_minloglevel``, or 0.
        stderr: False writes nothing.
    """
    if level is None:
        given = os.environ.get("GLOG_minloglevel", "0")  # noqa: SIM112 - glog's spelling
        level = int(given) if given.isdecimal() else 0
    for handler in list(LOGGER.handlers):
        if isinstance(handler, StderrHandler):
            LOGGER.removeHandler(handler)
    if stderr:
        handler = StderrHandler()
        handler.setFormatter(GlogFormatter())
        LOGGER.addHandler(handler)
    LOGGER.setLevel(_LEVELS[min(max(level, 0), len(_LEVELS) - 1)])


def set_logging_disabled() -> None:
    """Writes no log from now on, not even errors; of FlowNet's fork."""
    init_log(3, stderr=False)


def log(message: str) -> None:
    """Writes a line of level INFO."""
    LOGGER.info(message, stacklevel=2)
