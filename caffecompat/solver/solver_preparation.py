"""The preparation of a solver: everything that happens before its nets are built."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from caffecompat.layers import BuildOptions
from caffecompat.proto.schema import Message
from caffecompat.solver.distributed.process_group import ProcessGroup
from caffecompat.solver.estimate.auto_iter_size import AutoIterSize
from caffecompat.solver.setup.build_nets import NetOptions, weight_files
from caffecompat.solver.setup.device_choice import solver_device
from caffecompat.solver.setup.net_plans import NetPlanner, PlannedNet, scaled_plan
from caffecompat.solver.setup.options import SolverOptions
from caffecompat.solver.setup.settings import Settings, read_settings
from caffecompat.solver.setup.start_lines import report_start
from caffecompat.solver.snapshots.resume import AUTO, check_start, find_start
from caffecompat.solver.snapshots.snapshot_files import SnapshotFiles, load_state, snapshot_files
from caffecompat.solver.snapshots.writer import SnapshotWriter
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
        files: names of the snapshot files; ``snapshot_writer`` writes them.
        train, tests: the nets to build with ``options``.
        state, state_path: the solver state to resume from; None for a start from the beginning.
        auto_iter_size: estimates the memory of the training; None if neither ``forecast`` nor
            ``auto_iter_size`` was given.
    """

    settings: Settings
    files: SnapshotFiles
    snapshot_writer: SnapshotWriter
    train: PlannedNet
    tests: list[PlannedNet]
    options: NetOptions
    state: SolverState | None
    state_path: str | None
    auto_iter_size: AutoIterSize | None


def prepare(
    source: str | os.PathLike[str] | Message | Settings,
    start: Start,
    options: SolverOptions,
    process_group: ProcessGroup,
    log: logging.Logger,
) -> Preparation:
    """Reads the definition, plans the nets and finds the state to start from; logs them.

    Raises:
        FileProblem, TextError: a file is missing or does not parse.
        UnknownName, SolverError: impossible settings, or a state that does not fit.
    """
    given = os.fspath(start.snapshot) if start.snapshot else None
    check_start(start.weights, given)
    settings = source
    if not isinstance(settings, Settings):
        settings = read_settings(settings, options.lenient, options.max_bytes)
    device = solver_device(settings.message, start.device)
    options.compute.check(device, process_group.world_size, bool(settings.message.debug_info))
    files = snapshot_files(settings.message, settings.path)
    snapshot_writer = _snapshot_writer(settings, files, process_group, log)
    train, tests = _planned_nets(settings, options, process_group)
    path, notes = find_start(
        given, files, settings.rule.history_slots, process_group, settings.max_bytes
    )
    state = load_state(path, options.max_bytes) if path else None
    net_options = _net_options(settings, start, options, device, process_group)
    if state is not None:
        net_options = replace(net_options, weights=())
    auto_iter_size = None
    if options.forecast or options.auto_iter_size:
        auto_iter_size = AutoIterSize(settings, train, net_options, files.prefix)
    if auto_iter_size is not None and options.auto_iter_size:
        notes += auto_iter_size.split()
        train = auto_iter_size.plan
    report_start(settings, train, net_options, options.batch_per_device, notes, log)
    if start.snapshot == AUTO and path is None:
        log.info(f"no snapshot of {files.prefix!r} yet; starting from the beginning")
    return Preparation(
        *(settings, files, snapshot_writer, train, tests, net_options),
        *(state, path or None, auto_iter_size),
    )


def _planned_nets(
    settings: Settings, options: SolverOptions, process_group: ProcessGroup
) -> tuple[PlannedNet, list[PlannedNet]]:
    """The train net and the test nets."""
    planner = NetPlanner(settings)
    train = planner.train_net(options.level, options.stages or ())
    if options.batch_per_device and process_group.several:
        train = scaled_plan(train, Fraction(process_group.world_size))
    return train, planner.test_nets()


def _snapshot_writer(
    settings: Settings, files: SnapshotFiles, process_group: ProcessGroup, log: logging.Logger
) -> SnapshotWriter:
    snapshot_writer = SnapshotWriter(files, settings.place, log, process_group.first)
    regular, last = settings.message.snapshot > 0, settings.message.snapshot_after_train
    if regular:
        snapshot_writer.check_writable(settings.message.max_iter)
    if regular or last:
        snapshot_writer.check_unlocked()
    return snapshot_writer


def _net_options(
    settings: Settings,
    start: Start,
    options: SolverOptions,
    device: torch.device,
    process_group: ProcessGroup,
) -> NetOptions:
    files = [os.fspath(start.weights)] if start.weights else list(settings.message.weights)
    return NetOptions(
        device=device,
        build=BuildOptions(
            allow_python=options.allow_python,
            skip_corrupt=options.skip_corrupt,
            lenient=options.lenient,
            dialect=options.dialect,
            max_bytes=options.max_bytes,
        ),
        weights=weight_files(files),
        layers=None if options.layers is None else tuple(options.layers),
        on_mismatch=options.on_mismatch,
        compute=options.compute,
        process_group=process_group,
    )
