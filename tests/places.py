"""Paths of this repository and of the files of the tests."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
# Cases and files recorded from BVLC Caffe 1.0, laid out as the full set is.
COPIES = REPOSITORY / "tests" / "recorded" / "copies"
