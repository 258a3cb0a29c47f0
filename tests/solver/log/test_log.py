"""The log: Caffe's words and format."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.reporting.glog import LOGGER, GlogFormatter, log_to_stderr, number, output_lines
from caffecompat.solver import Solver
from tests.places import COPIES
from tests.recorded.tally import Tally
from tests.solver.log.caffe_log import PREFIX, Lines, assert_same_events, parse
from tests.solver.small import write_training


def record(level: int, text: str) -> logging.LogRecord:
    made = logging.LogRecord("x", level, "/a/b/solver.py", 204, text, None, None)
    made.process = 24065
    made.created = 1_700_000_000.352297
    return made


def test_format() -> None:
    line = GlogFormatter().format(record(logging.INFO, "Solving net"))
    assert PREFIX.match(line)
    assert line.startswith(("I1114 ", "I1115 "))
    assert line.endswith(".352297 24065 solver.py:204] Solving net")
    assert GlogFormatter().format(record(logging.WARNING, "x")).startswith("W")
    assert GlogFormatter().format(record(logging.ERROR, "x")).startswith("E")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1.0, "1"),
        (1e-5, "1e-05"),
        (123456789.0, "1.23457e+08"),
        (0.0625017, "0.0625017"),
    ],
)
def test_numbers_are_printed_as_by_a_stream(value: float, text: str) -> None:
    assert number(value) == text


def test_outputs_are_numbered_through() -> None:
    outputs = {"a": [0.5], "b": [1.0, 2.0]}
    assert output_lines("Test", outputs, {"b": 0.5}) == [
        "    Test net output #0: a = 0.5",
        "    Test net output #1: b = 1 (* 0.5 = 0.5 loss)",
        "    Test net output #2: b = 2 (* 0.5 = 1 loss)",
    ]


def test_the_log_ends_with_its_context(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    handlers = list(LOGGER.handlers)
    with log_to_stderr():
        LOGGER.info("within")
    LOGGER.info("outside")
    assert stream.getvalue().count("\n") == 1
    assert LOGGER.handlers == handlers


KEPT = (
    "Finetuning", "Ignoring", "Starting", "Solving", "Learning", "Iteration", "    T", "Test",
    "Snapshotting", "Optimization", "MultiStep", "Gradient", "Resuming", "SGDSolver",
)  # fmt: skip


def run_verb(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(arguments) == 0
    return capsys.readouterr().err.splitlines()


def events_of(lines: list[str]) -> list[str]:
    events = [PREFIX.sub("", line, count=1) for line in lines if PREFIX.match(line)]
    return [event for event in events if event.startswith(KEPT)]


@pytest.mark.parametrize("name", ["train_step", "train_clip", "train_multistep_adam"])
def test_training_in_caffes_words(
    name: str,
    enter: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    enter(COPIES / "cli")
    run = json.loads(Path("events.json").read_text())[name]
    lines = run_verb(run["arguments"], capsys)
    assert_same_events(events_of(lines), run["events"])


def recorded_trainings(folder: Path) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads((folder / "runs.json").read_text())["runs"]
    return [
        run
        for run in runs
        if run["program"] == "caffe"
        and run["rc"] == 0
        and run["args"][:1] == ["train"]
        and len(run["args"]) > 2
    ]


def test_every_recorded_training(
    golden: Path, enter: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = enter(golden / "cli")
    tally = Tally()
    for run in recorded_trainings(folder):
        random = run["name"] in ("train_step_random_init", "train_signals", "train_nodisplay")
        resumed = run["name"] == "train_resume"  # Caffe starts its data anew there
        for start in folder.glob("snap_*_iter_*"):
            # Runs go on from Caffe's files, not from those that an earlier run here has left.
            start.write_bytes((golden / "cli" / start.name).read_bytes())
        with tally.case(run["name"]):
            lines = run_verb(run["args"], capsys)
            events = [e for e in run["events"] if e.startswith(KEPT)]
            if not random and not resumed:
                found = [e for e in events_of(lines) if not e.startswith("    [")]
                assert_same_events(found, events)
            missing = [made for made in run["new_files"] if not Path(made).is_file()]
            assert not missing
        for made in run["new_files"]:
            if not (golden / "cli" / made).is_file():
                Path(made).unlink(missing_ok=True)
    tally.close(least=8)


def test_a_log_parser_understands(
    enter: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    enter(COPIES / "cli")
    lines = run_verb(["train", "-solver", "step.solver.prototxt"], capsys)
    start = next(i for i, line in enumerate(lines) if "Solving" in line)
    rows = parse(lines[start:])
    assert [row.iteration for row in rows["Train"]] == list(range(0, 20, 2))
    assert [row.iteration for row in rows["Test"]] == [0, 5, 10, 15, 20]
    assert [row.rate for row in rows["Test"]] == [None, 0.1, 0.05, 0.05, 0.025]
    assert {name for row in rows["Test"] for name in row.outputs} == {"accuracy", "loss"}


def test_the_recorded_log_is_read_the_same_way(golden: Path) -> None:
    """Our reading of logs is the one that Caffe's parser has of Caffe's own log."""
    rows = parse((golden / "cli" / "logs" / "train_step.log").read_text().splitlines())
    table = (golden / "cli" / "parsed" / "train_step.log.train").read_text().splitlines()[1:]
    expected = [[float(cell) for cell in line.split(",")] for line in table]
    assert [(row.iteration, row.outputs["loss"]) for row in rows["Train"]] == [
        (cells[0], cells[3]) for cells in expected
    ]


def test_a_bar_takes_the_place_of_repeated_lines(
    enter: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("tqdm")
    enter(COPIES / "cli")
    monkeypatch.setattr("caffecompat.solver.reporters.progress_bar.bar_is_possible", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["train", "-solver", "step.solver.prototxt"]) == 0
    text = capsys.readouterr().err
    assert "20/20" in text
    assert re.search(r"loss [\d.e+-]+, [\d.e+]+ img/s, lr [\d.]+, data wait \d+%", text)
    assert "Test net output" in text
    assert "Train net output" not in text
    assert "lr = " not in text


def debug_events(lines: list[str]) -> list[str]:
    """From the start of the training on, with the letter of each line."""
    start = next(i for i, line in enumerate(lines) if "Solving" in line)
    return [line[0] + PREFIX.sub("", line, count=1) for line in lines[start:]]


def test_debug_info_in_caffes_words(
    enter: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    enter(COPIES / "cli")
    command = "train -solver debug.solver.prototxt -weights init.caffemodel"
    lines = run_verb(command.split(), capsys)
    expected = debug_events(Path("debug_info.log").read_text().splitlines())
    found = debug_events(lines)
    assert sum("[Backward]" in event for event in expected) == 16
    speed = re.compile(r"\(\S+ iter/s, \S+/2 iters\)")
    assert_same_events(
        [speed.sub("", event) for event in found], [speed.sub("", event) for event in expected]
    )


def test_debug_info_follows_splits_sharing_and_test_nets(tmp_path: Path, lines: Lines) -> None:
    """What it runs layer by layer are the same updates as without it."""
    plain = Solver(write_training(tmp_path / "plain"))
    plain.step(5)
    lines.text.clear()
    path = write_training(tmp_path / "run", "random_seed: 7 debug_info: true")
    solver = Solver(path)
    solver.step(5)
    for ours, theirs in zip(solver.net.learnable, plain.net.learnable, strict=True):
        np.testing.assert_allclose(ours.tensor.detach(), theirs.tensor.detach(), rtol=1e-6)
    assert lines.containing("    [Forward] Layer accuracy, top blob accuracy data: ")
    assert lines.containing(
        "    [Forward] Layer label_tested_1_split, top blob label_tested_1_split_0"
    )
    assert lines.containing("    [Backward] Layer relu, bottom blob norm diff: ")
    assert not lines.containing("[Backward] Layer conv, bottom blob data")
    # Caffe counts statistics without lr_mult as parameters here.
    assert lines.containing("    [Backward] Layer norm, param blob 2 diff: 0")
    last = lines.containing("[Backward] All net params (data, diff): L1 norm = (")
    assert len(last) == 10
    assert next(line for line in lines.text if "All net params" in line).startswith("E")


def test_clipping_stands_before_the_debug_lines_and_steps_of_the_next_iteration(
    tmp_path: Path, lines: Lines
) -> None:
    more = "random_seed: 7 debug_info: true clip_gradients: 0.001"
    Solver(write_training(tmp_path / "run", more)).step(4)
    starts = ("Gradient", "Iteration 3", "MultiStep", "    [Backward] All")
    found = [event.split()[0] for event in lines.events if event.startswith(starts)]
    passes = ["[Backward]", "[Backward]"]
    assert found == [
        *(3 * [*passes, "Gradient"]),
        *(*passes, "Iteration", "MultiStep", "Iteration", "Gradient"),
    ]


def test_debug_info_has_the_inputs_of_a_net_with_force_backward(
    tmp_path: Path, lines: Lines
) -> None:
    """As Caffe does, with zeros for a layer without tops."""
    path = write_training(tmp_path / "run", "random_seed: 7 debug_info: true")
    net = tmp_path / "run" / "net.prototxt"
    silence = 'layer { name: "quiet" type: "Silence" bottom: "label" }'
    text = net.read_text().replace('name: "small"', 'name: "small" force_backward: true')
    net.write_text(text + silence)
    lines.text.clear()
    Solver(path).step(1)
    assert lines.containing("    [Backward] Layer conv, bottom blob data diff: 0.")
    assert lines.containing("    [Backward] Layer norm, param blob 2 diff: 0")
    assert lines.containing("    [Backward] Layer quiet, bottom blob label_data_1_split_1 diff: 0")


def test_debug_info_of_a_net_whose_only_loss_has_no_weight(tmp_path: Path, lines: Lines) -> None:
    """Caffe's lines, seen in its log: with force_backward layers run backward, over zeros."""
    path = write_training(tmp_path / "run", "random_seed: 7 debug_info: true")
    (tmp_path / "run" / "net.prototxt").write_text("""force_backward: true
layer { name: "d" type: "DummyData" top: "data" top: "t" dummy_data_param {
  shape { dim: 2 dim: 3 } shape { dim: 2 dim: 4 } data_filler { type: "constant" value: 0.5 } } }
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" inner_product_param {
  num_output: 3 weight_filler { type: "constant" value: 0.3 } } }
layer { name: "r" type: "ReLU" bottom: "a" top: "a" }
layer { name: "c" type: "InnerProduct" bottom: "a" top: "c" param { lr_mult: 0 }
  inner_product_param { num_output: 4 weight_filler { type: "constant" value: 0.1 } } }
layer { name: "l" type: "EuclideanLoss" bottom: "c" bottom: "t" top: "l" loss_weight: 0 }
""")
    path.write_text(
        f'net: "{path.parent}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 display: 1 '
        "debug_info: true"
    )
    lines.text.clear()
    Solver(path).step(1)
    found = [event for event in lines.events if "[Backward] Layer" in event]
    assert [event.strip() for event in found] == [
        f"[Backward] Layer {words} diff: 0"
        for words in (
            "l, bottom blob c",
            "l, bottom blob t",
            "c, bottom blob a",
            "c, param blob 0",
            "c, param blob 1",
            "r, bottom blob a",
            "a, bottom blob data",
            "a, param blob 0",
            "a, param blob 1",
        )
    ]


def test_debug_info_over_a_layer_that_learns_nothing(tmp_path: Path, lines: Lines) -> None:
    """Caffe logs the statistics of a BatchNorm there, but no gradient of its bottom."""
    path = write_training(tmp_path / "run", "random_seed: 7 debug_info: true")
    text = (tmp_path / "run" / "net.prototxt").read_text()
    changed = text.replace("lr_mult: 1 decay", "lr_mult: 0 decay").replace(
        "lr_mult: 2 decay", "lr_mult: 0 decay"
    )
    assert changed != text
    (tmp_path / "run" / "net.prototxt").write_text(changed)
    lines.text.clear()
    Solver(path).step(1)
    assert lines.containing("    [Backward] Layer norm, param blob 2 diff: 0")
    assert not lines.containing("    [Backward] Layer norm, bottom blob")
    assert not lines.containing("    [Backward] Layer conv")
