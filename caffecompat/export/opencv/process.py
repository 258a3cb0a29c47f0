"""Runs models in OpenCV, in a process of its own: some damaged files end OpenCV's process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffecompat.errors import ExportError
from caffecompat.export.opencv.child import OPENCV_FAILED

# The interpreter runs in isolated mode, with the import path of this process.
_START_CHILD = """
import sys
sys.path[:] = {path!r}
from caffecompat.export.opencv.child import main
main({folder!r})
"""


# A pass of the largest published nets takes a few seconds on one core.
MAX_SECONDS = 600.0

# Larger values are mapped from their files.
MAPPED_BYTES = 1 << 20


@dataclass(frozen=True)
class OpenCvRequest:
    """What to run.

    Attributes:
        model: an ONNX file, or a caffemodel.
        outputs: names of the values to return.
        prototxt: the definition of a caffemodel.
        python: the Python whose OpenCV is meant; "" for this one.
    """

    model: str
    outputs: Sequence[str]
    prototxt: str | None = None
    python: str = ""


def run_in_opencv(
    request: OpenCvRequest, inputs: Mapping[str, np.ndarray], path: Path
) -> dict[str, np.ndarray]:
    """The values by name; those without elements are (0,), since OpenCV does not tell their shape.

    Args:
        inputs: all inputs by name.
        path: the user's file, for messages.

    Raises:
        ExportError: OpenCV cannot load or run the model, its process ends, or it takes more than
            ``MAX_SECONDS``.
    """
    with tempfile.TemporaryDirectory() as folder:
        _write_request(Path(folder), request, inputs)
        try:
            done = subprocess.run(
                _command(request.python, folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=MAX_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise ExportError(
                f"{path}: OpenCV has not finished after {MAX_SECONDS:g} seconds and was stopped; "
                "run a batch of one image, or smaller images"
            ) from error
        except OSError as error:
            raise ExportError(
                f"{request.python}: cannot be started as a Python: {error.strerror}"
            ) from error
        if done.returncode == OPENCV_FAILED:
            sentence = done.stdout.decode("utf-8", "replace").strip()
            raise ExportError(f"{path}: OpenCV cannot run it: {sentence}")
        if done.returncode != 0:
            raise ExportError(f"{path}: OpenCV crashes on it ({_end(done.returncode)})")
        files = {name: Path(folder, f"{i}.npy") for i, name in enumerate(request.outputs)}
        if not all(file.exists() for file in files.values()):
            raise ExportError(f"{request.python}: runs, but is no Python")
        return {name: _load(file) for name, file in files.items()}


def _load(file: Path) -> np.ndarray:
    """An array of a file that is about to be removed; a large one stays there, not in memory."""
    # Windows cannot remove a file that is mapped.
    mapped = os.name != "nt" and file.stat().st_size > MAPPED_BYTES
    return np.asarray(np.load(file, mmap_mode="c" if mapped else None, allow_pickle=False))


def _command(python: str, folder: str) -> list[str]:
    """What starts the child; another Python has modules of its own."""
    if python:
        return [python, "-I", str(Path(__file__).with_name("child.py")), folder]
    root = str(Path(__file__).resolve().parents[3])
    search = [root, *(entry or os.getcwd() for entry in sys.path)]
    return [sys.executable, "-I", "-c", _START_CHILD.format(path=search, folder=folder)]


def _write_request(folder: Path, request: OpenCvRequest, inputs: Mapping[str, np.ndarray]) -> None:
    content = {
        "model": os.path.abspath(request.model),
        "outputs": list(request.outputs),
        "inputs": list(inputs),
    }
    if request.prototxt is not None:
        content["prototxt"] = os.path.abspath(request.prototxt)
    (folder / "request.json").write_text(json.dumps(content))
    arrays = {str(index): value for index, value in enumerate(inputs.values())}
    with open(folder / "inputs.npz", "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type] # the keys are numbers


def _end(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
