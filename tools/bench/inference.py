#!/usr/bin/env python3
"""Forward passes of well-known nets in several programs, side by side.

Every program runs the same net, with random weights, in turns with the others in one run; the
figure is the median. "others" is the least of plain torch, ONNX Runtime, OpenVINO and OpenCV; in 16
bits it is OpenVINO's time.

    torch-optimized / others   what the engine without any extra reaches; below 1 it is the fastest
    fastest / others           what a user of Net.optimize() has, measured by whole calls of
                               Net.forward; the target is at most 1. ONNX Runtime and OpenVINO
                               among the others run the ONNX file of `convert` with their own
                               settings; what Net.optimize() changes for them is in "fastest".

All six nets with both batches take some 10 minutes on two cores. The JSON file is written after
each case, so that a run that is cut short leaves the cases that it has measured.

Examples:
    python tools/bench/inference.py --threads 2 --json fp32.json --markdown fp32.md
    python tools/bench/inference.py --read fp32.json --markdown fp32.md
    python tools/bench/inference.py --nets googlenet,resnet50 --batches 1 --precision bf16
    python tools/bench/inference.py --opencv-python ~/opencv4/bin/python
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from caffecompat.inference.comparison import CONTENDERS, ComparisonOptions, Contender, compare
from caffecompat.kept_memory import keep_freed_memory
from caffecompat.net.execution.inference import InferenceOptions
from tools.bench.known_nets import NETS, known_net

OPTIMIZED, FASTEST = "torch-optimized", "fastest"
OTHERS = ("torch", "onnxruntime", "openvino", "opencv")
# Targets in 16 bits are for this one alone.
OTHERS_IN_HALF = ("openvino",)
TITLES = {
    "torch": "torch",
    OPTIMIZED: "optimized",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "opencv": "OpenCV 4",
    FASTEST: "fastest",
}


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

    def ratio(self, ours: str) -> float | None:
        """The time of ``ours`` beside the least of the others."""
        names = OTHERS_IN_HALF if self.precision in ("bf16", "fp16") else OTHERS
        others = [self.times[name] for name in names if name in self.times]
        return self.times[ours] / min(others) if ours in self.times and others else None

    @property
    def taken(self) -> str:
        """The engine that "fastest" has taken."""
        notes = [one.note for one in self.programs if one.name == FASTEST]
        return notes[0].removeprefix("takes ") if notes else ""


@dataclass
class Run:
    """All cases of a run, and how it was made."""

    machine: str
    threads: int
    processor_time: bool
    precision: str
    torch: str
    cases: list[Case] = field(default_factory=list)

    def write(self, path: Path) -> None:
        content = asdict(self)
        for case, one in zip(self.cases, content["cases"], strict=True):
            one.update(optimized=case.ratio(OPTIMIZED), fastest=case.ratio(FASTEST))
        path.write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Run:
        content: dict[str, Any] = json.loads(path.read_text())
        cases = [
            Case(
                *(case["net"], case["batch"], case["precision"]),
                [Contender(**one) for one in case["programs"]],
            )
            for case in content.pop("cases")
        ]
        return cls(**content, cases=cases)

    def head(self) -> str:
        clock = "processor time" if self.processor_time else "time"
        return f"{self.machine}, {self.threads} threads, {self.precision}, {clock}"

    def markdown(self) -> str:
        """The table of docs/benchmarks.md."""
        names = list(dict.fromkeys(one.name for case in self.cases for one in case.programs))
        lines = [f"{self.head()}; milliseconds.", "", head(names)]
        lines += [row(case, names) for case in self.cases]
        return "\n".join([*lines, "", *remarks(self.cases)]) + "\n"


def main() -> int:
    arguments = parse()
    if arguments.read:
        run = Run.read(Path(arguments.read))
        print(run.markdown(), end="")
    else:
        run = measured_run(arguments)
    if arguments.markdown:
        Path(arguments.markdown).write_text(run.markdown())
    return 0


def measured_run(arguments: argparse.Namespace) -> Run:
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    run = Run(
        *(machine(), arguments.threads, arguments.processor_time),
        *(arguments.precision, torch.__version__),
    )
    print(run.head(), flush=True)
    print(head(arguments.programs), flush=True)
    for name in arguments.nets:
        for batch in arguments.batches:
            case = measured(name, batch, arguments)
            run.cases.append(case)
            print(row(case, arguments.programs), flush=True)
            if arguments.json:
                run.write(Path(arguments.json))
    for line in remarks(run.cases):
        print(line)
    return run


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", type=words, default=list(NETS), help=f"of {', '.join(NETS)}")
    parser.add_argument("--batches", type=numbers, default=[1, 10], help="default: 1,10")
    parser.add_argument("--programs", type=words, default=list(CONTENDERS))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16", "int8"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=5, help="at least (default: 5)")
    parser.add_argument("--seconds", type=float, default=20, help="for each case (default: 20)")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="measure the processor's time, on a machine that does other work; with --threads 1",
    )
    parser.add_argument("--opencv-python", default="", help="the Python whose OpenCV is meant")
    parser.add_argument("--json", help="write everything to this file")
    parser.add_argument("--markdown", help="write the table of docs/benchmarks.md to this file")
    parser.add_argument("--read", help="measure nothing, show the run of this JSON file")
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
    titles = ["net", "batch", *(TITLES[p] for p in programs)]
    titles += ["optimized / least of the others", "fastest / least of the others", "it takes"]
    return f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}"


def row(case: Case, programs: list[str]) -> str:
    cells = [case.net, str(case.batch)]
    cells += [f"{case.times[p]:.4g}" if p in case.times else "-" for p in programs]
    for ours in (OPTIMIZED, FASTEST):
        ratio = case.ratio(ours)
        cells.append("-" if ratio is None else f"{ratio:.2f}")
    return f"| {' | '.join([*cells, case.taken or '-'])} |"


def remarks(cases: list[Case]) -> list[str]:
    """Versions, and why a program has no time."""
    found: dict[str, None] = {}
    for case in cases:
        for one in case.programs:
            if one.name == FASTEST:
                continue
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


if __name__ == "__main__":
    sys.exit(main())
