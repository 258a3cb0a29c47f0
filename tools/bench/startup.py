#!/usr/bin/env python3
"""What a command costs before it works: fresh processes beside one that only imports torch.

The figures are seconds of processor time, which other work on the machine moves less than time by
the clock, and their ratio to ``import torch``; the least of several turns counts.

Example:
    python tools/bench/startup.py
    python tools/bench/startup.py --turns 9
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

SMALL = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 3, 32, 32] } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "fc" top: "loss" }
"""
# An LSTM states no top shapes, so that commands that describe the net import torch.
RECURRENT = """
layer { name: "data" type: "Input" top: "words" top: "cont"
  input_param { shape { dim: [5, 2, 3] } shape { dim: [5, 2] } } }
layer { name: "lstm" type: "LSTM" bottom: "words" bottom: "cont" top: "lstm"
  recurrent_param { num_output: 4 } }
"""
SOLVER = (
    'net: "small.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 1 '
    'snapshot_prefix: "small" solver_mode: CPU'
)
FORWARD = "from caffecompat import Net; Net('small.prototxt').forward()"
CAFFECOMPAT = ["-m", "caffecompat"]
CASES = {
    "import torch": ["-c", "import torch"],
    "summary of VGG-16 (no torch)": [
        *CAFFECOMPAT,
        "summary",
        str(REPOSITORY / "prototxt/D_deploy.prototxt"),
    ],
    "summary of a net that needs torch": [*CAFFECOMPAT, "summary", "recurrent.prototxt"],
    "first forward of a small net, in Python": ["-c", FORWARD],
    "train a small net for one iteration": [*CAFFECOMPAT, "train", "--solver", "solver.prototxt"],
    "version (no torch)": [*CAFFECOMPAT, "version"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "small.prototxt").write_text(SMALL)
        (Path(folder) / "recurrent.prototxt").write_text(RECURRENT)
        (Path(folder) / "solver.prototxt").write_text(SOLVER)
        least = dict.fromkeys(CASES, float("inf"))
        # The first turn reads the files from the disk.
        for turn in range(turns + 1):
            for name, arguments in CASES.items():
                seconds = processor_seconds([sys.executable, *arguments], folder)
                least[name] = min(least[name], seconds) if turn else float("inf")
    torch = least["import torch"]
    print("| process | processor time, s | beside `import torch` |")
    print("| --- | --- | --- |")
    for name, seconds in least.items():
        print(f"| {name} | {seconds:.2f} | {seconds / torch:.2f} × |")


def processor_seconds(command: Sequence[str], folder: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    # Compiled modules are kept from turn to turn, as those of an installed package are.
    environment["PYTHONPYCACHEPREFIX"] = str(Path(folder) / "compiled")
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
