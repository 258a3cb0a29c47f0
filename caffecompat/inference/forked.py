"""Engines in processes that are forked from one with an optimized net.

The threads of ONNX Runtime and OpenVINO stay behind. ONNX Runtime's passes do without them; those
of OpenVINO wait for them, and both programs do when a model is freed.
"""

from __future__ import annotations

import ctypes
import os
from weakref import WeakSet

from caffecompat.errors import NetError


class KeptInForks:
    """Objects that are never freed in processes that are forked from this one."""

    def __init__(self) -> None:
        self._objects: WeakSet[object] = WeakSet()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._keep)

    def add(self, one: object) -> None:
        self._objects.add(one)

    def _keep(self) -> None:
        for one in self._objects:
            # A reference of ours would end with the interpreter, which frees them, too.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


class OpenVINOProcess:
    """Knows whether this process was forked from one that had used OpenVINO."""

    def __init__(self) -> None:
        self._number = 0
        self._forked = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._fork)

    def check(self) -> None:
        """Begins to use OpenVINO here.

        Raises:
            NetError: it was used before this process was forked.
        """
        if self._forked:
            raise NetError(
                f"OpenVINO was started in process {self._number}, from which this one "
                f"({os.getpid()}) was forked; start the process with "
                'multiprocessing.get_context("spawn"), or optimize the net with engine torch or '
                "onnxruntime"
            )
        if not self._number:
            self._number = os.getpid()

    def _fork(self) -> None:
        self._forked = self._number != 0


# State of the module, since a fork concerns the whole process: the threads that it leaves behind
# serve all nets.
kept_in_forks = KeptInForks()
openvino_process = OpenVINOProcess()
