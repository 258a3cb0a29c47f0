#!/usr/bin/env python3
"""A training step of one of the paper's nets beside a hand-tuned plain PyTorch loop.

Both run in one process, in turns, over the same images in memory, so that the ratio means
something on any machine (above 1: ours is faster). Plain is what a careful user would write: a
torchvision-like VGG, channels last, autocast, fused SGD.

    step      forward, backward and update
    pass      forward and backward alone
    compiled  our step beside the plain one compiled by torch.compile (on CUDA)
    graphed   the same with CUDA graphs, torch.compile(mode="reduce-overhead") (on CUDA)
    rate      the card's own rate of matrix products, and the share of it that a step reaches
              (three times the multiplications of a forward pass count; on CUDA)
    pages     our step after its memory has moved to pages of 2 MB, beside before (on the CPU,
              where a training does it after 50 updates)
    lmdb      our step fed from an LMDB of JPEGs, beside our step from memory (on CUDA, or --lmdb)

Both start from equal weights, those of torch's initialisation: where fewer values are zero, the
same products take longer.

Examples:
    python tools/bench/train.py --batch 2 --rounds 3
    python tools/bench/train.py --device cuda --precision bf16 --batch 128
    python tools/bench/train.py --device cuda --precision bf16 --batch 128 --cuda-graph --compile
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from caffecompat.kept_memory import keep_freed_memory
from caffecompat.large_pages import collapse_memory
from caffecompat.net.execution.gpu.tf32 import products_in_tf32
from caffecompat.proto import schema
from caffecompat.proto.files import read_net
from caffecompat.solver import Solver
from caffecompat.solver.large_pages import UPDATES
from tools.bench.data import make_database
from tools.bench.plain_vgg import CLASSES, COLUMNS, HALVES, Plain

Message = Any
ROOT = Path(__file__).resolve().parents[2]
# Rows and columns of the JPEGs, as prepared for training.
JPEG_SIZE = (256, 341)
MEASURES = ("step", "pass", "rate", "compiled", "graphed", "pages", "lmdb")
# Options of solvers that are also arguments here.
WAYS = ("cuda_graph", "fused", "kernels")


def main() -> int:
    arguments = parse()
    keep_freed_memory()
    device = torch.device(arguments.device)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    images = torch.randn(arguments.batch, 3, arguments.size, arguments.size) * 60
    labels = torch.randint(CLASSES, (arguments.batch,))
    results = Results(arguments, machine(device))
    solver = memory_solver(arguments, images, labels)
    if set(arguments.measure) - {"lmdb", "pages"}:
        plain = Plain(arguments, device, images, labels)
        plain.give_weights(solver)
        compare_with_plain(solver, plain, results, device)
    if "pages" in arguments.measure:
        compare_pages(solver, results, device)
    if "lmdb" in arguments.measure:
        compare_lmdb(solver, results, device)
    return 0


def compare_with_plain(
    solver: Solver, plain: Plain, results: Results, device: torch.device
) -> None:
    arguments = results.arguments
    if {"step", "rate"} & set(arguments.measure):
        step = compare("step", solver.step, hand_tuned(plain.step, arguments), results, device)
    if "pass" in arguments.measure:
        passes = solver._train_step
        ours = repeated(lambda: passes._run(0, 0), arguments)
        compare("pass", ours, hand_tuned(plain.forward_backward, arguments), results, device)
    if "rate" in arguments.measure:
        report_rate(solver, step, results, device)
    for what, mode in (("compiled", None), ("graphed", "reduce-overhead")):
        if what in arguments.measure:
            plain.compile(mode)
            tuned = hand_tuned(plain.step, arguments)
            compare(what, solver.step, tuned, results, device)


class Results:
    """Prints what is measured, and keeps it in the file of ``--json``, if that is given."""

    def __init__(self, arguments: argparse.Namespace, machine: str) -> None:
        self.arguments = arguments
        print(f"# {machine}")
        print(
            f"# net {arguments.net}, batch {arguments.batch}, {arguments.precision}, "
            f"{arguments.size}x{arguments.size}"
        )
        print(f"{'':<8} {'ours ms':>10} {'plain ms':>10} {'ratio':>7} {'images/s':>9}")
        names = ("net", "batch", "precision", "size", "compile", "cuda_graph", "fused", "kernels")
        self._found: dict[str, Any] = {"machine": machine, "rows": []}
        self._found |= {name: getattr(arguments, name) for name in names}

    def add(self, what: str, ours: float, plain: float) -> None:
        """Seconds per step of both."""
        speed = self.arguments.batch / ours
        print(
            f"{what:<8} {ours * 1e3:10.1f} {plain * 1e3:10.1f} {plain / ours:7.3f} {speed:9.1f}",
            flush=True,
        )
        row = {"what": what, "ours": ours, "plain": plain, "ratio": plain / ours}
        self._found["rows"].append({**row, "images_per_second": speed})
        self._write()

    def add_rate(self, rate: float, reached: float) -> None:
        """Operations per second of large products, and of a step."""
        print(
            f"# matrix rate {rate / 1e12:.3g} TFLOP/s, step {reached / 1e12:.3g} TFLOP/s: "
            f"{reached / rate:.1%} of it"
        )
        self._found |= {"matrix_rate": rate, "of_matrix_rate": reached / rate}
        self._write()

    def _write(self) -> None:
        if self.arguments.json is not None:
            # Whole at any time: another program reads it meanwhile.
            draft = self.arguments.json.with_suffix(".tmp")
            draft.write_text(json.dumps(self._found, indent=1))
            draft.replace(self.arguments.json)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", choices=sorted(COLUMNS), default="D", help="column of Table 1")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=5, help="measured turns (default: 5)")
    parser.add_argument(
        "--steps", type=int, default=0, help="steps per turn (default: 1 on the CPU, 30 on CUDA)"
    )
    parser.add_argument("--threads", type=int, default=0, help="of torch on the CPU")
    parser.add_argument("--compile", action="store_true", help="compile both")
    parser.add_argument(
        "--cuda-graph",
        action=argparse.BooleanOptionalAction,
        help="ours as a CUDA graph (default: as in a training, where it is possible)",
    )
    parser.add_argument("--no-fusing", dest="fused", action="store_false", help="layer by layer")
    parser.add_argument("--no-kernels", dest="kernels", action="store_false", help="no Triton")
    parser.add_argument(
        "--blobs-first", action="store_true", help="ours in Caffe's order, not channels last"
    )
    parser.add_argument("--size", type=int, default=224, help="of the images (default: 224)")
    parser.add_argument(
        "--measure", nargs="+", choices=MEASURES, help="default: all on CUDA, step and pass else"
    )
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--lmdb", action="store_true", help="measure reading on the CPU, too")
    parser.add_argument("--records", type=int, default=1024, help="in the LMDB (default: 1024)")
    arguments = parser.parse_args()
    on_gpu = arguments.device.startswith("cuda")
    if arguments.measure is None:
        on_gpu_measures = [name for name in MEASURES if name != "pages"]
        arguments.measure = on_gpu_measures if on_gpu else ["step", "pass"]
        arguments.measure += ["lmdb"] if arguments.lmdb and not on_gpu else []
    if arguments.size % 32 or not 32 <= arguments.size <= JPEG_SIZE[0]:
        parser.error(f"--size {arguments.size}: a multiple of 32 up to {JPEG_SIZE[0]}")
    # Reading ahead and handing work over show over many steps only.
    arguments.steps = arguments.steps or (30 if on_gpu else 1)
    return arguments


def machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return f"torch {torch.__version__}, {device} ({name}), {torch.get_num_threads()} threads"


def cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def definition(letter: str, sources: Callable[[Message], None]) -> Message:
    """The train net of a column of Table 1; ``sources`` adds what brings data and labels."""
    whole, _ = read_net(ROOT / "prototxt" / f"{letter}_train_val.prototxt")
    net = schema.new("NetParameter")
    net.name = whole.name
    sources(net)
    net.layer.extend(layer for layer in whole.layer if layer.type not in ("Data", "Accuracy"))
    return net


def make_solver(net: Message, arguments: argparse.Namespace, **options: Any) -> Solver:
    """A solver for ``net``; ``options`` are those of solvers, in addition to the arguments."""
    message = schema.new("SolverParameter")
    message.net_param.CopyFrom(net)
    message.base_lr, message.lr_policy, message.max_iter = 1e-4, "fixed", 1000000
    message.momentum, message.weight_decay = 0.9, 5e-4
    message.random_seed, message.snapshot_after_train = 1, False
    return Solver(
        message,
        device=arguments.device,
        precision=arguments.precision,
        channels_last=not arguments.blobs_first,
        compiled=arguments.compile,
        large_pages=False,  # of the whole process, and so of the plain loop too
        **(options or {name: getattr(arguments, name) for name in WAYS}),
    )


def memory_solver(
    arguments: argparse.Namespace, images: torch.Tensor, labels: torch.Tensor, **options: Any
) -> Solver:
    """A solver whose images and labels lie in the net's inputs."""

    def sources(net: Message) -> None:
        for name, values in (("data", images), ("label", labels)):
            layer = net.layer.add(name=name, type="Input", top=[name])
            layer.input_param.shape.add(dim=list(values.shape))

    solver = make_solver(definition(arguments.net, sources), arguments, **options)
    for name, values in (("data", images), ("label", labels.float())):
        solver.net.blobs[name].data.copy_(values)
    return solver


def repeated(work: Callable[[], object], arguments: argparse.Namespace) -> Callable[[int], None]:
    """So many calls of ``work``, in the precision that a solver sets for its own passes only."""

    def run(steps: int) -> None:
        with products_in_tf32(arguments.precision == "tf32"):
            for _ in range(steps):
                work()

    return run


def hand_tuned(work: Callable[[], object], arguments: argparse.Namespace) -> Callable[[int], None]:
    """The same with the fastest algorithms of cuDNN; a solver takes repeatable ones."""
    run = repeated(work, arguments)

    def tuned(steps: int) -> None:
        cudnn = torch.backends.cudnn
        before = cudnn.benchmark, cudnn.deterministic
        cudnn.benchmark, cudnn.deterministic = True, False
        try:
            run(steps)
        finally:
            cudnn.benchmark, cudnn.deterministic = before

    return tuned


def compare(
    label: str,
    ours: Callable[[int], object],
    plain: Callable[[int], object],
    results: Results,
    device: torch.device,
) -> float:
    """Adds the medians of both, taken in turns, to the results; returns our seconds."""
    arguments = results.arguments
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(arguments.rounds + 1):
        for which, work in enumerate((ours, plain)):
            spent = timed(work, arguments.steps, device)
            # The first turn chooses algorithms and allocates.
            if turn:
                times[which].append(spent)
    first, second = (statistics.median(found) for found in times)
    results.add(label, first, second)
    return first


def timed(work: Callable[[int], object], steps: int, device: torch.device) -> float:
    """Seconds per step; ``work`` makes them all at once, as a training does."""
    wait(device)
    start = time.perf_counter()
    work(steps)
    wait(device)
    return (time.perf_counter() - start) / steps


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report_rate(solver: Solver, step: float, results: Results, device: torch.device) -> None:
    """How much of the device's measured rate of matrix products a step reaches."""
    arguments = results.arguments
    dtype = HALVES.get(arguments.precision, torch.float32)
    size = 8192 if device.type == "cuda" else 256
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product = repeated(lambda: a @ b, arguments)
    timed(product, 5, device)
    rate = 2 * size**3 / min(timed(product, 20, device) for _ in range(3))
    products = sum(
        built.layer.multiply_adds([solver.net.shape_of(v) for v in built.bottoms], built.shapes)
        for built in solver.net.layers
        if built.layer is not None
    )
    results.add_rate(rate, 3 * 2 * products / step)


def compare_pages(solver: Solver, results: Results, device: torch.device) -> None:
    """Our step before and after the move, not in turns: memory cannot move back."""
    arguments = results.arguments
    rounds = range(arguments.rounds)
    timed(solver.step, UPDATES, device)
    small = statistics.median(timed(solver.step, arguments.steps, device) for _ in rounds)
    started = time.perf_counter()
    pages = collapse_memory()
    print(f"# {pages} in {time.perf_counter() - started:.1f} s")
    large = statistics.median(timed(solver.step, arguments.steps, device) for _ in rounds)
    results.add("pages", large, small)


def compare_lmdb(solver: Solver, results: Results, device: torch.device) -> None:
    """Our step from an LMDB of JPEGs beside our step from memory; the ratio should be near 1."""
    arguments = results.arguments
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lmdb"
        make_database(path, arguments.records, *JPEG_SIZE)

        def sources(net: Message) -> None:
            layer = net.layer.add(name="data", type="Data", top=["data", "label"])
            layer.data_param.source = str(path)
            layer.data_param.batch_size = arguments.batch
            layer.data_param.backend = schema.enum_names("DataParameter.DB")["LMDB"]
            layer.transform_param.crop_size, layer.transform_param.mirror = arguments.size, True
            layer.transform_param.mean_value.extend([104, 117, 123])

        reading = make_solver(definition(arguments.net, sources), arguments)
        compare("LMDB", reading.step, solver.step, results, device)
        reading.close()


if __name__ == "__main__":
    sys.exit(main())
