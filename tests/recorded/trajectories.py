"""Trajectories recorded from BVLC Caffe, and what a solver must do to follow one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caffecompat.errors import CaffeError
from caffecompat.net import Result
from caffecompat.solver import Solver


@dataclass
class Recorder:
    """Writes down what passes through a solver during one iteration."""

    solver: Solver
    outputs: list[dict[str, np.ndarray]] = field(default_factory=list)
    gradients: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        run, apply = self.solver.net.run, self.solver._optimizer.apply

        def recording_run(index: int) -> Result:
            result = run(index)
            copies = {name: v.detach().numpy().copy() for name, v in result.outputs.items()}
            self.outputs.append(copies)
            return result

        def recording_apply(rate: np.float32, iteration: int) -> torch.Tensor | None:
            tensors = [entry.tensor for entry in self.solver.net.learnable]
            grads = [torch.zeros_like(t) if t.grad is None else t.grad.clone() for t in tensors]
            self.gradients = [gradient.numpy() for gradient in grads]
            return apply(rate, iteration)

        self.solver.net.run = recording_run  # type: ignore[method-assign]
        self.solver._optimizer.apply = recording_apply  # type: ignore[method-assign]

    def output(self, blob: str) -> np.ndarray:
        values = [outputs[blob] for outputs in self.outputs]
        return np.stack(values) if len(values) > 1 else values[0]


def near(found: Any, expected: np.ndarray, what: str) -> None:
    """Equal within float32 rounding of sums taken in another order."""
    scale = float(np.abs(expected).max(initial=0))
    atol = max(2e-6 * scale, 1e-7)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=atol, err_msg=what)


class Tally:
    """Checks many cases in one test and reports all that fail."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.count = 0

    @contextmanager
    def case(self, name: str) -> Iterator[None]:
        self.count += 1
        try:
            yield
        except (AssertionError, CaffeError) as error:
            self.failures.append(f"{name}: {error}")

    def close(self) -> None:
        assert self.count > 0
        assert not self.failures, "\n".join(self.failures)


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
            recorder.outputs.clear()
            solver.step(1)
            assert np.float32(solver.rate) == self.values["lr"][k], f"rate of iteration {k}"
            near(solver.loss, self.values["loss"][k], f"loss of iteration {k}")
            self._compare_parameters(solver, k + 1)
            for blob in self.case["outputs"]:
                near(recorder.output(blob), self.values[f"out/{blob}"][k], f"{blob} at {k}")
            self._compare_gradients(solver, recorder, k)
        self._compare_history(solver)

    def _compare_parameters(self, solver: Solver, k: int) -> None:
        for key in (key for key in self.values.files if key.startswith("param/")):
            _, layer, index = key.split("/")
            found = solver.net.params[layer][int(index)].detach()
            near(found, self.values[key][k], f"{key} after {k} iterations")

    def _compare_gradients(self, solver: Solver, recorder: Recorder, k: int) -> None:
        for entry, found in zip(solver.net.learnable, recorder.gradients, strict=True):
            key = f"grad/{entry.layer}/{entry.index}@{k}"
            if key in self.values.files:
                near(found, self.values[key], key)

    def _compare_history(self, solver: Solver) -> None:
        if self.case["n_history"] is None:
            return
        history = solver._optimizer.history
        assert len(history) == self.case["n_history"]
        for i, array in enumerate(history):
            near(array, self.values[f"history_end/{i}"], f"history {i} at the end")
        assert solver._policy.step == self.case["current_step_end"]
