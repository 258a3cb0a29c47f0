"""Trainings of several processes on this machine, started by one that has loaded everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.places import REPOSITORY

SECONDS = 240.0


class RankProcesses:
    """Carries out runs with ``rank_training.py``, which starts with the first of them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def carry_out(self, folder: Path, *runs: dict[str, Any]) -> list[str]:
        """What the ranks of each run have written to standard error, and their exit codes."""
        (folder / "runs.json").write_text(json.dumps(runs))
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        limit = threading.Timer(SECONDS, process.kill)
        limit.start()
        try:
            process.stdin.write(f"{folder / 'runs.json'}\n")
            process.stdin.flush()
            # Gloo in torch 2.10 writes lines of its own.
            assert "done\n" in iter(process.stdout.readline, "")
        finally:
            limit.cancel()
        return [Path(f"{run['out']}.txt").read_text() for run in runs]

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate(timeout=SECONDS)

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("rank_training.py"))],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return self._process
