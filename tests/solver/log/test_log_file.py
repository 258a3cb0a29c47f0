"""The log file of a training: its place and content; its failures do not end the training."""

from __future__ import annotations

import errno
import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest

from caffecompat.cli.main import main
from caffecompat.reporting.glog import LOGGER, StderrHandler
from caffecompat.reporting.log_file import LogFile, kept_log, log_path
from caffecompat.solver import Solver
from caffecompat.solver.reporters.progress_bar import fitting
from caffecompat.solver.reporters.tensorboard import tensorboard
from tests.solver.log.caffe_log import PREFIX, Lines, parse
from tests.solver.small import write_training


class FullDisk:
    """A stream to a disk that is full from the ``after``-th text on."""

    def __init__(self, after: int = 0) -> None:
        self.after = after
        self.texts: list[str] = []

    def write(self, text: str) -> int:
        if len(self.texts) >= self.after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.texts.append(text)
        return len(text)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def test_a_training_keeps_a_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bar in place of its lines, too; the verbs that read logs read it."""
    pytest.importorskip("tqdm")
    path = write_training(tmp_path)
    monkeypatch.setattr("caffecompat.solver.reporters.progress_bar.bar_is_possible", lambda: True)
    assert main(["train", f"--solver={path}"]) == 0
    said = capsys.readouterr().err
    (log,) = logs(tmp_path)
    assert re.fullmatch(r"snap_\d{8}-\d{6}\.log", log.name)
    assert said.splitlines()[0] == f"Log file: {log}"
    assert "Train net output" not in said
    lines = log.read_text().splitlines()
    assert re.fullmatch(r"Log file created at: \d{4}/\d\d/\d\d \d\d:\d\d:\d\d", lines[0])
    assert lines[-1].endswith("Optimization Done.")
    start = next(i for i, line in enumerate(lines) if "Solving" in line)
    assert PREFIX.match(lines[start])
    rows = parse(lines[start:])
    assert [row.iteration for row in rows["Train"]] == list(range(12))
    (tmp_path / "tables").mkdir()
    assert main(["parse-log", str(log), f"{tmp_path}/tables"]) == 0
    table = (tmp_path / "tables" / f"{log.name}.train").read_text().splitlines()
    assert len(table) == 13


def test_another_folder_or_none(tmp_path: Path) -> None:
    path = write_training(tmp_path)
    folder = tmp_path / "logs" / "of it"
    assert main(["train", f"--solver={path}", "--log_dir", str(folder)]) == 0
    assert [log.name[:5] for log in logs(folder)] == ["snap_"]
    assert main(["train", f"--solver={path}", "--no-log"]) == 0
    assert logs(tmp_path) == []


def test_names_that_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda form: "_now")
    prefix = str(tmp_path / "snap")
    assert log_path(prefix) == f"{prefix}_now.log"
    Path(f"{prefix}_now.log").write_text("")
    assert log_path(prefix) == f"{prefix}_now-2.log"
    assert log_path(prefix, "elsewhere") == "elsewhere/snap_now.log"


def test_a_training_that_cannot_start_leaves_no_log(tmp_path: Path) -> None:
    path = write_training(tmp_path)
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text().replace('bottom: "norm"', 'bottom: "nrom"'))
    assert main(["train", f"--solver={path}"]) == 1
    assert logs(tmp_path) == []


def test_the_end_of_a_failed_training_is_in_its_log(tmp_path: Path) -> None:
    path = write_training(tmp_path)
    path.write_text(path.read_text().replace("base_lr: 0.05", "base_lr: 1e30"))
    assert main(["train", f"--solver={path}"]) == 1
    (log,) = logs(tmp_path)
    last = log.read_text().splitlines()[-1]
    assert last.startswith("E")
    assert "the loss is" in last


def test_a_log_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_training(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["train", f"--solver={path}", f"--log-dir={tmp_path}/file"]) == 0
    said = capsys.readouterr().err
    assert said.count("the log file cannot be written: ") == 1
    assert (tmp_path / "snap_iter_12.solverstate").exists()


def test_a_disk_that_fills_up(tmp_path: Path, lines: Lines) -> None:
    with kept_log(str(tmp_path / "x.log")) as log:
        assert log is not None
        log.open()
        assert log._stream is not None
        log._stream.close()
        log._stream = FullDisk(2)  # type: ignore[assignment]
        for i in range(5):
            LOGGER.info(f"line {i}")
    (warning,) = lines.containing("the log file cannot be written")
    assert "No space left on device; training continues without it" in warning
    assert len(lines.containing("line ")) == 5


def test_an_error_stream_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    handler = StderrHandler()
    handler.stream = FullDisk()  # type: ignore[assignment]
    handler.handle(logging.LogRecord("x", logging.INFO, "a", 1, "text", None, None))
    assert capsys.readouterr().err == ""


def test_lines_until_a_file_is_open_are_kept(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "new" / "x.log"))
    log.handle(logging.LogRecord("x", logging.INFO, "a", 1, "early", None, None))
    assert not (tmp_path / "new").exists()
    log.open()
    log.close()
    assert "early" in (tmp_path / "new" / "x.log").read_text()


def test_curves_on_a_full_disk(
    tmp_path: Path, lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    """The thread that writes them dies; the training ends with its snapshot and one warning."""
    pytest.importorskip("tensorboard")
    solver = Solver(write_training(tmp_path))

    def refuse(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with tensorboard(solver, str(tmp_path / "curves")):
        board: Any = solver.callbacks[-1]
        writer = board._writer.file_writer.event_writer._async_writer._writer
        writer.write = writer.flush = refuse
        solver.solve()
    assert (tmp_path / "snap_iter_12.solverstate").exists()
    (warning,) = lines.containing("the curves for TensorBoard cannot be written")
    assert "No space left on device" in warning
    assert "Traceback" not in capsys.readouterr().err


def test_texts_that_fit() -> None:
    parts = ["loss 6.904", "123 img/s", "lr 0.01", "data wait 3%"]
    assert fitting(parts, 100) == ", ".join(parts)
    assert fitting(parts, 22) == "loss 6.904, 123 img/s"
    assert fitting(parts, 5) == "loss "


def test_a_bar_at_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has cells, and no line of the terminal is wider."""
    pytest.importorskip("tqdm")
    path = write_training(tmp_path)
    monkeypatch.setattr("caffecompat.solver.reporters.progress_bar.bar_is_possible", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["train", f"--solver={path}", "--no-log"]) == 0
    said = capsys.readouterr().err
    bars = [part for part in re.split(r"[\r\n]", said) if re.match(r" *\d+%\|", part)]
    assert bars
    for bar in bars:
        assert len(bar) <= 80
        assert len(bar.split("|")[1]) >= 10
    tests = [line for line in said.splitlines() if "Test net output" in line]
    assert tests
    assert all(len(line.split("\r")[-1]) < 80 for line in tests)
