"""The log lines at the start of a training."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from caffecompat.proto.text.printer import format_text
from caffecompat.reporting import glog
from caffecompat.solver.setup.build_nets import NetOptions
from caffecompat.solver.setup.device_choice import describe_batch, describe_choice
from caffecompat.solver.setup.net_plans import PlannedNet, planned_batch
from caffecompat.solver.setup.settings import Settings


def report_start(
    settings: Settings,
    plan: PlannedNet,
    options: NetOptions,
    per_device: bool,
    notes: Sequence[str],
    log: logging.Logger,
) -> None:
    """Logs the effective batch, the device, notes and the definition.

    Args:
        plan: the train net.
        per_device: each rank reads the whole batch size, as in Caffe.
        notes: sentences about where the training starts.
    """
    passes = int(settings.message.iter_size)
    count = options.process_group.world_size
    for line in [
        *describe_batch(planned_batch(plan), passes, count, per_device),
        *describe_choice(options.device),
    ]:
        log.info(line)
    for note in settings.notes:
        log.warning(f"{settings.place}: {note}")
    for note in [*plan.notes, *notes]:
        log.warning(note)
    text = format_text(settings.message)
    log.info(f"Initializing solver from parameters: \n{text}", extra=glog.TEXT)


def nothing_to_do(iteration: int, max_iter: int) -> list[str]:
    """A sentence if a resumed training has already reached ``max_iter``."""
    if iteration == 0:
        return []  # the notes of the settings report that max_iter is 0
    return [
        f"nothing to do: this training is at iteration {iteration} already, and max_iter is "
        f"{max_iter}; raise max_iter to train on"
    ]
