"""Arguments that several verbs share, with Caffe's names."""

from __future__ import annotations

import argparse


def add_state_arguments(parser: argparse.ArgumentParser) -> None:
    """``--level`` and ``--stage``: parts of the net state that include/exclude rules look at."""
    parser.add_argument("--level", type=int, default=0, help="network level (default: 0)")
    parser.add_argument("--stage", default="", help="network stages, separated by commas")


def stages(arguments: argparse.Namespace) -> list[str]:
    """The stage names; as in Caffe's tool no ``--stage`` is one stage with an empty name."""
    return str(arguments.stage).split(",")
