"""AutoIterSize: estimates the memory of a training and divides its batch to fit."""

from __future__ import annotations

import logging

from caffecompat.errors import CaffeError, SolverError
from caffecompat.net import Net
from caffecompat.net.allocation import available
from caffecompat.reporting.units import format_memory
from caffecompat.solver.estimate.forecast import Forecast, make_forecast, split_plan, split_settings
from caffecompat.solver.estimate.memory import Footprint, footprint
from caffecompat.solver.setup.build_nets import NetOptions, shapes_only_net
from caffecompat.solver.setup.net_plans import PlannedNet
from caffecompat.solver.setup.settings import Settings


class AutoIterSize:
    """Estimates a solver's training before its nets are built.

    Args:
        settings: of the solver; :meth:`split` changes its message.
        plan: the train net.
        options: of its nets; with several ranks the one with the least free memory decides.
        prefix: the snapshot prefix.

    Attributes:
        plan: the train net to build.
    """

    def __init__(
        self,
        settings: Settings,
        plan: PlannedNet,
        options: NetOptions,
        prefix: str,
    ) -> None:
        self.plan = plan
        self._message = settings.message
        self._rule = settings.rule
        self._prefix = prefix
        self._device = options.device
        self._half = options.compute.half
        group = options.process_group
        self._world_size = group.world_size
        known = [free for free in group.gather(available(options.device)) if free is not None]
        self._free = min(known, default=None)
        try:
            self._net = shapes_only_net(plan, options)
        except CaffeError:
            # Building the net itself raises the error, with the place in the file.
            self._net = None
        self._need: Footprint | None = None
        if self._net is not None:
            self._need = self._footprint(self._net).divided(group.world_size)

    def _footprint(self, net: Net) -> Footprint:
        scratch = self._rule.type != "SGD"
        return footprint(net, self._rule.history_slots, scratch, self._half)

    def _forecast(self, net: Net) -> Forecast:
        need = self._need or self._footprint(net)
        device, prefix = self._device, self._prefix
        return make_forecast(net, need, self._message, prefix, device, self._free, self._world_size)

    def split(self) -> list[str]:
        """Divides the batch if the memory is not sufficient.

        Returns:
            What was changed and why, one sentence each.

        Raises:
            SolverError: no division fits.
        """
        if self._net is None:
            return ["--auto-iter-size: this net cannot be estimated in advance; nothing is changed"]
        forecast = self._forecast(self._net)
        if forecast.fits:
            return []
        split = forecast.split
        if split is None:
            raise SolverError(f"--auto-iter-size: {forecast.warnings()[0]}")
        self.plan = split_plan(self.plan, split)
        split_settings(self._message, split)
        self._need = forecast.need.divided(split.parts)
        text = (
            f"--auto-iter-size: batch_size is {split.batch} and iter_size {split.passes} now, so "
        )
        text += (
            f"that {format_memory(self._need.total)} of memory do; samples and updates are the same"
        )
        return [text + (f", but {split.difference}" if split.difference else "")]

    def report(self, net: Net, log: logging.Logger) -> None:
        """Logs the forecast for the train net that was built."""
        forecast = self._forecast(net)
        for line in forecast.lines():
            log.info(line)
        for line in forecast.warnings():
            log.warning(line)
