"""The score of a net outside a training: the outputs of each batch, and their means."""

from __future__ import annotations

from functools import partial

import torch

from caffecompat.errors import SolverError
from caffecompat.net import Net
from caffecompat.net.execution.layer_watch import LayerWatch
from caffecompat.reporting.activity import Activity, heartbeat
from caffecompat.reporting.glog import LOGGER, loss_bracket, number
from caffecompat.solver.scores import Scores, ScoreSums


def report_device(device: torch.device) -> None:
    """Logs the device of a net."""
    if device.type == "cuda":
        LOGGER.info(f"Use GPU with device ID {device.index}")
        LOGGER.info(f"GPU device name: {torch.cuda.get_device_name(device)}")
    else:
        LOGGER.info("Use CPU.")


@torch.no_grad()
def score(net: Net, batches: int, sums: ScoreSums | None = None) -> Scores:
    """Runs ``batches`` passes of a net that has data layers and logs Caffe's lines.

    Args:
        sums: collects the outputs; by default their means are taken and those of each batch are
            logged, too.

    Raises:
        SolverError: ``batches`` is not positive.
    """
    if batches < 1:
        raise SolverError(f"--iterations is {batches}, it must be at least 1")
    LOGGER.info(f"Running for {batches} iterations.")
    each = sums is None
    sums = ScoreSums() if sums is None else sums
    # No request ends a batch: Ctrl-C ends the command.
    watch = LayerWatch(Activity(), True)
    with heartbeat(watch.activity, LOGGER):
        for batch in range(batches):
            result = watch.run(net, "batch", batch, partial(net.run, batch))
            sums.add(result.outputs, result.loss)
            for name, value in result.outputs.items() if each else ():
                for element in value.flatten().tolist():
                    LOGGER.info(f"Batch {batch}, {name} = {number(element)}")
    scores = sums.means()
    for line in sums.lines():
        LOGGER.info(line)
    LOGGER.info(f"Loss: {number(scores.loss)}")
    for name, means in scores.outputs.items():
        weight = net.loss_weights.get(name, 0.0)
        for mean in means:
            LOGGER.info(f"{name} = {number(mean)}{loss_bracket(weight, mean)}")
    return scores
