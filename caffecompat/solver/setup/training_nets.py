"""The nets of a training: the train net, and the test nets that use its weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from caffecompat.net import Net
from caffecompat.solver.distributed.loss_sharding import sharding_warnings
from caffecompat.solver.setup.build_nets import NetOptions, open_net
from caffecompat.solver.setup.net_plans import PlannedNet


class TrainingNets:
    """Builds the nets of a training; if one cannot be built, all are closed.

    Attributes:
        train: the train net.
        tests: the test nets; their weights are those of the train net.
    """

    def __init__(
        self,
        train: PlannedNet,
        tests: Sequence[PlannedNet],
        options: NetOptions,
        seed: int,
        log: logging.Logger,
    ) -> None:
        self._options = options
        self._seed = seed
        self._log = log
        self._opened: list[Net] = []
        try:
            self._open_all(train, tests)
        except BaseException:
            self.close()
            raise

    def _open_all(self, train: PlannedNet, tests: Sequence[PlannedNet]) -> None:
        self._log.info(f"Creating training net from {train.origin}")
        self.train = self._open(train, None)
        for sentence in (
            sharding_warnings(self.train) if self._options.process_group.several else ()
        ):
            self._log.warning(sentence)
        self.tests: list[Net] = []
        for i, plan in enumerate(tests):
            self._log.info(f"Creating test net (#{i}) specified by {plan.origin}")
            self.tests.append(self._open(plan, self.train))

    def _open(self, plan: PlannedNet, share_with: Net | None) -> Net:
        net = open_net(plan, self._options, self._seed, share_with, self._log)
        self._opened.append(net)
        return net

    def close(self) -> None:
        """Stops the nets' data threads and closes their files."""
        for net in self._opened:
            net.close()
