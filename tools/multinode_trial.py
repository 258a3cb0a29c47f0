#!/usr/bin/env python3
"""Trains on two nodes of two processes each on this machine, disturbs it, and compares the results.

Each node is a torchrun of its own, in a network namespace of its own where this user may make them
(root on Linux), else on the same host. After a failure torchrun starts the ranks again; a torchrun
that has ended itself is started again by this script, as ``until torchrun ...; do sleep 1; done``
or a scheduler does. In the end weights and solver states must be those of an undisturbed
training, bit for bit; where the number of ranks has changed, within the rounding of another
order of summation.

Examples:
    python tools/multinode_trial.py
    python tools/multinode_trial.py --network host rank-killed node-killed

The exit code is 1 if a result differs or a training does not end.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.multinode_nodes import RANK_TIMEOUT, Namespaces, Node, OneHost, Options

PREFIX = "snap"
LAST, EACH = 600, 30
_SECONDS = 240.0
# Relative; of one more number of ranks the sums are rounded otherwise in every iteration.
_ROUNDING = 1e-4

NET = """name: "small"
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { crop_size: 10 mirror: true scale: 0.0039 }
  data_param { source: "train_lmdb" batch_size: 10 backend: LMDB } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "score" type: "InnerProduct" bottom: "conv" top: "score"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
SOLVER = f"""net: "net.prototxt" base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005
lr_policy: "inv" gamma: 0.001 power: 0.75 max_iter: {LAST} display: {EACH} random_seed: 1
snapshot: {EACH} snapshot_prefix: "{PREFIX}"
"""


def write_training(folder: Path) -> None:
    """Sixty random images, a net with crops, flips and dropout, and its solver."""
    import numpy as np

    from caffecompat.data.backends.database import create_database
    from caffecompat.proto import schema

    folder.mkdir()
    random = np.random.default_rng(0)
    records = []
    for number in range(60):
        datum = schema.new("Datum")
        datum.channels, datum.height, datum.width, datum.label = 1, 12, 12, number % 5
        datum.data = random.bytes(144)
        records.append((b"%08d" % number, datum.SerializeToString(deterministic=True)))
    with create_database(folder / "train_lmdb") as writer:
        writer.write(records)
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(SOLVER)


# What is done to them


@dataclass(frozen=True)
class Disturbance:
    """What happens to a training once its first snapshot is there.

    Attributes:
        act: gets both nodes and the network; what it yields are pauses in seconds.
        what: for the table.
        exact: whether the number of ranks stays the same, so that the result does too.
        nodes: torchrun's --nnodes.
        late: the second node joins only then. It is ready before: the start of a torchrun can take
            longer than the whole training of the first.
        namespaces: needs a network of its own.
        more: further options of the training.
        new_store: torchrun makes a new store with each start of the ranks. Without that a node that
            joins others after their first start does not learn where their store is, and all
            torchruns give up after a minute and must be started again (torch 2.10 to 2.14).
    """

    act: Callable[[list[Node], OneHost], Iterator[float]]
    what: str
    exact: bool = True
    nodes: str = "2"
    late: bool = False
    namespaces: bool = False
    more: Sequence[str] = ("--snapshot", "auto")
    new_store: bool = False


def rank_killed(nodes: list[Node], network: OneHost) -> Iterator[float]:
    os.kill(nodes[1].workers()[0], signal.SIGKILL)
    yield 0.0


def first_rank_killed(nodes: list[Node], network: OneHost) -> Iterator[float]:
    os.kill(nodes[0].workers()[0], signal.SIGKILL)
    yield 0.0


def torchrun_killed(nodes: list[Node], network: OneHost) -> Iterator[float]:
    nodes[1].kill(agent=True, workers=False)
    yield 0.0


def node_killed(nodes: list[Node], network: OneHost) -> Iterator[float]:
    nodes[1].kill(agent=True, workers=True)
    yield 0.0


def first_node_killed(nodes: list[Node], network: OneHost) -> Iterator[float]:
    nodes[0].kill(agent=True, workers=True)
    yield 0.0


def node_preempted(nodes: list[Node], network: OneHost) -> Iterator[float]:
    os.kill(nodes[1].agent(), signal.SIGTERM)
    yield 0.0


def connection_lost(nodes: list[Node], network: OneHost) -> Iterator[float]:
    assert isinstance(network, Namespaces)
    network.connect(False)
    yield 2.0 * RANK_TIMEOUT
    network.connect(True)


def node_gone(nodes: list[Node], network: OneHost) -> Iterator[float]:
    nodes[1].stays_away = True
    nodes[1].kill(agent=True, workers=True)
    yield 0.0


def node_joins(nodes: list[Node], network: OneHost) -> Iterator[float]:
    """The second node sees the snapshot itself."""
    yield 0.0


DISTURBANCES = {
    "rank-killed": Disturbance(rank_killed, "a rank of the second node is killed"),
    "no-flag": Disturbance(rank_killed, "the same, without --snapshot auto", more=()),
    "first-rank-killed": Disturbance(first_rank_killed, "the rank that writes is killed"),
    "torchrun-killed": Disturbance(
        torchrun_killed, "torchrun of the second node is killed", new_store=True
    ),
    "node-killed": Disturbance(
        node_killed, "the second node is killed with its ranks", new_store=True
    ),
    "first-node-killed": Disturbance(first_node_killed, "the node of the rendezvous is killed"),
    "node-preempted": Disturbance(
        node_preempted, "torchrun of the second node gets SIGTERM", new_store=True
    ),
    "connection-lost": Disturbance(
        connection_lost, "the connection is down for 12 s", namespaces=True
    ),
    "node-gone": Disturbance(node_gone, "the second node does not return", False, "1:2"),
    "node-joins": Disturbance(
        node_joins, "the second node joins later", False, "1:2", late=True, new_store=True
    ),
}


# The trial


@dataclass
class Outcome:
    """What a training on two nodes has come to."""

    ended: bool
    seconds: float
    starts: list[int]
    resumed: list[int] = field(default_factory=list)


def train(folder: Path, network: OneHost, disturbance: Disturbance | None) -> Outcome:
    """Trains in ``folder``; the log of each node is there too."""
    options = Options(network.port())
    first_snapshot = f"{PREFIX}_iter_{EACH}.solverstate"
    if disturbance is not None:
        options = Options(
            *(network.port(), disturbance.nodes, disturbance.more, disturbance.new_store),
            second_after=first_snapshot if disturbance.late else "",
        )
    nodes = [Node(number, folder, network, options) for number in (0, 1)]
    begun = time.monotonic()
    for node in nodes:
        node.start()
    actions = iter(()) if disturbance is None else disturbance.act(nodes, network)
    due = begun
    ended = False
    try:
        while not ended and time.monotonic() - begun < _SECONDS:
            time.sleep(0.05)
            if time.monotonic() >= due and (folder / first_snapshot).exists():
                due = time.monotonic() + next(actions, 0.0)
            ended = _attend(nodes)
    finally:
        for node in nodes:
            node.end()
    log = "".join(node.log.read_text(errors="replace") for node in nodes if node.log.exists())
    resumed = re.findall(rf"Resuming from {PREFIX}_iter_(\d+)", log)
    seconds = time.monotonic() - begun
    return Outcome(ended, seconds, [node.starts for node in nodes], [int(n) for n in resumed])


def _attend(nodes: list[Node]) -> bool:
    """Starts nodes that have failed again; whether all are done."""
    for node in nodes:
        if node.starts and node.code() and not node.stays_away:
            time.sleep(0.5)
            node.start()
    return all(node.stays_away or node.code() == 0 for node in nodes)


def difference(folder: Path, other: Path) -> float:
    """The largest difference of weights and histories, relative to the largest value of each.

    Zero stands for files that are equal in every byte, infinity for a missing one.
    """
    import numpy as np

    from caffecompat.weights import load_weights, read_state

    names = [f"{PREFIX}_iter_{LAST}.{suffix}" for suffix in ("caffemodel", "solverstate")]
    if not all((folder / name).exists() for name in names):
        return float("inf")
    if all((folder / name).read_bytes() == (other / name).read_bytes() for name in names):
        return 0.0
    ours, theirs = (
        [
            *(blob for layer in load_weights(at / names[0]).layers for blob in layer.blobs),
            *read_state(at / names[1]).history,
        ]
        for at in (folder, other)
    )
    pairs = zip(ours, theirs, strict=True)
    found = (float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)
    return max(max(found), sys.float_info.min)


def verdict(outcome: Outcome, disturbance: Disturbance, found: float) -> str:
    if not outcome.ended:
        return "DOES NOT END"
    if not outcome.resumed:
        return "NOT RESUMED"
    if disturbance.exact:
        return "equal in every bit" if found == 0 else f"DIFFERS by {found:.1e}"
    return f"equal within {found:.0e}" if found <= _ROUNDING else f"DIFFERS by {found:.1e}"


def make_network(wanted: str) -> OneHost:
    if wanted == "host":
        return OneHost()
    try:
        return Namespaces()
    except (OSError, subprocess.CalledProcessError) as error:
        if wanted == "namespaces":
            sys.exit(f"multinode_trial: network namespaces cannot be made here: {error}")
        print(f"network namespaces cannot be made here ({error}); both nodes are on one host")
        return OneHost()


def trial(folder: Path, network: OneHost, names: Sequence[str]) -> bool:
    """Prints a row for each disturbance; whether all of them end well."""
    reference = folder / "undisturbed"
    write_training(reference)
    outcome = train(reference, network, None)
    if not outcome.ended:
        print((reference / "node0.txt").read_text(errors="replace")[-4000:])
        print("the undisturbed training does not end")
        return False
    print(f"2 nodes of 2 ranks, {network.name}; undisturbed: {outcome.seconds:.0f} s\n")
    print("| disturbance | what happens | torchruns | resumed at | s | result |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    good = True
    for name in names:
        disturbance = DISTURBANCES[name]
        if disturbance.namespaces and not isinstance(network, Namespaces):
            print(f"| {name} | {disturbance.what} | | | | left out: needs network namespaces |")
            continue
        at = folder / name
        write_training(at)
        outcome = train(at, network, disturbance)
        said = verdict(outcome, disturbance, difference(at, reference))
        good = good and said.startswith("equal")
        starts = " + ".join(map(str, outcome.starts))
        resumed = ", ".join(map(str, outcome.resumed))
        cells = [name, disturbance.what, starts, resumed, f"{outcome.seconds:.0f}", said]
        print(f"| {' | '.join(cells)} |", flush=True)
    return good


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"only these: {', '.join(DISTURBANCES)}")
    parser.add_argument(
        "--network",
        choices=("auto", "namespaces", "host"),
        default="auto",
        help="what is between the nodes (default: namespaces where they can be made)",
    )
    parser.add_argument("--keep", type=Path, help="a new folder for everything, which is kept")
    arguments = parser.parse_args(argv)
    for name in arguments.names:
        if name not in DISTURBANCES:
            parser.error(f"there is no disturbance {name!r}; there are {', '.join(DISTURBANCES)}")
    folder = arguments.keep or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    network = make_network(arguments.network)
    try:
        return 0 if trial(folder.resolve(), network, arguments.names or list(DISTURBANCES)) else 1
    finally:
        network.close()
        if arguments.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
