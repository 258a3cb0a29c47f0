#!/usr/bin/env python3
"""Forward passes of well-known nets in several programs, side by side.

Every program runs the same net, with random weights, in turns with the others in one run; the
figure is the median. "others" is the fastest of plain torch, ONNX Runtime, OpenVINO and OpenCV.

    torch-optimized / others   what the engine without any extra reaches; below 1 it is the fastest
    fastest / others           what Net.optimize("fastest") reaches, which takes the fastest of
                               torch-optimized, ONNX Runtime and OpenVINO; the target is at most 1

Examples:
    python tools/bench/inference.py --threads 2 --json inference.json
    python tools/bench/inference.py --nets googlenet,resnet50 --batches 1 --precision bf16
    python tools/bench/inference.py --opencv-python ~/opencv4/bin/python
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from caffecompat.inference.comparison import CONTENDERS, ComparisonOptions, Contender, compare
from caffecompat.kept_memory import keep_freed_memory
from caffecompat.net.execution.inference import InferenceOptions
from tools.bench.known_nets import NETS, known_net

OPTIMIZED = "torch-optimized"
# What Net.optimize can use, and what is compared with it.
OURS = (OPTIMIZED, "onnxruntime", "openvino")
OTHERS = ("torch", "onnxruntime", "openvino", "opencv")


@dataclass(frozen=True)
class Case:
    """One net with one batch size, and its times."""

    net: str
    batch: int
    precision: str
    programs: list[Contender]

    @property
    def times(self) -> dict[str, float]:
        return {p.name: p.milliseconds for p in self.programs if p.milliseconds is not None}

    def ratio(self, ours: tuple[str, ...]) -> float | None:
        """The least time of ``ours`` beside the least of the others."""
        own = [self.times[name] for name in ours if name in self.times]
        others = [self.times[name] for name in OTHERS if name in self.times]
        return min(own) / min(others) if own and others else None


def main() -> int:
    arguments = parse()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    cases = []
    clock = "processor time" if arguments.processor_time else "time"
    print(f"{machine()}, {arguments.threads} threads, {arguments.precision}, {clock}", flush=True)
    print(head(arguments.programs), flush=True)
    for name in arguments.nets:
        for batch in arguments.batches:
            case = measured(name, batch, arguments)
            cases.append(case)
            print(row(case, arguments.programs), flush=True)
    for line in remarks(cases):
        print(line)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(content(cases, arguments), indent=1) + "\n")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", type=words, default=list(NETS), help=f"of {', '.join(NETS)}")
    parser.add_argument("--batches", type=numbers, default=[1, 10], help="default: 1,10")
    parser.add_argument("--programs", type=words, default=list(CONTENDERS))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16", "int8"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=7, help="at least (default: 7)")
    parser.add_argument("--seconds", type=float, default=20, help="for each case (default: 20)")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="measure the processor's time, on a machine that does other work; with --threads 1",
    )
    parser.add_argument("--opencv-python", default="", help="the Python whose OpenCV is meant")
    parser.add_argument("--json", help="write everything to this file")
    return parser.parse_args()


def words(text: str) -> list[str]:
    return text.split(",")


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def measured(name: str, batch: int, arguments: argparse.Namespace) -> Case:
    net = known_net(name)
    (data,) = net.inputs
    shape = (batch, *net.blobs[data].shape[1:])
    calibration = None
    if arguments.precision == "int8":
        generator = torch.Generator().manual_seed(2)
        calibration = [{data: torch.randn(shape, generator=generator).numpy()} for _ in range(2)]
    options = ComparisonOptions(
        InferenceOptions(arguments.precision, shapes={data: shape}, calibration=calibration),
        arguments.opencv_python,
        arguments.turns,
        arguments.seconds,
        arguments.processor_time,
    )
    return Case(name, batch, arguments.precision, compare(net, arguments.programs, options))


def head(programs: list[str]) -> str:
    titles = ["net", "batch", *(f"{p}, ms" for p in programs)]
    titles += [f"{OPTIMIZED} / others", "fastest / others"]
    return f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}"


def row(case: Case, programs: list[str]) -> str:
    cells = [case.net, str(case.batch)]
    cells += [f"{case.times[p]:.4g}" if p in case.times else "-" for p in programs]
    for ours in ((OPTIMIZED,), OURS):
        ratio = case.ratio(ours)
        cells.append("-" if ratio is None else f"{ratio:.2f}")
    return f"| {' | '.join(cells)} |"


def remarks(cases: list[Case]) -> list[str]:
    """Versions, and why a program has no time."""
    found: dict[str, None] = {}
    for case in cases:
        for one in case.programs:
            version = f" {one.version}" if one.version else ""
            why = one.note if one.milliseconds is not None else f"not measured: {one.note}"
            found[f"{one.name}{version}{f': {why}' if why else ''}"] = None
    return list(found)


def machine() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in _lines(Path("/proc/cpuinfo"))
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.processor()}, Python {platform.python_version()}"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def content(cases: list[Case], arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "machine": machine(),
        "threads": arguments.threads,
        "processor_time": arguments.processor_time,
        "torch": torch.__version__,
        "cases": [
            {
                **asdict(case),
                "optimized": case.ratio((OPTIMIZED,)),
                "fastest": case.ratio(OURS),
            }
            for case in cases
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
