"""``caffecompat device-query``."""

from __future__ import annotations

import argparse

HELP = "show what GPUs there are"
EXAMPLE = """\
  caffecompat device-query --gpu all"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpu", default="", help="GPU ids separated by commas, or all")


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.solver.device import describe_device, flagged_devices
    from caffecompat.solver.log import LOGGER, log_to_stderr

    with log_to_stderr():
        LOGGER.info(f"Querying GPUs {arguments.gpu}")
        for number in flagged_devices(arguments.gpu):
            for line in describe_device(number):
                LOGGER.info(line)
    return 0
