"""The machine: versions, card, cores, compilers, and what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator

import torch

from tools.gpu.one_stage import Row, Work, run_stage

NEEDED = ("numpy", "protobuf", "lmdb", "opencv-python-headless", "h5py", "pytest")
OPTIONAL = ("triton", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "tensorrt")
STATE = (
    *("driver_version", "power.limit", "clocks.sm", "clocks.max.sm", "temperature.gpu"),
    "mig.mode.current",
)
MODULES = {"opencv-python-headless": "cv2", "protobuf": "google.protobuf"}


def versions(work: Work) -> Iterator[Row]:
    yield Row("Python", platform.python_version())
    yield Row("torch", torch.__version__)
    yield Row("cores", str(len(os.sched_getaffinity(0))))
    compiler = shutil.which("gcc") or shutil.which("cc")
    yield Row("C compiler (for --compile)", compiler or "none")


def card(work: Work) -> Iterator[Row]:
    if not work.on_gpu:
        yield Row("card", "none: a trial on the CPU")
        return
    properties = torch.cuda.get_device_properties(0)
    memory = properties.total_memory / 2**30
    yield Row("card", f"{properties.name}, {memory:.0f} GiB", figures={"memory_gib": memory})
    yield Row("CUDA, cuDNN", f"{torch.version.cuda}, {torch.backends.cudnn.version()}")
    yield Row("compute capability", f"{properties.major}.{properties.minor}")
    # Figures of a card that others use, or that is slowed down, mean little.
    yield Row("GPU memory in use before", f"{_in_use() / 2**30:.1f} GiB")
    yield Row("driver, watts, clock, temperature, MIG", _state())


def _in_use() -> int:
    """Bytes that are not free, less what this process has."""
    free, whole = torch.cuda.mem_get_info(0)
    return int(whole - free - torch.cuda.memory_reserved(0))


def _state() -> str:
    """What nvidia-smi tells of the first card."""
    command = ["nvidia-smi", "--id=0", "--format=csv,noheader", f"--query-gpu={','.join(STATE)}"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown: no nvidia-smi"
    return ended.stdout.strip() or f"unknown: {ended.stderr.strip()}"


def packages(work: Work) -> Iterator[Row]:
    for name in NEEDED + OPTIONAL:
        found = _version(name)
        yield Row(name, found or "missing", None if found or name in OPTIONAL else False)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        # The same module may come from a package of another name.
        found = importlib.util.find_spec(MODULES[name]) if name in MODULES else None
        return "from another package" if found else ""


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, {"versions": versions, "card": card, "packages": packages}))
