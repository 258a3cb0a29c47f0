"""Everything that a solver must know before its nets are built."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import torch

from caffecompat.proto.schema import Message
from caffecompat.solver.device import solver_device
from caffecompat.solver.keeper import Keeper
from caffecompat.solver.nets import PlannedNet, plan_per_device, plan_test_nets, plan_train_net
from caffecompat.solver.opening import NetOptions, weight_files
from caffecompat.solver.options import SolverOptions
from caffecompat.solver.outlook import Outlook
from caffecompat.solver.ranks import Ranks
from caffecompat.solver.resume import AUTO, check_start, find_start
from caffecompat.solver.settings import Settings, read_settings
from caffecompat.solver.snapshot import SnapshotFiles, load_state, snapshot_files
from caffecompat.solver.start import report_start
from caffecompat.weights import SolverState


@dataclass(frozen=True)
class Start:
    """Where a training starts: the arguments of :class:`caffecompat.Solver` of these names."""

    weights: str | os.PathLike[str] | None = None
    snapshot: str | os.PathLike[str] | None = None
    device: str | torch.device | None = None


@dataclass(frozen=True)
class Preparation:
    """A solver before its nets are built.

    Attributes:
        settings: of the definition.
        files: the names of its snapshots; ``keeper`` writes them.
        train, tests: the nets to build, by ``options``.
        state, state_path: the solver state to go on from; None for none.
        outlook: looks ahead at what the training needs; None where nobody asked.
    """

    settings: Settings
    files: SnapshotFiles
    keeper: Keeper
    train: PlannedNet
    tests: list[PlannedNet]
    options: NetOptions
    state: SolverState | None
    state_path: str | None
    outlook: Outlook | None


def prepare(
    source: str | os.PathLike[str] | Message,
    start: Start,
    options: SolverOptions,
    ranks: Ranks,
    log: logging.Logger,
) -> Preparation:
    """Reads the definition, plans the nets and finds where to start; logs what it found.

    Raises:
        FileProblem, TextError: a file is missing or does not parse.
        UnknownName, SolverError: impossible settings, or a state that does not fit.
    """
    given = os.fspath(start.snapshot) if start.snapshot else None
    check_start(start.weights, given)
    settings = read_settings(source, options.lenient)
    device = solver_device(settings.message, start.device)
    options.mode.check(device, ranks.count, bool(settings.message.debug_info))
    files = snapshot_files(settings.message, settings.path)
    keeper = _keeper(settings, files, ranks, log)
    train = plan_train_net(settings, options.level, options.stages or ())
    if options.batch_per_device and ranks.several:
        train = plan_per_device(train, ranks.count)
    tests = plan_test_nets(settings)
    path, notes = find_start(given, files, settings.rule.blocks, ranks)
    state = load_state(path) if path else None
    net_options = _net_options(settings, start, options, device, ranks, resumed=state is not None)
    outlook = None
    if options.forecast or options.auto_iter_size:
        outlook = Outlook(settings, train, net_options, files.prefix, ranks)
    if outlook is not None and options.auto_iter_size:
        notes += outlook.split()
        train = outlook.plan
    report_start(settings, train, net_options, options.batch_per_device, notes, log)
    if start.snapshot == AUTO and path is None:
        log.info(f"no snapshot of {files.prefix!r} yet; starting from the beginning")
    return Preparation(
        settings, files, keeper, train, tests, net_options, state, path or None, outlook
    )


def _keeper(settings: Settings, files: SnapshotFiles, ranks: Ranks, log: logging.Logger) -> Keeper:
    keeper = Keeper(files, settings.place, log, ranks.first)
    regular, last = settings.message.snapshot > 0, settings.message.snapshot_after_train
    if regular:
        keeper.check_writable()
    if regular or last:
        keeper.check_unlocked()
    return keeper


def _net_options(
    settings: Settings,
    start: Start,
    options: SolverOptions,
    device: torch.device,
    ranks: Ranks,
    resumed: bool,
) -> NetOptions:
    files = [os.fspath(start.weights)] if start.weights else list(settings.message.weights)
    return NetOptions(
        device=device,
        weights=() if resumed else weight_files(files),
        layers=None if options.layers is None else tuple(options.layers),
        on_mismatch=options.on_mismatch,
        allow_python=options.allow_python,
        skip_corrupt=options.skip_corrupt,
        mode=options.mode,
        ranks=ranks,
    )
