"""Small trainings on a device: repeated, resumed, captured, compiled, and beside the CPU."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from caffecompat.net.execution.gpu.fusing import convolution_in_one_works
from caffecompat.net.kernels.choice import Kernels
from caffecompat.net.kernels.self_check import working_kernels
from caffecompat.proto.text.parser import parse_text
from caffecompat.solver import Solver
from tools.gpu.one_stage import Row, Work, run_stage

# Before BatchNorm there is no bias: its gradient is 0 but for rounding, which some rules divide by
# its own size, so that nothing could be compared.
NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 8 dim: 3 dim: 20 dim: 20 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 8 } } }
layer { name: "conv0" type: "Convolution" bottom: "data" top: "conv0"
        convolution_param { num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "msra" }
                            bias_filler { type: "gaussian" std: 0.1 } } }
layer { name: "relu0" type: "ReLU" bottom: "conv0" top: "conv0" }
layer { name: "pool0" type: "Pooling" bottom: "conv0" top: "pool0"
        pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "conv1" type: "Convolution" bottom: "pool0" top: "conv1"
        convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "msra" }
                            bias_filler { type: "gaussian" std: 0.1 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1" }
layer { name: "pool1" type: "Pooling" bottom: "norm1" top: "pool1"
        pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
        convolution_param { num_output: 16 kernel_size: 1 bias_term: false
                            weight_filler { type: "msra" } } }
layer { name: "bn2" type: "BatchNorm" bottom: "conv2" top: "conv2" }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "drop2" type: "Dropout" bottom: "conv2" top: "conv2" }
layer { name: "score" type: "InnerProduct" bottom: "conv2" top: "score"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
RULES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
ITERATIONS, HALF = 6, 3
MODES: tuple[dict[str, Any], ...] = ({}, {"precision": "bf16"}, {"precision": "fp16"})
# Sums in another order, over six updates.
CPU_BOUND = 2e-3
COMPILED_BOUND = 2e-2
# One rounding instead of two after each convolution; and a sum in fp32 with one rounding.
FUSED_BOUND, KERNEL_BOUND = 3e-2, 1e-4


def small_solver(
    work: Work, folder: str, rule: str = "SGD", iter_size: int = 1, more: str = "", **options: Any
) -> Solver:
    momentum = 0.0 if rule in ("AdaGrad", "RMSProp") else 0.9
    # RMSProp's first updates are ten times the rate, whatever the gradient.
    rate = 0.0005 if rule == "RMSProp" else 0.005
    message = parse_text(
        f'net_param {{ {NET} }} base_lr: {rate} lr_policy: "fixed" max_iter: {ITERATIONS} '
        f'type: "{rule}" momentum: {momentum} iter_size: {iter_size} random_seed: 3 '
        f'snapshot_prefix: "{folder}/snap" snapshot_after_train: false {more}',
        "SolverParameter",
    )[0]
    solver = Solver(message, **{"device": work.device, **options})
    generator = torch.Generator().manual_seed(1)
    blobs = solver.net.blobs
    blobs["data"].data.copy_(torch.randn((8, 3, 20, 20), generator=generator))
    blobs["label"].data.copy_(torch.randint(5, (8,), generator=generator).float())
    return solver


def _trained(solver: Solver, iterations: int = ITERATIONS) -> list[torch.Tensor]:
    solver.step(iterations)
    return [entry.tensor.detach().cpu().clone() for entry in solver.net.learnable]


def _equal(what: str, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> Row:
    different = sum(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    text = f"{different} of {len(first)} parameters differ" if different else "equal bit for bit"
    return Row(what, text, not different)


def _close(
    what: str, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor], bound: float
) -> Row:
    worst = max(
        float((a - b).abs().max() / a.abs().max().clamp(min=1e-6))
        for a, b in zip(first, second, strict=True)
    )
    return Row(what, f"largest difference {worst:.1e} (bound {bound:g})", worst <= bound)


def _modes(work: Work) -> Iterator[tuple[str, dict[str, Any]]]:
    """Precisions, each with and without a CUDA graph where there is a GPU."""
    for mode in MODES if work.on_gpu else MODES[:2]:
        for graph in (False, True) if work.on_gpu else (False,):
            name = f"{mode.get('precision', 'fp32')}, {'graph' if graph else 'eager'}"
            yield name, {**mode, "cuda_graph": graph}
        if work.small:
            return


def repeated(work: Work) -> Iterator[Row]:
    """Two runs are equal, and so is a resumed one."""
    for name, mode in _modes(work):
        for iter_size in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                whole = _trained(small_solver(work, folder, iter_size=iter_size, **mode))
                again = _trained(small_solver(work, folder, iter_size=iter_size, **mode))
                yield _equal(f"two runs: {name}, iter_size {iter_size}", whole, again)
                half = small_solver(work, folder, iter_size=iter_size, **mode)
                half.step(HALF)
                half.snapshot()
                state = f"{folder}/snap_iter_{HALF}.solverstate"
                rest = small_solver(work, folder, iter_size=iter_size, snapshot=state, **mode)
                resumed = _trained(rest, ITERATIONS - HALF)
                yield _equal(f"resumed: {name}, iter_size {iter_size}", whole, resumed)


def captured(work: Work) -> Iterator[Row]:
    """A CUDA graph makes the updates of the eager passes."""
    if not work.on_gpu:
        yield Row("CUDA graph beside eager", "needs a GPU")
        return
    for mode in MODES:
        for iter_size in (1, 2):
            name = f"{mode.get('precision', 'fp32')}, iter_size {iter_size}"
            with tempfile.TemporaryDirectory() as folder:
                eager = _trained(
                    small_solver(work, folder, iter_size=iter_size, cuda_graph=False, **mode)
                )
                solver = small_solver(work, folder, iter_size=iter_size, cuda_graph=True, **mode)
                # A pass before the first step, whose autograd graph must not disturb the capture.
                solver.net.forward()
                yield _equal(f"graph = eager: {name}", eager, _trained(solver))


def fused(work: Work) -> Iterator[Row]:
    """Fused layers and kernels beside torch's operators, layer by layer."""
    if not work.on_gpu:
        yield Row("fused layers beside others", "needs a GPU")
        return
    plain: dict[str, Any] = {"fused": False, "kernels": False, "cuda_graph": False}
    ways: tuple[dict[str, Any], ...] = ({}, *({name: False} for name in plain))
    for mode in MODES:
        with tempfile.TemporaryDirectory() as folder:
            expected = _trained(small_solver(work, folder, **mode, **plain))
            for options in ways:
                found = _trained(small_solver(work, folder, **mode, **options))
                how = ", ".join(f"{name} off" for name in options) or "all on"
                name = f"{mode.get('precision', 'fp32')}, {how}, as layer by layer"
                yield _close(name, expected, found, FUSED_BOUND if mode else KERNEL_BOUND)


def kernels(work: Work) -> Iterator[Row]:
    """Which kernels work here, tried beside torch's operators on small blobs."""
    device = torch.device(work.device)
    working = working_kernels(device)
    for name in Kernels.names() if work.on_gpu else ():
        used = getattr(working.kernels, name)
        problem = "; ".join(p for p in working.problems if p.startswith(name))
        yield Row(f"kernel: {name}", "works" if used else problem, used)
    for half in (torch.bfloat16, torch.float16) if work.on_gpu else ():
        works = convolution_in_one_works(device, half)
        yield Row(f"convolution with ReLU in one, {half}", "works" if works else "no", works)
    if not work.on_gpu:
        yield Row("kernels", "need a GPU")


def beside_the_cpu(work: Work) -> Iterator[Row]:
    """The same training on the CPU, for each update rule."""
    cpu = replace(work, device="cpu")
    for rule in RULES[:2] if work.small else RULES:
        for more, label in (("", ""), ("clip_gradients: 0.5", ", clipped")):
            with tempfile.TemporaryDirectory() as folder:
                here = _trained(small_solver(work, folder, rule, more=more))
                there = _trained(small_solver(cpu, folder, rule, more=more))
            yield _close(f"{rule}{label}, as on the CPU", there, here, CPU_BOUND)


def compiled(work: Work) -> Iterator[Row]:
    """--compile beside eager passes."""
    if work.small:
        yield Row("compiled beside eager", "left out of a trial on the CPU")
        return
    for mode in MODES[:2]:
        with tempfile.TemporaryDirectory() as folder:
            eager = _trained(small_solver(work, folder, cuda_graph=False, **mode))
            other = _trained(small_solver(work, folder, compiled=True, **mode))
        name = mode.get("precision", "fp32")
        yield _close(f"compiled, as eager: {name}", eager, other, COMPILED_BOUND)


def scaled_loss(work: Work) -> Iterator[Row]:
    """fp16 trains with finite parameters."""
    if not work.on_gpu:
        yield Row("fp16", "needs a GPU")
        return
    with tempfile.TemporaryDirectory() as folder:
        values = _trained(small_solver(work, folder, precision="fp16"), 30)
    finite = all(bool(value.isfinite().all()) for value in values)
    yield Row("fp16, 30 iterations", "finite" if finite else "not finite", finite)


if __name__ == "__main__":
    sys.exit(
        run_stage(
            __doc__,
            {
                "repeated": repeated,
                "kernels": kernels,
                "fused": fused,
                "captured": captured,
                "beside the CPU": beside_the_cpu,
                "scaled loss": scaled_loss,
                "compiled": compiled,
            },
        )
    )
