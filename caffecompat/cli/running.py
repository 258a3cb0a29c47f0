"""Arguments and net of the verbs that run one net: test and time."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import (
    add_device_arguments,
    add_fork_arguments,
    add_max_bytes_argument,
    add_precision_argument,
    add_state_arguments,
    add_trust_arguments,
    build_options,
    device_of,
)
from caffecompat.cli.inference_arguments import add_inference_arguments

if TYPE_CHECKING:
    from caffecompat.net import Net


def add_running_arguments(parser: argparse.ArgumentParser, engines: bool) -> None:
    """Device, precision, Python layers, limits, and the net's state.

    Args:
        engines: whether ``--optimize`` and ``--engine`` choose what runs the net.
    """
    add_device_arguments(parser)
    if engines:
        add_inference_arguments(parser)
    else:
        add_precision_argument(parser)
    add_trust_arguments(parser)
    add_fork_arguments(parser)
    add_max_bytes_argument(parser)
    add_state_arguments(parser)


def open_net(arguments: argparse.Namespace, phase: str) -> Net:
    """The net of ``--model`` on the device of ``--gpu``; its notes and the device are logged."""
    from caffecompat.evaluate.score import report_device
    from caffecompat.net import Net
    from caffecompat.reporting.glog import LOGGER

    device = device_of(arguments)
    report_device(device)
    net = Net(arguments.model, phase=phase, device=device, options=build_options(arguments))
    for note in net.notes:
        LOGGER.info(note)
    return net
