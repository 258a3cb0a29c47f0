"""Signals as requests to the training loop."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from caffecompat.solver import Action, SignalActions
from tests.programs import Program, run_program
from tests.solver.small import write_training


def iterations(folder: Path) -> int:
    """Those of the last snapshot."""
    states = (folder / "run").glob("*.solverstate")
    return max(int(state.stem.split("_")[-1]) for state in states)


def test_each_signal_is_answered_once() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with SignalActions(Action.STOP, Action.SNAPSHOT) as signals:
        assert signals.requested() is Action.NONE
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)
        assert [signals.requested() for _ in range(3)] == [
            Action.SNAPSHOT,
            Action.STOP,
            Action.NONE,
        ]
    assert signal.getsignal(signal.SIGHUP) is before


def test_a_second_interrupt_does_not_wait() -> None:
    with SignalActions(Action.STOP, Action.NONE) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.requested() is Action.STOP


def test_a_signal_can_be_ignored() -> None:
    with SignalActions(Action.NONE, Action.NONE) as signals:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.requested() is Action.NONE


def _sleep(runs: Event) -> None:
    runs.set()
    time.sleep(60)


def test_a_process_that_is_forked_ends_by_sigterm() -> None:
    """A Python layer ends the process that reads for it so, and waits for it at exit."""
    with SignalActions(Action.STOP, Action.SNAPSHOT) as signals:
        context = multiprocessing.get_context("fork")
        runs = context.Event()
        child = context.Process(target=_sleep, args=(runs,))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other tests leave threads
            child.start()
        assert runs.wait(20)
        child.terminate()
        child.join(20)
        ended = child.exitcode
        child.kill()
        assert ended == -signal.SIGTERM
        assert signals.requested() is Action.NONE
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.requested() is Action.PREEMPT


READER = """
import multiprocessing

import caffe


def read(queue):
    while True:
        queue.put(1.0)


class Reader(caffe.Layer):
    def setup(self, bottom, top):
        context = multiprocessing.get_context("fork")
        self.queue = context.Queue(2)
        self.process = context.Process(target=read, args=(self.queue,), daemon=True)
        self.process.start()

    def reshape(self, bottom, top):
        top[0].reshape(2, 3)

    def forward(self, bottom, top):
        top[0].data[...] = self.queue.get()

    def backward(self, top, propagate_down, bottom):
        pass
"""


@pytest.mark.slow
def test_a_training_with_a_reading_process_ends(tmp_path: Path) -> None:
    (tmp_path / "reader.py").write_text(READER)
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "data" type: "Python" top: "data"
          python_param { module: "reader" layer: "Reader" } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
          inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
        layer { name: "loss" type: "Reduction" bottom: "ip" top: "loss" loss_weight: 1 }""")
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 3 snapshot_prefix: "s"'
    )
    words = ["-m", "caffecompat", "train", "--solver=solver.prototxt", "--allow-python"]
    result = run_program(words, tmp_path, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "Optimization Done." in result.stderr


@pytest.mark.slow
def test_signals_to_a_training(tmp_path: Path) -> None:
    """SIGHUP writes a snapshot and goes on; SIGINT writes one and ends well."""
    text = """net: "{folder}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" random_seed: 1
        max_iter: 100000000 snapshot_prefix: "{folder}/snap" """
    path = write_training(tmp_path / "run", "", text)
    log: list[str] = []
    with Program(["-m", "caffecompat", "train", f"--solver={path}"]) as process:
        for line in process.stderr:
            log.append(line)
            if "Learning Rate Policy" in line:
                time.sleep(0.3)
                process.send_signal(signal.SIGHUP)
            if "Snapshotting solver state" in line and "\n".join(log).count("solver state to") == 1:
                time.sleep(0.3)
                process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert len(list((tmp_path / "run").glob("*.solverstate"))) == 2
    assert log[-2].endswith("Optimization stopped early.\n")
    assert "To go on: " in log[-1]
    assert log[-1].rstrip().endswith(f"_iter_{iterations(tmp_path)}.solverstate")


def test_a_termination_asks_to_preempt() -> None:
    with SignalActions(Action.NONE, Action.NONE) as signals:
        assert not signals.preempted
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert [signals.requested() for _ in range(2)] == [Action.PREEMPT, Action.NONE]
        assert signals.preempted


@pytest.mark.slow
def test_a_preempted_training_resumes(tmp_path: Path) -> None:
    """SIGTERM: a snapshot, exit code 75; the same command goes on and ends as if undisturbed."""
    text = """net: "{folder}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" random_seed: 1
        max_iter: 1500 snapshot_prefix: "{folder}/snap" snapshot_after_train: false """
    path = write_training(tmp_path / "run", "", text)
    command = ["-m", "caffecompat", "train", f"--solver={path}", "-snapshot=auto"]
    with Program(command) as process:
        for line in process.stderr:
            if "Learning Rate Policy" in line:
                time.sleep(0.1)
                process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=200) == 75
    (state,) = (tmp_path / "run").glob("*.solverstate")
    # 0 where the signal met the first iteration, which is left in its middle.
    stopped = int(state.stem.split("_")[-1])
    assert stopped < 1500
    path.write_text(path.read_text().replace("max_iter: 1500", f"max_iter: {stopped + 20}"))
    again = run_program(command, timeout=200)
    assert again.returncode == 0
    assert f"Resuming from {state}" in again.stderr
