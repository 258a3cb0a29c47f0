"""The solvers of pycaffe."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from caffecompat.net import Learnable
from caffecompat.proto import schema
from caffecompat.pycaffe.errors import pycaffe_errors, refuse_copy
from caffecompat.pycaffe.mode import current_device, next_seed
from caffecompat.pycaffe.nets.net import Net
from caffecompat.pycaffe.solvers.solver_parameter import SolverParameter
from caffecompat.solver import Solver as Training
from caffecompat.solver.optim.optimizer import Optimizer
from caffecompat.solver.optim.rate_limits import RateLimits
from caffecompat.solver.optim.rules import rules
from caffecompat.solver.setup.options import SolverOptions
from caffecompat.solver.setup.settings import Settings, read_settings
from caffecompat.solver.signals import uninterrupted

Callback = Callable[[], None]

# A loss that is not finite ends nothing, as in Caffe; the script decides. Scripts look at gradients
# between the passes and the update.
_OPTIONS = SolverOptions(on_nan="ignore", allow_python=True, cuda_graph=False)


class _ShownUpdates:
    """The last updates of a training, as gradients of its parameters once a script looks at them.

    Nothing here refers to the training or its nets, so that they are gone once they are dropped.

    Attributes:
        hidden: whether there are updates that the gradients do not show yet.
    """

    def __init__(self, learnable: Sequence[Learnable], optimizer: Optimizer) -> None:
        self.hidden = False
        self._learnable = learnable
        self._optimizer = optimizer

    def show(self) -> None:
        """Makes the updates the gradients, if they are not already."""
        if self.hidden:
            self.hidden = False
            for entry in self._learnable:
                if entry.tensor.grad is None:
                    entry.tensor.grad = torch.zeros_like(entry.tensor, requires_grad=False)
            self._optimizer.show_updates()


class _Training(Training):
    """A training whose nets run as pycaffe's, and that calls callbacks within an iteration.

    Attributes:
        shown, shown_tests: pycaffe's interface of the train net and of the test nets.
        on_start, on_gradients: called before and after the passes of each iteration.
    """

    def __init__(self, settings: Settings, device: torch.device) -> None:
        self.on_start: list[Callback] = []
        self.on_gradients: list[Callback] = []
        super().__init__(settings, device=device, options=_OPTIONS)

    def _build_nets(self, seed: int) -> None:
        super()._build_nets(seed)
        self._optimizer.keep_updates()
        self.shown = Net.of(self.net)
        self._updates = _ShownUpdates(self.net.learnable, self._optimizer)
        self.shown.views.before_diffs = self._updates.show
        self.shown_tests = [Net.of(net) for net in self.test_nets]
        for test in self.shown_tests:
            test.share_with(self.shown)

    def _iterate(self) -> bool:
        if self.on_start:
            self.show()
            self._call_all(self.on_start)
        self._updates.hidden = False
        # Views of gradients stay valid: once a script has used them, they keep their memory.
        self._train_step.keeps_gradients = self.shown.views.diffs_used
        return super()._iterate()

    def _update_parameters(self, display: bool, loss: torch.Tensor, step: int) -> None:
        self._call_all(self.on_gradients)
        super()._update_parameters(display, loss, step)
        self._updates.hidden = True

    def update(self) -> None:
        """One update by the gradients that the parameters have."""
        self.shown.views.use_diffs()
        self.shown.send()
        with uninterrupted():  # an update is made and counted, or neither
            self._optimizer.apply(self._policy.rate(self.iter), self.iter)
            self.iter += 1
        # The passes of this iteration were made by the script, if at all.
        self.shown.put_off_data(self._message.iter_size)
        self._updates.hidden = True
        self.show()

    def show(self) -> None:
        """Shows the last updates as gradients of the parameters, as Caffe's solvers do.

        They are copies, and made only for scripts that use the gradients.
        """
        if self.shown.views.diffs_used:
            self._updates.show()
        self.shown.show()

    def _call_all(self, functions: list[Callback]) -> None:
        if functions:
            self.shown.show()
            for function in functions:
                function()
            self.shown.send()

    @property
    def next_rate(self) -> float:
        """The learning rate of the next update."""
        return float(copy.copy(self._policy).rate(self.iter))

    def set_base_rate(self, rate: float) -> None:
        """Replaces the ``base_lr`` of the definition."""
        self._policy.base_lr = np.float32(rate)

    @property
    def _limits(self) -> RateLimits:
        limits, base = super()._limits, self._policy.base_lr
        return limits if limits.base == base else replace(limits, base=base)


class Solver:
    """Base class of the solvers; :func:`get_solver` makes that of a definition.

    Args:
        solver_file: path of a solver prototxt. Its type is that of the class.

    Raises:
        FileError (a RuntimeError): a file is missing or cannot be read.
        TextError, SolverError, NetError: as :class:`caffecompat.Solver`.
    """

    type = "SGD"
    __reduce_ex__ = refuse_copy

    def __init__(self, solver_file: str | os.PathLike[str]) -> None:
        with pycaffe_errors():
            settings = read_settings(os.fspath(solver_file))
            message = schema.new("SolverParameter")
            message.CopyFrom(settings.message)
            self._training = _Training(self._settings(settings), current_device())
        self._param = SolverParameter(message, self._training.set_base_rate)

    def _settings(self, settings: Settings) -> Settings:
        message = settings.message
        if message.random_seed < 0:
            message.random_seed = next_seed()
        if message.type == self.type:
            return settings
        message.type = self.type
        rule = rules.find(self.type, settings.place)(message, settings.place)
        return replace(settings, rule=rule)

    @property
    def net(self) -> Net:
        """The train net."""
        return self._training.shown

    @property
    def test_nets(self) -> list[Net]:
        """The test nets, with the weights of the train net."""
        return list(self._training.shown_tests)

    @property
    def iter(self) -> int:
        """The number of updates made."""
        return self._training.iter

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return self._training.next_rate

    @property
    def param(self) -> SolverParameter:
        """The fields of the definition; ``base_lr`` can be set, and counts from the next update."""
        return self._param

    def step(self, iterations: int) -> None:
        """Makes ``iterations`` updates, with the tests and snapshots that are due.

        Afterwards the ``diff`` of the parameters holds the last update.
        """
        self.net.send()
        with pycaffe_errors():
            self._training.step(iterations)
        self._training.show()

    def solve(self, resume_file: str | os.PathLike[str] | None = None) -> None:
        """Trains to ``max_iter``, first resuming from ``resume_file`` if it is given."""
        if resume_file is not None:
            self.restore(resume_file)
        self.net.send()
        with pycaffe_errors():
            self._training.solve()
        self._training.show()

    def apply_update(self) -> None:
        """One update by what the ``diff`` of the parameters of :attr:`net` holds."""
        self._training.update()

    def snapshot(self) -> None:
        """Writes ``<prefix>_iter_<n>.caffemodel`` and ``.solverstate``."""
        self.net.send()
        with pycaffe_errors():
            self._training.snapshot()

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Resumes from a solver state: iteration, weights, history; of a caffemodel the diffs."""
        with pycaffe_errors():
            weights = self._training.restore(path)
            if weights is not None:
                self.net.take_diffs(weights)
        self.net.show()

    def share_weights(self, net: Net) -> None:
        """Makes ``net`` use the weights of :attr:`net`."""
        net.share_with(self.net)

    def add_callback(self, on_start: Callback, on_gradients_ready: Callback) -> None:
        """Calls the functions before the passes of each iteration, and before its update."""
        self._training.on_start.append(on_start)
        self._training.on_gradients.append(on_gradients_ready)


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum."""


class NesterovSolver(SGDSolver):
    """Nesterov's accelerated gradient."""

    type = "Nesterov"


class AdaGradSolver(SGDSolver):
    """AdaGrad."""

    type = "AdaGrad"


class RMSPropSolver(SGDSolver):
    """RMSProp."""

    type = "RMSProp"


class AdaDeltaSolver(SGDSolver):
    """AdaDelta."""

    type = "AdaDelta"


class AdamSolver(SGDSolver):
    """Adam."""

    type = "Adam"


_CLASSES = {
    found.type: found
    for found in (
        SGDSolver,
        NesterovSolver,
        AdaGradSolver,
        RMSPropSolver,
        AdaDeltaSolver,
        AdamSolver,
    )
}


def get_solver(solver_file: str | os.PathLike[str]) -> Solver:
    """The solver of the type that the definition names.

    Raises:
        UnknownName: there is no such type.
    """
    with pycaffe_errors():
        settings = read_settings(os.fspath(solver_file))
    return _CLASSES[settings.message.type](solver_file)
