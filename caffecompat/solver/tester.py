"""The tests during a training: their schedule, their passes and their scores."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from caffecompat.net import Net, Result
from caffecompat.net.execution.layer_watch import LayerWatch, StopRequested
from caffecompat.proto.schema import Message
from caffecompat.reporting.glog import number, output_lines
from caffecompat.solver.detection_scores import DetectionSums
from caffecompat.solver.diagnostics.debug_info import DebugPass
from caffecompat.solver.intervals import is_due
from caffecompat.solver.scores import Scores, ScoreSums
from caffecompat.solver.setup.compute import ComputeOptions


def scheduled_tests(message: Message, iteration: int) -> int:
    """The number of tests of a run before the one at ``iteration``.

    Tests take place before the training of iterations 0 (unless ``test_initialization`` is
    false), ``test_interval``, 2 ``test_interval`` and so on. Counting them from the iteration
    alone gives a resumed run the same test data as the uninterrupted one.
    """
    if message.test_interval <= 0 or iteration <= 0:
        return 0
    count = -(-iteration // message.test_interval)
    return int(count if message.test_initialization else count - 1)


def is_test_due(message: Message, iteration: int) -> bool:
    """Whether a test comes before the training of ``iteration``."""
    first = iteration > 0 or bool(message.test_initialization)
    return first and is_due(message.test_interval, iteration)


def missing_layers(train: Net, test: Net) -> list[str]:
    """Names of layers of the train net that the test net does not have."""
    names = {built.name for built in test.layers}
    return [built.name for built in train.layers if built.name not in names]


class Tester:
    """Runs the test nets of a training and logs Caffe's lines.

    Args:
        message: SolverParameter.
        train: the train net.
        compute: compute options of the nets.
        log: for the lines.
        watch: runs the passes.
    """

    def __init__(
        self,
        message: Message,
        train: Net,
        compute: ComputeOptions,
        log: logging.Logger,
        watch: LayerWatch,
    ) -> None:
        self._watch = watch
        self._message = message
        self._train = train
        self._compute = compute
        self._log = log

    def test(
        self, index: int, net: Net, iteration: int, interrupted: Callable[[], bool]
    ) -> Scores | None:
        """Scores test net number ``index`` as it is due at ``iteration``; see :func:`run_test`."""
        self._log.info(f"Iteration {iteration}, Testing net (#{index})")
        for name in missing_layers(self._train, net):
            self._log.info(f"Ignoring source layer {name}")
        passes = self._message.test_iter[index]
        first = scheduled_tests(self._message, iteration) * passes
        run_pass = DebugPass(net, self._log).forward if self._message.debug_info else net.run
        what = f"the test of net #{index}, batch"

        def watched(number: int) -> Result:
            return self._watch.run(net, what, number - first, lambda: run_pass(number))

        sums = self._sums()
        with self._compute.whole_pass(), self._compute.forward(net.device):
            scores = run_test(net, first, passes, interrupted, watched, sums)
        if scores is None:
            return None
        if self._message.test_compute_loss:
            self._log.info(f"Test loss: {number(scores.loss)}")
        for line in sums.lines():
            self._log.info(line)
        for line in output_lines("Test", scores.outputs, net.loss_weights):
            self._log.info(line)
        return scores

    def _sums(self) -> ScoreSums:
        """What collects the outputs: their means, or for detections their precision."""
        message = self._message
        if message.eval_type != "detection":
            return ScoreSums()
        version, shown = message.ap_version, message.show_per_class_result
        return DetectionSums(version=version, show_classes=shown)


@torch.no_grad()
def run_test(
    net: Net,
    first_pass: int,
    passes: int,
    interrupted: Callable[[], bool],
    run: Callable[[int], Result] | None = None,
    sums: ScoreSums | None = None,
) -> Scores | None:
    """Runs a test net and averages its outputs.

    Args:
        first_pass: index of the first pass, which determines the data.
        interrupted: called before each pass; True ends the test.
        run: runs a pass by its index; by default the net does.
        sums: collects the outputs; by default their means are taken.

    Returns:
        The means, None if the test was interrupted.
    """
    sums = ScoreSums() if sums is None else sums
    run = run or net.run
    while sums.passes < passes:
        if interrupted():
            return None
        try:
            result = run(first_pass + sums.passes)
        except StopRequested:
            continue  # interrupted() handles the request
        sums.add(result.outputs, result.loss)
    return sums.means()
