"""``caffecompat device-query``."""

from __future__ import annotations

import argparse

HELP = "list the GPUs of this machine"
EXAMPLE = """\
  caffecompat device-query --gpu all"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gpu", default="all", help="GPU ids separated by commas, or all (default: all)"
    )


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.reporting.glog import LOGGER, log_to_stderr
    from caffecompat.solver.setup.device_choice import (
        INSTALL_CUDA,
        describe_device,
        describe_no_device,
        device_count,
        flagged_devices,
    )

    with log_to_stderr():
        LOGGER.info(f"Querying GPUs {arguments.gpu}")
        if arguments.gpu == "all" and device_count() == 0:
            LOGGER.info(describe_no_device())
            return 0
        for number in flagged_devices(arguments.gpu, INSTALL_CUDA):
            for line in describe_device(number):
                LOGGER.info(line)
    return 0
