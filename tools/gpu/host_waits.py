"""Iterations that show nothing must not make the host wait for the GPU, but for the loss."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator

import torch

from tools.gpu.one_stage import Row, Work, run_stage
from tools.gpu.trainings import RULES, small_solver


def waits(work: Work) -> Iterator[Row]:
    """torch's own check raises where an operation waits for the device.

    The loss is read by an event after the backward pass has been launched, which that check does
    not count. In fp16 a flag is read one iteration later, if the kernel of the update works.
    """
    for rule in RULES[:1] if work.small else RULES:
        for precision in ("fp32", "bf16", "fp16") if rule == RULES[0] else ("fp32", "bf16"):
            for graph in (False, True) if work.on_gpu else (False,):
                name = f"{rule}, {precision}, {'graph' if graph else 'eager'}"
                yield _step(work, name, rule, precision, graph)


def _step(work: Work, name: str, rule: str, precision: str, graph: bool) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        solver = small_solver(
            work, folder, rule, more="display: 0", precision=precision, cuda_graph=graph
        )
        solver.step(2)
        if not work.on_gpu:
            return Row(name, "trains; waiting shows on a GPU only")
        torch.cuda.set_sync_debug_mode("error")
        try:
            # The end of step() reads the losses, which waits.
            for _ in range(3):
                solver._iterate()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return Row(name, "does not wait", True)


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, {"waits": waits}))
