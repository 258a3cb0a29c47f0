"""``install_as_caffe`` and ``python -m caffecompat.run``, in processes of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caffecompat.pycaffe.running.python2 import hint_about, syntax_hint
from tests.places import REPOSITORY
from tests.programs import run_program
from tests.pycaffe.definitions import DEPLOY


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_program(["-m", "caffecompat.run", *arguments], folder)


SCRIPT = """
import sys, os
import numpy as np
import neighbour
import caffe
from caffe import coord_map
import caffe.classifier as classifier_module
assert caffe is sys.modules["caffe"] and classifier_module.Classifier is caffe.Classifier
assert __name__ == "__main__" and os.path.basename(__file__) == "script.py"
caffe.set_mode_gpu()
net = caffe.Net("net.prototxt", caffe.TEST)
print(sys.argv[1:], sorted(net.forward()), neighbour.VALUE)
sys.exit(3)
"""


def test_a_script_runs_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "neighbour.py").write_text("VALUE = 17\n")
    (folder / "script.py").write_text(SCRIPT)
    (tmp_path / "net.prototxt").write_text(DEPLOY)
    result = run(tmp_path, "--cpu", "scripts/script.py", "--gpu", "x")
    assert result.stdout == "['--gpu', 'x'] ['prob'] 17\n", result.stderr
    assert result.returncode == 3


SPAWNING = """
import multiprocessing
import sys
import caffe
from caffe.proto import caffe_pb2


def shape(path):
    return tuple(caffe.Net(path, caffe.TEST).blobs["prob"].shape), caffe_pb2.Datum().label


if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        print(pool.map(shape, ["net.prototxt"]))
"""


@pytest.mark.parametrize("way", ["spawn", "forkserver"])
def test_processes_that_a_script_spawns(tmp_path: Path, way: str) -> None:
    """They import the script, and caffe with it; Windows and macOS begin all processes so."""
    (tmp_path / "script.py").write_text(SPAWNING)
    (tmp_path / "net.prototxt").write_text(DEPLOY)
    # A fork of the tests' own forkserver cannot begin another.
    result = subprocess.run(
        [sys.executable, "-m", "caffecompat.run", "--quiet", "script.py", way],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert re.fullmatch(r"\[\(\((\d+, )*\d+,?\), 0\)\]\n", result.stdout), result.stderr


def test_installing_is_done_once_and_gives_one_package(tmp_path: Path) -> None:
    code = """
import caffecompat
caffecompat.install_as_caffe()
caffecompat.install_as_caffe()
import caffe, caffecompat.pycaffe, sys
from caffe.errors import CallError
assert caffe is caffecompat.pycaffe
assert CallError is caffecompat.pycaffe.errors.CallError
assert caffe.errors.__spec__.name == "caffecompat.pycaffe.errors"
assert sum(type(f).__name__ == "_Finder" for f in sys.meta_path) == 1
try:
    import caffe.nothing
except ModuleNotFoundError as error:
    print(error)
"""
    result = run_program(["-c", code], tmp_path)
    assert result.stdout == "No module named 'caffe.nothing'\n", result.stderr


@pytest.mark.parametrize("force", [False, True])
def test_another_caffe_is_hidden_only_when_asked(tmp_path: Path, force: bool) -> None:
    (tmp_path / "caffe").mkdir()
    (tmp_path / "caffe" / "__init__.py").write_text("other = True\n")
    (tmp_path / "script.py").write_text("import caffe; print(hasattr(caffe, 'other'))")
    result = run(tmp_path, *(["--force"] if force else []), "script.py")
    if force:
        assert (result.returncode, result.stdout) == (0, "False\n")
    else:
        assert result.returncode == 1
        assert f"a caffe is installed at {tmp_path}" in result.stderr
        assert "add --force" in result.stderr


def test_modules_of_a_fork(tmp_path: Path) -> None:
    """They are found in its folder; the modules that this package has are its own."""
    fork = tmp_path / "fork" / "python" / "caffe"
    (fork / "parts").mkdir(parents=True)
    (fork / "__init__.py").write_text("raise RuntimeError('the compiled module is missing')\n")
    (fork / "io.py").write_text("raise RuntimeError('of the fork')\n")
    (fork / "model_libs.py").write_text(
        "import caffe\nfrom caffe import layers as L\n\n"
        "def body(net):\n    net.fc = L.InnerProduct(net[net.keys()[-1]], num_output=2)\n"
    )
    (fork / "parts" / "__init__.py").write_text("")
    (fork / "parts" / "wheel.py").write_text("SPOKES = 8\n")
    (tmp_path / "script.py").write_text(
        "import sys\nsys.path.insert(0, 'fork/python')\nimport caffe, caffe.io\n"
        "from caffe.model_libs import *\nfrom caffe.parts.wheel import SPOKES\n"
        "n = caffe.NetSpec()\nn.data = L.Input()\nbody(n)\n"
        "print(SPOKES, [layer.name for layer in n.to_proto().layer])\n"
    )
    result = run(tmp_path, "script.py")
    assert result.stdout == "8 ['data', 'fc']\n", result.stderr
    (tmp_path / "script.py").write_text("import caffe\nimport caffe.model_libs\n")
    result = run(tmp_path, "script.py")
    assert result.returncode == 1
    assert "script.py:2: caffe.model_libs is no module of BVLC's pycaffe; " in result.stderr
    (fork / "__init__.py").write_text("from .pycaffe import Net\n")
    (fork / "pycaffe.py").write_text("from ._caffe import Net\n")
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{fork.parent}"}
    command = [sys.executable, "-m", "caffecompat.run", "script.py"]
    advised = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (advised.returncode, advised.stderr) == (0, "")
    (fork / "_caffe.so").write_bytes(b"built")
    built = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert built.returncode == 1
    assert f"a caffe is installed at {fork}" in built.stderr
    command.insert(3, "--force")
    forced = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (forced.returncode, forced.stderr) == (0, "")


def test_a_folder_called_caffe_is_no_caffe(tmp_path: Path) -> None:
    (tmp_path / "caffe").mkdir()
    (tmp_path / "script.py").write_text("import caffe; print(caffe.__version__)")
    assert run(tmp_path, "script.py").stdout == "1.0.0\n"


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("x = 1\nprint 'loss', x", 2, "print is a function"),
        ("import caffe\nfor i in xrange(3):\n    pass", 2, "Python 3 has no xrange: write range"),
        ("if len > 0:\n    pass", 1, "Python 3 compares no values of different types"),
        ("d = {}\n\nd.has_key('a')", 3, "write 'key in dictionary'"),
        ("import cPickle", 1, "Python 3 has no module cPickle: import pickle"),
    ],
)
def test_hints(tmp_path: Path, text: str, line: int, hint: str) -> None:
    (tmp_path / "old.py").write_text(text + "\n")
    result = run(tmp_path, "--quiet", "old.py")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"old.py:{line}: ")
    assert hint in last
    assert "caffecompat/run.py" not in result.stderr


def test_a_hint_for_an_imported_module(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("def f():\n    print 'x'\n")
    (tmp_path / "script.py").write_text("import old\n")
    result = run(tmp_path, "--quiet", "script.py")
    last = result.stderr.splitlines()[-1]
    assert last == f"{tmp_path / 'old.py'}:2: print is a function: print(...) (print 'x')"


def test_wrong_usage(tmp_path: Path) -> None:
    result = run(tmp_path, "missing.py")
    assert (result.returncode, result.stderr) == (2, "missing.py: No such file or directory\n")


GENERATED = """
from google.protobuf import descriptor
PHASE = descriptor.EnumDescriptor(
    name="Phase", full_name="caffe.Phase", filename=None, file=None, values=[
        descriptor.EnumValueDescriptor(name="TRAIN", index=0, number=0, options=None, type=None)
    ], containing_type=None, options=None)
"""


def test_a_caffe_pb2_that_an_old_protoc_generated(tmp_path: Path) -> None:
    """Many projects bring one of their own."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "__init__.py").touch()
    generated = tmp_path / "lib" / "caffe_pb2.py"
    generated.write_text(GENERATED)
    (tmp_path / "script.py").write_text(
        "from lib import caffe_pb2 as pb\n"
        "layer = pb.LayerParameter(name='a', phase=pb.TEST)\n"
        "layer.blobs.add().shape.dim.append(3)\n"
        "print(pb.LayerParameter.FromString(layer.SerializeToString()) == layer)\n"
    )
    last = run(tmp_path, "script.py").stderr.splitlines()[-1]
    found = re.search(r"caffe_pb2.py:5: .*replace the file's text by: (.*\*)", last)
    assert found is not None, last
    generated.write_text(found[1])
    result = run(tmp_path, "script.py")
    assert result.stdout == "True\n", result.stderr


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("print x", "print(...)"),
        ("print 'a', # b", "print(...)"),
        ("except IOError, e:", "write 'except IOError as e:'"),
        ("except (IOError, OSError), e:", "write 'except (IOError, OSError) as e:'"),
        ("raise ValueError, 'no'", "write 'raise Kind(message)'"),
        ("if a <> b:", "!="),
        ("x = `y`", "repr(...)"),
        ("n = 10L", "without L"),
        ("os.mkdir(p, 0755)", "0o"),
        ("exec code", "exec(...)"),
        ("f = lambda (a, b): a", "unpack"),
    ],
)
def test_hints_for_syntax(line: str, hint: str) -> None:
    body = f"try:\n    pass\n{line}\n    pass" if line.startswith("except") else line
    body += "\n    pass" if line.startswith("if") else ""
    with pytest.raises(SyntaxError) as caught:
        compile(body, "old.py", "exec")
    found = syntax_hint(caught.value, body.splitlines())
    assert found is not None
    assert hint in found


def test_no_hint_for_mistakes_of_python_3() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("x = (1 +", "new.py", "exec")
    assert syntax_hint(caught.value, ["x = (1 +"]) is None
    assert syntax_hint(caught.value, ['x = "print this <> `that`" (']) is None


def test_hints_at_run_time() -> None:
    def hint_of(code: str) -> str | None:
        try:
            exec(code, {})
        except Exception as error:
            return hint_about(error)
        return None

    for code, words in {
        "raw_input()": "write input",
        "unicode('a')": "write str",
        "{}.iteritems()": "write items()",
        "iter([]).next()": "next(iterator)",
        "from itertools import izip": "write zip",
        "import sys; print >>sys.stderr, 3": "print(..., file=f)",
        "import urllib2": "urllib.request",
        "range(3 / 2)": "write // for whole",
        "{}.keys()[0]": "list(...)",
        "from collections import OrderedDict; OrderedDict().items()[0]": "list(...)",
        "[1, 2][: 3 / 2]": "write // for whole",
        "map(str, [1])[0]": "list(...)",
    }.items():
        assert words in (hint_of(code) or ""), code
    for code in ("undefined", "1 / 0", "import no_such_module", "[].nothing()", "len(3)"):
        assert hint_of(code) is None


def test_a_script_from_standard_input(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("NAME = 'mine'\n")
    code = "import sys, caffe, mine; print(caffe.__version__, mine.NAME, sys.argv)"
    done = run_program(["-m", "caffecompat.run", "-", "a"], tmp_path, text=code)
    assert (done.stdout, done.stderr) == ("1.0.0 mine ['-', 'a']\n", "")


def test_a_notebook(tmp_path: Path) -> None:
    """It is refused, and what the message says to put into its first cell works."""
    (tmp_path / "a book.ipynb").write_text('{"cells": [], "metadata": {"collapsed": false}}')
    refused = run(tmp_path, "a book.ipynb")
    assert refused.returncode == 2
    found = re.search(
        "this is a notebook; begin its first cell with '(.*)' and run it in Jupyter, or make a "
        "script of it: (jupyter nbconvert --to script 'a book.ipynb')\n",
        refused.stderr,
    )
    assert found is not None
    if shutil.which("jupyter"):
        subprocess.run(found[2], shell=True, cwd=tmp_path, check=True)
        assert run(tmp_path, "a book.py").returncode == 0
    code = f"{found[1]}\nimport caffe\nprint(caffe.__version__)"
    done = run_program(["-c", code], tmp_path)
    assert (done.stdout, done.stderr) == ("1.0.0\n", "")
