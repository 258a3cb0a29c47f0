"""Where the recorded cases are: the full set where there is one, else the copies in the tests."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.places import COPIES, REPOSITORY

VARIABLE = "CAFFECOMPAT_RECORDED"


@dataclass(frozen=True)
class RecordedCases:
    """A folder of values recorded from BVLC Caffe 1.0.

    Attributes:
        folder: holds a folder per subject: layers, data, solver, files, upgrade, netstate, cli.
        published: published definitions and what Caffe made of them; None where they are not.
        complete: false for the copies in this repository, a small part of the full set.
    """

    folder: Path
    published: Path | None
    complete: bool

    @property
    def place(self) -> str:
        return str(self.folder.parent) if self.complete else "the copies in the tests"


def find_recorded(
    option: str | None, environment: str | None, beside: Path = REPOSITORY.parent / "shared"
) -> RecordedCases:
    """The recorded cases.

    Args:
        option: what ``--recorded`` names, if it is given.
        environment: the value of ``CAFFECOMPAT_RECORDED``, if it is set.
        beside: the folder beside the checkout, which is used if nothing is named.

    Raises:
        pytest.UsageError: a folder is named that has no recorded cases.
    """
    named = option or environment
    if named:
        source = "--recorded" if option else VARIABLE
        top = Path(named).resolve()
        if not any((top / "golden" / "layers").glob("*/*.npz")):
            raise pytest.UsageError(
                f"{source} {named}: there are no recorded cases; name the folder that holds "
                "'golden' and 'zoo'"
            )
    elif (beside / "golden").is_dir():
        top = beside.resolve()
    else:
        return RecordedCases(COPIES, None, complete=False)
    published = top / "zoo"
    return RecordedCases(top / "golden", published if published.is_dir() else None, complete=True)


def recorded_cases(option: str | None) -> RecordedCases:
    """The recorded cases of this run of the tests; see :func:`find_recorded`."""
    return find_recorded(option, os.environ.get(VARIABLE))
