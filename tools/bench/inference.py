#!/usr/bin/env python3
"""Forward passes of well-known nets in several programs, side by side.

Every program runs the same net, with random weights, in turns with the others in one run; the
figure is the median. "others" is the least of plain torch, ONNX Runtime, OpenVINO and OpenCV; in 16
bits it is OpenVINO's time. Where a process puts its memory moves one and the same program by some
per cent, so each case is measured in several processes: times and ratios are medians over them, and
the least and the largest ratio are shown too.

    torch-optimized / others   what the engine without any extra reaches; below 1 it is the fastest
    fastest / others           what a user of Net.optimize() has, measured by whole calls of
                               Net.forward; the target is at most 1. ONNX Runtime and OpenVINO
                               among the others run the ONNX file of `convert` with their own
                               settings; what Net.optimize() changes for them is in "fastest".

All six nets with both batches take some 20 minutes on two cores. The JSON file is written after
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
import statistics
import subprocess
import sys
import tempfile
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
    """One net with one batch size, and its times in each of several processes."""

    net: str
    batch: int
    precision: str
    processes: list[list[Contender]]

    @property
    def programs(self) -> list[Contender]:
        """The programs of all processes."""
        return [one for process in self.processes for one in process]

    @property
    def times(self) -> dict[str, float]:
        """Milliseconds of each program that runs the net: the median over the processes."""
        each = [times(programs) for programs in self.processes]
        names = [name for name in each[0] if all(name in one for one in each)]
        return {name: statistics.median(one[name] for one in each) for name in names}

    def ratios(self, ours: str) -> list[float]:
        """The time of ``ours`` beside the least of the others in each process, least first."""
        names = OTHERS_IN_HALF if self.precision in ("bf16", "fp16") else OTHERS
        found = []
        for programs in self.processes:
            each = times(programs)
            others = [each[name] for name in names if name in each]
            if ours in each and others:
                found.append(each[ours] / min(others))
        return sorted(found)

    @property
    def taken(self) -> str:
        """The engines that "fastest" has taken."""
        notes = [one.note for one in self.programs if one.name == FASTEST]
        return ", ".join(dict.fromkeys(note.removeprefix("takes ") for note in notes))


def times(programs: list[Contender]) -> dict[str, float]:
    """Milliseconds of each program of a process that runs the net."""
    return {p.name: p.milliseconds for p in programs if p.milliseconds is not None}


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
            one.update(optimized=case.ratios(OPTIMIZED), fastest=case.ratios(FASTEST))
        path.write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Run:
        content: dict[str, Any] = json.loads(path.read_text())
        cases = [
            Case(
                *(case["net"], case["batch"], case["precision"]),
                [[Contender(**one) for one in programs] for programs in case["processes"]],
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
    parser.add_argument(
        "--processes", type=int, default=3, help="that measure each case (default: 3)"
    )
    parser.add_argument("--turns", type=int, default=5, help="at least (default: 5)")
    parser.add_argument(
        "--seconds", type=float, default=8, help="for each case and process (default: 8)"
    )
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="measure the processor's time, on a machine that does other work; with --threads 1",
    )
    parser.add_argument("--opencv-python", default="", help="the Python whose OpenCV is meant")
    parser.add_argument("--json", help="write everything to this file")
    parser.add_argument("--markdown", help="write the table of docs/benchmarks.md to this file")
    parser.add_argument("--read", help="measure nothing, show the run of this JSON file")
    arguments = parser.parse_args()
    if arguments.processes < 1:
        parser.error("--processes: at least 1")
    return arguments


def words(text: str) -> list[str]:
    return text.split(",")


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def measured(name: str, batch: int, arguments: argparse.Namespace) -> Case:
    if arguments.processes == 1:
        processes = [measured_here(name, batch, arguments)]
    else:
        processes = [measured_apart(name, batch) for _ in range(arguments.processes)]
    return Case(name, batch, arguments.precision, processes)


def measured_apart(name: str, batch: int) -> list[Contender]:
    """The case in a new process, with the other arguments of this one.

    If that fails, this process ends with its exit code; it has said why.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.json"
        # Where an argument comes twice the last one counts.
        own = ["--nets", name, "--batches", str(batch), "--processes", "1", "--markdown", ""]
        command = [sys.executable, __file__, *sys.argv[1:], *own, "--json", str(path)]
        if code := subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            sys.exit(code)
        (case,) = Run.read(path).cases
    return case.processes[0]


def measured_here(name: str, batch: int, arguments: argparse.Namespace) -> list[Contender]:
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
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
    return compare(net, arguments.programs, options)


def head(programs: list[str]) -> str:
    titles = ["net", "batch", *(TITLES[p] for p in programs)]
    titles += ["optimized / least of the others", "fastest / least of the others", "it takes"]
    return f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}"


def row(case: Case, programs: list[str]) -> str:
    cells = [case.net, str(case.batch)]
    cells += [f"{case.times[p]:.4g}" if p in case.times else "-" for p in programs]
    cells += [ratio(case.ratios(ours)) for ours in (OPTIMIZED, FASTEST)]
    return f"| {' | '.join([*cells, case.taken or '-'])} |"


def ratio(found: list[float]) -> str:
    """The median, with the least and the largest where there are several."""
    if not found:
        return "-"
    median = f"{statistics.median(found):.2f}"
    return f"{median} ({found[0]:.2f} to {found[-1]:.2f})" if len(found) > 1 else median


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
