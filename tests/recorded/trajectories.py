"""What a solver must do to follow a trajectory recorded from BVLC Caffe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from caffecompat import read_solver
from caffecompat.net import Result
from caffecompat.solver import Solver
from tests.recorded.tolerances import assert_near


def quiet_solver(
    folder: Path,
    weights: str | None = None,
    snapshot: str | None = None,
    name: str = "solver.prototxt",
) -> Solver:
    """The solver of the current folder, with its snapshots in another."""
    message = read_solver(name)
    message.snapshot_prefix = str(folder / "snap")
    return Solver(message, weights, snapshot)


class Recorder:
    """Writes down the outputs and gradients of a solver's iteration."""

    def __init__(self, solver: Solver) -> None:
        self._solver = solver
        self.begin()
        run = solver.net.run

        def recording_run(index: int) -> Result:
            result = run(index)
            copies = {name: v.detach().numpy().copy() for name, v in result.outputs.items()}
            self._outputs.append(copies)
            return result

        solver.net.run = recording_run  # type: ignore[method-assign]
        for position, entry in enumerate(solver.net.learnable):
            if entry.tensor.requires_grad:
                entry.tensor.register_post_accumulate_grad_hook(self._keep_gradient(position))

    def begin(self) -> None:
        """Forgets the last iteration."""
        self._outputs: list[dict[str, np.ndarray]] = []
        self.gradients = [np.zeros(e.tensor.shape, np.float32) for e in self._solver.net.learnable]

    def output(self, blob: str) -> np.ndarray:
        values = [outputs[blob] for outputs in self._outputs]
        return np.stack(values) if len(values) > 1 else values[0]

    def _keep_gradient(self, position: int) -> Callable[[torch.Tensor], None]:
        def keep(parameter: torch.Tensor) -> None:
            """After each backward pass: the sum over the iteration's passes so far."""
            assert parameter.grad is not None
            self.gradients[position] = parameter.grad.detach().numpy().copy()

        return keep


class Trajectory:
    """One recorded case, in the current folder."""

    def __init__(self) -> None:
        self.case = json.loads(Path("case.json").read_text())
        self.values = np.load("trajectory.npz")
        self.length = len(self.values["loss"])

    def follow(self, solver: Solver) -> None:
        """Steps ``solver`` from where it is to the end, and compares everything on the way."""
        recorder = Recorder(solver)
        for k in range(solver.iter, self.length):
            recorder.begin()
            solver.step(1)
            assert np.float32(solver.rate) == self.values["lr"][k], f"rate of iteration {k}"
            assert_near(solver.loss, self.values["loss"][k], f"loss of iteration {k}")
            self._compare_parameters(solver, k + 1)
            for blob in self.case["outputs"]:
                assert_near(recorder.output(blob), self.values[f"out/{blob}"][k], f"{blob} at {k}")
            self._compare_gradients(solver, recorder, k)
        self._compare_history(solver)

    def _compare_parameters(self, solver: Solver, k: int) -> None:
        for key in (key for key in self.values.files if key.startswith("param/")):
            _, layer, index = key.split("/")
            found = solver.net.params[layer][int(index)].detach()
            assert_near(found, self.values[key][k], f"{key} after {k} iterations")

    def _compare_gradients(self, solver: Solver, recorder: Recorder, k: int) -> None:
        for entry, found in zip(solver.net.learnable, recorder.gradients, strict=True):
            key = f"grad/{entry.layer}/{entry.index}@{k}"
            if key in self.values.files:
                assert_near(found, self.values[key], key)

    def _compare_history(self, solver: Solver) -> None:
        if self.case["n_history"] is None:
            return
        history = solver.history
        assert len(history) == self.case["n_history"]
        for i, array in enumerate(history):
            assert_near(array, self.values[f"history_end/{i}"], f"history {i} at the end")
        assert solver.current_step == self.case["current_step_end"]
