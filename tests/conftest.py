"""Fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from caffecompat.reporting.glog import LOGGER
from tests import parity_report
from tests.recorded.cases import parameters, report
from tests.recorded.location import VARIABLE, RecordedCases, recorded_cases
from tests.solver.log.caffe_log import Lines

# Else torch's compiler starts processes that import torch, for a handful of kernels.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
if not torch.cuda.is_available():
    # Before anything imports triton: its interpreter then runs the kernels on the CPU.
    os.environ.setdefault("TRITON_INTERPRET", "1")

RECORDED = pytest.StashKey[RecordedCases]()

# A machine with a GPU on which tools/gpu_check.sh runs some tests may lack it.
with contextlib.suppress(ModuleNotFoundError):
    from hypothesis import settings

    # How many random inputs a test tries that does not say so itself.
    settings.register_profile("quick", max_examples=60, deadline=None)
    settings.register_profile("thorough", max_examples=1000, deadline=None)
    settings.load_profile("thorough" if os.environ.get("CAFFECOMPAT_THOROUGH") else "quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--recorded",
        metavar="PATH",
        help="the folder with all cases recorded from BVLC Caffe; without it "
        f"{VARIABLE}, then shared/ beside the checkout, then the copies in the tests",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Collection makes millions of objects, and next to none of them is garbage.
    gc.disable()
    config.stash[RECORDED] = recorded_cases(config.getoption("--recorded"))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts jobs in the background so, and programs under test would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header(config: pytest.Config) -> str:
    return report(config.stash[RECORDED])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of weight parity, where its tests were asked for."""
    if "parity" not in str(terminalreporter.config.getoption("markexpr", "")):
        return
    done = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    lines = parity_report.table(pair for report in done for pair in report.user_properties)
    if lines:
        terminalreporter.write_sep("=", "weight parity")
    for line in lines:
        terminalreporter.write_line(line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test marked ``recorded_cases(kind)`` for every case of the kind."""
    mark = metafunc.definition.get_closest_marker("recorded_cases")
    if mark is not None:
        metafunc.parametrize("case", parameters(metafunc.config.stash[RECORDED], *mark.args))


def pytest_collection_finish() -> None:
    """Makes garbage collections during the tests look at the tests' own objects alone.

    The imported modules and the collected tests are millions of objects that stay to the end.
    """
    gc.freeze()
    gc.enable()
    # A test makes thousands of objects, and a full collection takes a tenth of a second.
    gc.set_threshold(5_000, 10, 10)


@pytest.fixture(scope="session")
def recorded(pytestconfig: pytest.Config) -> RecordedCases:
    """Where the recorded cases of this run are."""
    return pytestconfig.stash[RECORDED]


@pytest.fixture(scope="session")
def golden(recorded: RecordedCases) -> Path:
    """The folder of the full set of values recorded from BVLC Caffe 1.0."""
    if not recorded.complete:
        pytest.skip("needs the full set of recorded cases; --recorded PATH names it")
    return recorded.folder


@pytest.fixture(scope="session")
def published(recorded: RecordedCases) -> Path:
    """The folder of published definitions."""
    if recorded.published is None:
        pytest.skip("needs the collection of published definitions; --recorded PATH names it")
    return recorded.published


@pytest.fixture(scope="session", autouse=True)
def loggers_of_torch() -> None:
    """Makes torch's forty loggers use the root's handlers.

    pytest adds its handlers to every logger that does not, six times in each test, which takes
    as long as many of the tests.
    """
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and name.startswith("torch"):
            logger.propagate = True


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Most nets here are so small that threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged during a test, in Caffe's format."""
    handler = Lines()
    level = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield handler
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(level)


@pytest.fixture
def enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Copies a folder of recorded files and makes the copy the current folder."""

    def enter_copy(folder: Path) -> Path:
        copy = tmp_path / folder.name
        shutil.copytree(folder, copy)
        shared = folder.parent / "_data"
        if shared.is_dir():
            shutil.copytree(shared, tmp_path / "_data")
        for path in [*tmp_path.rglob("*"), tmp_path]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        monkeypatch.chdir(copy)
        return copy

    return enter_copy
