"""Starts two ranks on the CPU as ``--gpu 0,1`` does on GPUs.

    python launched.py SOLVER HOW

With "stop" this process gets SIGTERM as soon as a snapshot is there, with "kill" rank 1 is killed
then. The exit code is that of the launch. Only with "end" the ranks are new Pythons, as in use;
else they are forks, which need not import torch first.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import torch

from caffecompat.cli.main import load_verb, run_verb, verb_parser
from caffecompat.errors import CaffeError
from caffecompat.solver.distributed import launch as launcher


def work(arguments: Namespace) -> int:
    torch.set_num_threads(1)
    if arguments.how == "kill" and os.environ["RANK"] == "1":
        threading.Thread(target=send, args=(arguments, signal.SIGKILL), daemon=True).start()
    return run_verb(load_verb("train"), arguments)


def send(arguments: Namespace, number: int) -> None:
    folder = Path(arguments.solver).parent
    while not list(folder.glob("snap_iter_*.solverstate")):
        time.sleep(0.01)
    os.kill(os.getpid(), number)


def start() -> int:
    parser = verb_parser("train", load_verb("train"))
    arguments = parser.parse_args(["--solver", sys.argv[1], "--snapshot", "auto"])
    arguments.how = sys.argv[2]
    if arguments.how == "stop":
        threading.Thread(target=send, args=(arguments, signal.SIGTERM), daemon=True).start()
    if arguments.how != "end":
        fork = multiprocessing.get_context("fork")
        vars(launcher)["mp"] = SimpleNamespace(get_context=lambda method: fork)
    try:
        return launcher.launch(work, arguments, 2, 75)
    except CaffeError as error:
        sys.stderr.write(f"caffecompat: error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(start())
