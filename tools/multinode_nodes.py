"""The nodes of tools/multinode_trial.py and the network between them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RANK_TIMEOUT = 6
# A torchrun that has imported what it needs and begins once a file is there.
_WAITING = """
import os, sys, time
from torch.distributed.run import main
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
main(sys.argv[2:])
"""


class OneHost:
    """Both nodes have the addresses of this machine."""

    name = "one host"

    def command(self, node: int) -> list[str]:
        return []

    def address(self, node: int) -> str:
        return "127.0.0.1"

    def port(self) -> int:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return int(listener.getsockname()[1])

    environment: dict[str, str] = {"GLOO_SOCKET_IFNAME": "lo"}

    def close(self) -> None:
        pass


class Namespaces(OneHost):
    """Each node has a network namespace; a pair of virtual interfaces joins the two.

    Raises:
        OSError, subprocess.CalledProcessError: they cannot be made here.
    """

    name = "network namespaces"
    environment = {"GLOO_SOCKET_IFNAME": "eth0"}

    def __init__(self) -> None:
        self._names = [f"caffecompat-{os.getpid()}-{node}" for node in (0, 1)]
        try:
            for name in self._names:
                _ip("netns", "add", name)
            pair = ["netns", self._names[0], "type", "veth", "peer", "name", "eth0"]
            _ip("link", "add", "eth0", *pair, "netns", self._names[1])
            for node, name in enumerate(self._names):
                _ip("-n", name, "address", "add", f"{self.address(node)}/24", "dev", "eth0")
                for interface in ("lo", "eth0"):
                    _ip("-n", name, "link", "set", interface, "up")
        except (OSError, subprocess.CalledProcessError):
            self.close()
            raise

    def command(self, node: int) -> list[str]:
        return ["ip", "netns", "exec", self._names[node]]

    def address(self, node: int) -> str:
        return f"10.77.0.{node + 1}"

    def port(self) -> int:
        return 29400

    def connect(self, up: bool) -> None:
        """Takes the connection away, or brings it back."""
        _ip("-n", self._names[1], "link", "set", "eth0", "up" if up else "down")

    def close(self) -> None:
        for name in self._names:
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Node:
    """One torchrun, which is started again when it fails."""

    def __init__(self, number: int, folder: Path, network: OneHost, options: Options) -> None:
        self.number = number
        self.log = folder / f"node{number}.txt"
        self.starts = 0
        self.stays_away = False
        self._folder = folder
        self._network = network
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.starts += 1
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._network.command(self.number), *self._torchrun()],
                cwd=self._folder,
                env={
                    **os.environ,
                    **self._network.environment,
                    **self._options.environment,
                    "PYTHONPATH": str(ROOT),
                    "OMP_NUM_THREADS": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _torchrun(self) -> list[str]:
        place = f"{self._network.address(0)}:{self._options.port}"
        settings = f"is_host={int(self.number == 0)},keep_alive_interval=1,last_call_timeout=3"
        program = ["-m", "torch.distributed.run"]
        if self._options.second_after and self.number == 1:
            program = ["-c", _WAITING, self._options.second_after]
        return [
            *(sys.executable, *program),
            *("--nnodes", self._options.nodes, "--nproc-per-node", "2", "--max-restarts", "5"),
            *("--rdzv-id", "trial", "--rdzv-backend", "c10d", "--rdzv-endpoint", place),
            *("--rdzv-conf", settings, "--local-addr", self._network.address(self.number)),
            *("--monitor-interval", "0.2", "-m", "caffecompat", "train"),
            *("--solver", "solver.prototxt", "--cpu", "--rank-timeout", str(RANK_TIMEOUT)),
            *self._options.more,
        ]

    def code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def agent(self) -> int:
        """The process id of torchrun."""
        assert self._process is not None
        return self._process.pid

    def workers(self) -> list[int]:
        """The process ids of the ranks on this node."""
        return children(self.agent())

    def kill(self, agent: bool, workers: bool) -> None:
        found = [*([self.agent()] if agent else []), *(self.workers() if workers else [])]
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def end(self) -> None:
        """Ends what is left of it."""
        if self._process is not None and self._process.poll() is None:
            self.kill(True, True)
        if self._process is not None:
            self._process.wait()


def children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == parent:
                    found.append(int(entry.name))
    return sorted(found)


@dataclass(frozen=True)
class Options:
    """Of torchrun and of the training.

    Attributes:
        second_after: a file in the folder of the training, without which the second node does not
            begin.
    """

    port: int
    nodes: str = "2"
    more: Sequence[str] = ()
    new_store: bool = False
    second_after: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that torchrun gets."""
        return {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"} if self.new_store else {}
