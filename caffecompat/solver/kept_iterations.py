"""What an iteration changes beside weights and their history, as it was before the iteration."""

from __future__ import annotations

from caffecompat.net import Net
from caffecompat.net.execution.kept_state import KeptState
from caffecompat.solver.optim.policies import Policy
from caffecompat.weights import SolverState


class KeptIterations:
    """Keeps what passes change in a net, and the state of the learning-rate policy, before each of
    the last two iterations.

    The host may learn that a loss is not finite while the pass of the next iteration runs.
    """

    def __init__(self, net: Net, policy: Policy) -> None:
        self._policy = policy
        self._states = KeptState(net), KeptState(net)
        # The policy's, with the number of the iteration before which both were kept.
        self._policies: list[SolverState | None] = [None, None]

    def keep(self, iteration: int) -> None:
        """Copies it, before the passes of ``iteration``; work of the device alone."""
        place = iteration % 2
        self._policies[place] = None
        self._states[place].keep()
        state = SolverState(iteration, "", [])
        self._policy.save(state)
        self._policies[place] = state

    def restore(self, iteration: int) -> None:
        """Sets it to what it was before ``iteration``, if that is known."""
        place = iteration % 2
        state = self._policies[place]
        if state is not None and state.iteration == iteration:
            self._states[place].restore()
            self._policy.load(state)
