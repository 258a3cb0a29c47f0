"""Passes of OpenCV that are timed, in a process of its own: damaged files end OpenCV's process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caffecompat.errors import ExportError

_CHILD = Path(__file__).with_name("repeated_child.py")


class TimedOpenCv:
    """An OpenCV that runs a model when it is asked to; a context manager.

    Args:
        python: the interpreter whose OpenCV is meant; empty for this one's.

    Attributes:
        version: of OpenCV.
        reads_caffe: whether it reads prototxts and caffemodels; else it reads ONNX files.

    Raises:
        ExportError: the interpreter has no OpenCV, or is none.
    """

    def __init__(self, python: str = "") -> None:
        try:
            self._process = subprocess.Popen(
                [python or sys.executable, "-I", str(_CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except OSError as error:
            raise ExportError(f"{python}: cannot be started: {error.strerror}") from error
        try:
            self.version, reads = self._ask("version").split()
        except (ExportError, ValueError) as error:  # another program may answer anything
            self.close()
            raise ExportError(f"{python or sys.executable}: has no OpenCV") from error
        self.reads_caffe = reads == "caffe"

    def __enter__(self) -> TimedOpenCv:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(
        self, model: Path, prototxt: Path | None, inputs: Mapping[str, Any], threads: int
    ) -> None:
        """Loads a model and gives its inputs random values.

        Args:
            model: a caffemodel, or an ONNX file.
            prototxt: the definition of a caffemodel.
            inputs: the shapes of the inputs by name.

        Raises:
            ExportError: OpenCV cannot load it.
        """
        request: dict[str, Any] = {"model": str(model), "threads": threads}
        request["inputs"] = {name: list(shape) for name, shape in inputs.items()}
        if prototxt is not None:
            request["prototxt"] = str(prototxt)
        self._ask(f"load {json.dumps(request)}")

    def run(self, processor_time: bool = False) -> float:
        """The seconds of a pass, measured in OpenCV's process.

        Args:
            processor_time: seconds of processor time instead of elapsed seconds.

        Raises:
            ExportError: OpenCV fails.
        """
        wall, processor = map(float, self._ask("run").split())
        return processor if processor_time else wall

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline().strip()
        except OSError:
            answer = ""
        if not answer:
            raise ExportError("OpenCV's process has ended")
        if answer.startswith("error "):
            raise ExportError(f"OpenCV cannot run it: {answer.removeprefix('error ')}")
        return answer
