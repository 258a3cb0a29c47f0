"""Logs as tables and curves."""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffecompat.cli.main import main
from caffecompat.errors import CaffeError, FormatError
from caffecompat.logs.extract_seconds import read_seconds
from caffecompat.logs.parse import read_log, table
from tests.recorded.tally import Tally

LOG = """\
I1231 23:59:58.500000  4242 caffe.cpp:197] Use CPU.
I1231 23:59:59.500000  4242 solver.cpp:289] Solving tiny
I1231 23:59:59.600000  4242 solver.cpp:347] Iteration 0, Testing net (#0)
I1231 23:59:59.700000  4242 solver.cpp:414]     Test net output #0: accuracy = 0.25
I1231 23:59:59.700000  4242 solver.cpp:414]     Test net output #1: loss = 2.5 (* 1 = 2.5 loss)
I1231 23:59:59.800000  4242 solver.cpp:239] Iteration 0 (0 iter/s, 0s/3 iters), loss = 2
I1231 23:59:59.800000  4242 solver.cpp:258]     Train net output #0: loss = 2 (* 1 = 2 loss)
I1231 23:59:59.800000  4242 sgd_solver.cpp:112] Iteration 0, lr = 0.1
some other program says: Iteration 9, lr = 7
I0101 00:00:01.500000  4242 solver.cpp:239] Iteration 3 (3 iter/s, 1s/3 iters), loss = 1e-05
I0101 00:00:01.500000  4242 solver.cpp:258]     Train net output #0: loss = nan (* 1 = nan loss)
I0101 00:00:01.500000  4242 sgd_solver.cpp:112] Iteration 3, lr = 1e-05
I0101 00:00:01.600000  4242 solver.cpp:347] Iteration 5, Testing net (#0)
I0101 00:00:01.700000  4242 solver.cpp:414]     Test net output #0: accuracy = 0.75
I0101 00:00:01.700000  4242 solver.cpp:414]     Test net output #1: loss = 0.5 (* 1 = 0.5 loss)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "train.log"
    path.write_text(LOG)
    return path


def test_rows(log: Path) -> None:
    parsed = read_log(log)
    assert table(parsed.test) == (
        "NumIters,Seconds,LearningRate,accuracy,loss\n0.0,0.2,1e-05,0.25,2.5\n"
        "5.0,2.2,1e-05,0.75,0.5\n"
    )
    assert [(row.iteration, row.seconds, row.rate) for row in parsed.train] == [
        (0, 0.3, 0.1),
        (3, 2.0, 0.1),
    ]
    assert math.isnan(parsed.train[1].outputs["loss"])
    assert parsed.rates == [(0, 0.1), (3, 1e-05)]
    assert table(parsed.train, ";").startswith("NumIters;Seconds;")


def of_two_test_nets(second_output: str) -> str:
    """A log of two test nets with one output each, tested in three iterations."""
    lines = ["solver.cpp:289] Solving tiny"]
    for iteration in (0, 5, 10):
        for net, name in enumerate(("loss", second_output)):
            lines.append(f"solver.cpp:347] Iteration {iteration}, Testing net (#{net})")
            lines.append(f"solver.cpp:414]     Test net output #0: {name} = {iteration + net}.5")
    return "".join(f"I1231 23:59:58.500000  4242 {line}\n" for line in lines)


def test_two_test_nets(log: Path) -> None:
    """A row for each net but in the first iteration, or one for all if their outputs differ."""
    log.write_text(of_two_test_nets("loss"))
    rows = [(row.iteration, row.net, row.outputs) for row in read_log(log).test]
    assert rows[0] == (0, 1, {"loss": 1.5})
    assert rows[1:3] == [(5, 0, {"loss": 5.5}), (5, 1, {"loss": 6.5})]
    assert rows[3:] == [(10, 0, {"loss": 10.5}), (10, 1, {"loss": 11.5})]
    log.write_text(of_two_test_nets("score"))
    outputs = [row.outputs for row in read_log(log).test]
    assert outputs == [{"loss": i + 0.5, "score": i + 1.5} for i in (0, 5, 10)]


def test_a_curve_for_each_test_net(log: Path) -> None:
    pytest.importorskip("matplotlib")
    log.write_text(of_two_test_nets("loss"))
    lines = figure_of(log).axes[0].lines
    assert [line.get_label() for line in lines] == ["test loss of net #1", "test loss of net #0"]
    assert lines[1].get_ydata().tolist() == [5.5, 10.5]


def test_dates_with_a_year(log: Path) -> None:
    """Newer loggers put it in front; Caffe's own parser fails there."""
    text = LOG.replace("I1231 ", "I20241231 ").replace("I0101 ", "I20250101 ")
    expected = read_log(log)
    log.write_text(text)
    assert table(read_log(log).test) == table(expected.test)


def test_tables_equal_those_of_caffes_parser(golden: Path, tmp_path: Path) -> None:
    tally = Tally()
    for expected in sorted((golden / "cli" / "parsed").iterdir()):
        with tally.case(expected.name):
            log = golden / "cli" / "logs" / expected.stem
            assert main(["parse_log", str(log), str(tmp_path)]) == 0
            assert (tmp_path / expected.name).read_bytes() == expected.read_bytes()
    tally.close(least=12)


def test_from_the_command_line(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parse-log", str(log), str(log.parent), "--verbose", "-delimiter", ";"]) == 0
    text = capsys.readouterr().out
    assert f"wrote {log}.train" in text
    assert "5.0;2.2;1e-05;0.75;0.5" in text
    assert Path(f"{log}.test").read_text().count("\n") == 3


def test_reading_needs_no_torch(log: Path) -> None:
    code = f"""import sys
from caffecompat.cli.main import main
assert main(["parse-log", {str(log)!r}, {str(log.parent)!r}]) == 0
assert "torch" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "this is not a training log: none of its lines is a log line"),
        ("loss: 0.1\n" * 3, "none of its lines is a log line"),
        (LOG.splitlines()[0] + "\n", "it has no line 'Solving ...'"),
        (
            "I1399 23:59:59.500000  1 solver.cpp:289] Solving x\n",
            "x.log: a line begins with 'I1399 23:59:59.500000  1 solver.cpp:289] ', which has no "
            "valid date and time",
        ),
        ("\0\1\2" * 100, "none of its lines is a log line"),
    ],
)
@pytest.mark.parametrize("verb", ["parse-log", "plot_log"])
def test_what_is_no_log(
    verb: str, text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.log"
    path.write_text(text)
    more = [str(tmp_path)] if verb == "parse-log" else ["-o", str(tmp_path / "x.png")]
    assert main([verb, str(path), *more]) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_a_damaged_date(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the line; without it the log is read."""
    text = log.read_text()
    damaged = "I1399 23:59:59.500000  1 solver.cpp:289] Iteration 1, loss = 2\n"
    log.write_text(text + damaged)
    assert main(["parse-log", str(log), str(log.parent)]) == 1
    said = capsys.readouterr().err
    assert "correct the line or delete it" in said
    assert f"a line begins with {damaged[:41]!r}" in said
    log.write_text("".join(one for one in log.read_text().splitlines(True) if one != damaged))
    assert main(["parse-log", str(log), str(log.parent)]) == 0


def test_bad_places(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, sentence in (
        (f"parse-log {tmp_path}/none.log", "none.log: there is no such file"),
        (f"parse-log {log} {tmp_path}/none", "cannot be written: there is no folder"),
        (f"parse-log {log} --delimiter ab", "--delimiter is 'ab'; it must be one character"),
        (f"plot-log {log} -o {tmp_path}/curves.bmp", "must end in .png, .svg or .pdf"),
    ):
        assert main(command.split()) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert sentence in line


def test_a_training_that_shows_nothing(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_text("".join(line for line in LOG.splitlines(True) if "net output" not in line))
    assert main(["parse-log", str(log), str(log.parent)]) == 0
    assert "shows no outputs; train with 'display'" in capsys.readouterr().out
    assert list(log.parent.iterdir()) == [log]
    assert main(["plot-log", str(log), "-o", f"{log}.png"]) == 1
    assert "has no outputs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("b.svg", b"<?xml"), ("c.PDF", b"%PDF")]
)
def test_curves(name: str, start: bytes, log: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    second = tmp_path / "second.log"
    second.write_text(LOG)
    assert main(["plot-log", str(log), str(second), "-o", str(tmp_path / name)]) == 0
    content = (tmp_path / name).read_bytes()
    assert content.startswith(start)
    if name == "b.svg":
        text = content.decode()
        # Letters are drawn as shapes, which are named in comments.
        for words in ("train.log: train loss", "second.log: test accuracy", "learning rate"):
            assert words in text


def test_curves_without_matplotlib(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caffecompat.logs.plot import plot

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(CaffeError, match=r"pip install 'caffecompat\[plot\]'"):
        plot([read_log(log)], tmp_path / "x.png")


def test_only_pictures_are_drawn(log: Path) -> None:
    from caffecompat.logs.plot import plot

    with pytest.raises(FormatError, match=r"curves: the name must end in .png, .svg or .pdf"):
        plot([read_log(log)], "curves")


def test_numbers_that_run_together_are_passed_over(log: Path) -> None:
    """Two ranks or threads that write at once leave such lines; Caffe's parser fails there."""
    log.write_text(
        LOG.replace("accuracy = 0.25", "accuracy = 3.2032841.786657").replace(
            "lr = 1e-05", "lr = 0.10.1"
        )
    )
    parsed = read_log(log)
    assert parsed.test[0].outputs == {"loss": 2.5}
    assert parsed.rates == [(0, 0.1)]


WORDS = st.sampled_from(
    [
        *["Iteration ", "lr = ", "Train net output #0: loss = ", "Test net output #1: a = ", " "],
        *["I1231 23:59:59.600000  4242 solver.cpp:347] ", "I0230 99:99:99 1 x] ", "Solving n"],
        *["1", "9" * 30, "-", ".", "1e5", "e", "nan", "inf", "\u0663", "\n", "\x00", "\r"],
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS | st.text(max_size=5), max_size=40).map("".join), st.booleans())
def test_no_line_is_a_traceback(tmp_path: Path, text: str, begun: bool) -> None:
    path = tmp_path / "x.log"
    start = "I1231 23:59:59.500000  4242 solver.cpp:289] Solving tiny\n" if begun else ""
    path.write_text(start + text, encoding="utf-8", errors="replace", newline="")
    with contextlib.suppress(CaffeError):
        table(read_log(path).train)


def test_a_log_may_come_from_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(LOG.encode())))
    assert main(["parse-log", "-", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "standard input.test",
        "standard input.train",
    ]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(LOG.encode())))
    assert main(["parse-log", "-", str(tmp_path), "--max-bytes", "100"]) == 1
    assert "more than the limit of 100" in capsys.readouterr().err


def figure_of(log: Path, chart: int | None = None) -> Any:
    from matplotlib.figure import Figure

    from caffecompat.logs import plot

    logs = [read_log(log)]
    return plot._draw(logs, Figure) if chart is None else plot._draw_chart(logs, Figure, chart)


def test_a_picture_has_names_and_plain_rates(log: Path) -> None:
    pytest.importorskip("matplotlib")
    log.write_text(LOG.replace("lr = 1e-05", "lr = 0.1"))
    figure = figure_of(log)
    figure.canvas.draw()
    assert figure.get_suptitle() == "Training of train.log"
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "accuracy", "learning rate"]
    labels = [label.get_text() for label in figure.axes[-1].get_yticklabels()]
    assert labels == ["0.1"]
    # Two points are no curve.
    assert [line.get_linestyle() for line in figure.axes[1].lines] == ["None"]


def test_caffes_charts(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    names = [
        (f.axes[0].get_xlabel(), f.axes[0].get_ylabel())
        for f in (figure_of(log, n) for n in range(8))
    ]
    assert [over.split()[0] for over, _ in names] == ["iteration", "seconds"] * 4
    assert [what for _, what in names[::2]] == [
        "test accuracy",
        "test loss",
        "learning rate",
        "train loss",
    ]
    picture = tmp_path / "loss.png"
    assert main(["plot_log", "6", str(picture), str(log)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["plot-log", str(log)]) == 2
    assert "-o FILE" in capsys.readouterr().err


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_a_log_that_powershell_redirected(order: str, log: Path, tmp_path: Path) -> None:
    powershell = tmp_path / "powershell.log"
    powershell.write_bytes(("\ufeff" + LOG.replace("\n", "\r\n")).encode(order))
    assert table(read_log(powershell).test) == table(read_log(log).test)
    assert table(read_log(powershell).train) == table(read_log(log).train)
    assert read_seconds(powershell) == read_seconds(log)


def test_a_packed_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packed = Path("old log.gz")
    packed.write_bytes(gzip.compress(LOG.encode()))
    command = "gunzip -c 'old log.gz' > train.log"
    for read in (read_log, read_seconds):
        with pytest.raises(FormatError) as caught:
            read(packed)
        assert str(caught.value).endswith(f"this is a gzip archive; unpack it first: {command}")
    if shutil.which("gunzip"):
        subprocess.run(command, shell=True, check=True)
        assert read_log("train.log").train


def test_a_chart_that_caffe_does_not_have(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plot-log", "8", str(tmp_path / "a.png"), str(log)]
    assert main(words) == 2
    assert "there is no chart 8; give 0 to 7" in capsys.readouterr().err
    words[1] = "7"
    assert main(words) == 0
