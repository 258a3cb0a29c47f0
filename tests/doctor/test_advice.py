"""What the doctor advises, followed to the letter."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.doctor.examination import examine
from tests.places import REPOSITORY
from tests.solver.small import write_training

DEPLOY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "%s" type: "InnerProduct" bottom: "data" top: "score"
  inner_product_param { num_output: 2 } }
"""
OWN = """layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 } } }
layer { name: "own" type: "Python" bottom: "data" top: "out"
  python_param { module: "examined_layers" layer: "Own" } }
"""
OWN_LAYER = """import caffe


class Own(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(2)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data + 1
"""


def notes(path: Path) -> list[str]:
    return [one.sentence for file in examine(path).files for one in file.findings]


def command_words(shown: str, verb: str) -> list[str]:
    """The words of the command with this verb that the doctor shows."""
    line = next(line for line in shown.splitlines() if f"caffecompat {verb} " in line)
    return shlex.split(line[line.index(verb) :])


def test_weights_of_another_net(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("project").mkdir()
    Path("project/net.prototxt").write_text(DEPLOY % "another")
    Path("fitting.prototxt").write_text(DEPLOY % "score")
    Net("fitting.prototxt").save("project/net.caffemodel")
    main(["doctor", "project"])
    shown = capsys.readouterr().out
    assert "no net of this project has these layers; give its prototxt with --model" in shown
    words = command_words(shown, "inspect")
    assert main([*words, "--model", "fitting.prototxt"]) == 0
    assert "1x3" in capsys.readouterr().out


def test_the_module_of_a_python_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(OWN)
    assert main(["doctor", "."]) == 1
    assert "is not in this project; get its file, or write the layer" in capsys.readouterr().out
    Path("examined_layers.py").write_text(OWN_LAYER)
    assert main(["doctor", "."]) == 0
    shown = capsys.readouterr().out
    assert "examined_layers.py; allow it with --allow-python" in shown
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["time", "--model", "net.prototxt", "--iterations", "1"]) == 1
    command = ["time", "--model", "net.prototxt", "--iterations", "1", "--allow-python"]
    assert main(command) == 0


# A line of a script, and how the doctor's note about it goes on.
CALLS = [
    (
        "caffe train --solver=small.solver.prototxt",
        "caffe, or after 'caffecompat install-caffe-command'",
    ),
    (
        "./build/tools/caffe device_query",
        "./build/tools/caffe, or after 'caffecompat install-caffe-command --dir ./build/tools/'",
    ),
    (
        "time $ROOT/tools/caffe.bin device_query",
        "$ROOT/tools/caffe.bin, or after 'caffecompat install-caffe-command --dir $ROOT/tools/ "
        "--tools'",
    ),
    ("$caffe device_query", "$caffe"),
    ("./caffe.exe device_query", "./caffe.exe"),
]


@pytest.mark.parametrize(("call", "note"), CALLS)
def test_scripts_that_call_caffe(call: str, note: str, tmp_path: Path) -> None:
    """As they are they fail; changed as each half of the note says they run."""
    write_training(tmp_path)
    script = tmp_path / "train.sh"
    script.write_text(f"{call}\n")
    said = notes(script)
    assert said == [f"runs with caffecompat in place of {note}"]
    commands, scripts = tmp_path / "commands", tmp_path / "scripts"
    for folder in (commands, scripts):
        folder.mkdir()
    own = commands / "caffecompat"
    own.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m caffecompat "$@"\n')
    own.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{commands}:{scripts}:/usr/bin:/bin",
        "PYTHONPATH": str(REPOSITORY),
        "ROOT": str(tmp_path / "root"),
    }

    def runs(text: str) -> bool:
        done = subprocess.run(
            ["bash", "-c", text], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        return done.returncode == 0

    text = script.read_text()
    assert not runs(text)
    program = note.partition(",")[0]
    assert runs(text.replace(program, "caffecompat"))
    found = re.search(r"or after '(.*)'", note)
    if found is None:
        return
    command = found[1]
    # By default the folder of Python's scripts, which here must not be changed.
    command += "" if "--dir" in command else f" --dir {shlex.quote(str(scripts))}"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, check=True)
    assert runs(text)
