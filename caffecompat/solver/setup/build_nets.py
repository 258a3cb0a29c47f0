"""Builds the nets of a solver and loads their weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from caffecompat.data.shard import Shard
from caffecompat.layers import BuildOptions, catalogue
from caffecompat.net import Net
from caffecompat.solver.distributed.process_group import ProcessGroup
from caffecompat.solver.setup.compute import ComputeOptions
from caffecompat.solver.setup.net_plans import PlannedNet
from caffecompat.solver.snapshots.snapshot_files import LearnedNet


@dataclass(frozen=True)
class NetOptions:
    """The options of all nets of a solver.

    Attributes:
        device: of the nets.
        build: build options; seed, state and shard are set for each net.
        weights: weight files to start from.
        layers, on_mismatch: which layers are loaded from them, and what happens to those that do
            not fit; see :meth:`caffecompat.net.Net.load_weights`.
        compute: compute options.
        process_group: the processes that share each batch of the train net. Test nets take whole
            batches.
    """

    device: torch.device
    build: BuildOptions = field(default_factory=BuildOptions)
    weights: tuple[str, ...] = ()
    layers: tuple[str, ...] | None = None
    on_mismatch: str = "error"
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    process_group: ProcessGroup = field(default_factory=ProcessGroup)


def open_net(
    plan: PlannedNet, options: NetOptions, seed: int, share_with: Net | None, log: logging.Logger
) -> Net:
    """The net of a plan with its weights; a test net shares those of ``share_with``."""
    shard = options.process_group.shard if share_with is None else Shard()
    build = replace(options.build, seed=seed, state=plan.state, shard=shard)
    net = Net(plan.definition, device=options.device, options=build, share_with=share_with)
    try:
        for line in options.compute.prepare(net, train=share_with is None):
            log.info(line)
        _prepare(net, options, share_with, log)
    except BaseException:
        net.close()
        raise
    return net


def _prepare(net: Net, options: NetOptions, share_with: Net | None, log: logging.Logger) -> None:
    if share_with is not None:
        # Raises for layers of one name and different shapes, which Net(share_with=...) ignores.
        net.share_weights(share_with)
    for note in net.notes:
        log.info(note)
    for name in net.outputs:
        log.info(f"This network produces output {name}")
    log.info("Network initialization done.")
    selective = options.layers is not None or options.on_mismatch != "error"
    if selective and share_with is not None:
        # It shares the train net's weights already, and may lack some of the named layers.
        return
    for path in options.weights:
        log.info(f"Finetuning from {path}")
        report = net.load_weights(
            path,
            layers=options.layers,
            on_mismatch=options.on_mismatch,
            # A test net may have none of the layers; the train net was checked.
            lenient=options.build.lenient or share_with is not None,
        )
        report.write_to(log)


def load_learned(net: Net, learned: LearnedNet | None, state: str, log: logging.Logger) -> None:
    """Loads the weights ``learned`` of a solver state into ``net``; logs what does not match.

    Raises:
        FileProblem, FormatError, WeightsError: they are missing, damaged or of another net.
    """
    if learned is None:
        log.warning(f"{state}: names no weights; the net keeps the ones it has")
        return
    if learned.note:
        log.warning(learned.note)
    report = net.load_weights(learned.path)
    report.write_ignored_to(log)
    for sentence in report.sentences()[1:] if report.missing else ():
        log.warning(f"{learned.path}: {sentence}")


def shapes_only_net(plan: PlannedNet, options: NetOptions) -> Net | None:
    """The planned net built for its shapes only, for estimates; its data sources are closed.

    None for a net with layers that import code, which would then run twice.
    """
    types = {layer.type for layer in plan.definition.message.layer}
    if any(kind.imports_code for name in types for kind in catalogue.definitions(name)):
        return None
    build = replace(options.build, state=plan.state, shapes_only=True)
    return Net(plan.definition, options=build)


def weight_files(given: Sequence[str]) -> tuple[str, ...]:
    """Names of weight files; every entry may be a list separated by commas."""
    names = [name.strip() for entry in given for name in entry.split(",")]
    return tuple(name for name in names if name)
