"""Names that left Python's library, numpy and scipy: what the hints say to write works."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from caffecompat.pycaffe.running import moved_names, python2
from tests.places import REPOSITORY
from tests.pycaffe.running.executed_code import ran

# What the words of a remedy mean where they are no name.
IN_WORDS = {
    "string.join": "separator, words = '-', ['a', 'b']\nresult = separator.join(words)",
    "string.replace": "text, old, new = 'ab', 'a', 'c'\nresult = text.replace(old, new)",
    "string.split": "text = 'a b'\nresult = text.split()",
    "sys.setdefaultencoding": "result = 'text is Unicode'",
    "numpy.asscalar": "import numpy\narray = numpy.ones(1)\nresult = array.item()",
    "scipy.misc.imread": "import cv2\npath = 'a.png'\nresult = cv2.imread(path)[:, :, ::-1]",
    "scipy.misc.imresize": (
        "import cv2, numpy\nimage, width, height = numpy.ones((2, 3, 3)), 5, 4\n"
        "result = cv2.resize(image, (width, height))"
    ),
    "scipy.misc.imsave": (
        "import cv2, numpy\npath, image = 'b.png', numpy.ones((2, 3, 3))\n"
        "result = cv2.imwrite(path, image[:, :, ::-1])"
    ),
}
LINES = [
    ("x = [1, 2]\nresult = x[2 / 2]", "write // for", "x = [1, 2]\nresult = x[2 // 2]", 2),
    (
        "import numpy\nresult = numpy.zeros(4 / 2).size",
        "write // for whole numbers",
        "import numpy\nresult = numpy.zeros(4 // 2).size",
        2,
    ),
    (
        "import io\nfile = io.StringIO()\nfile.write(b'a')\nresult = file.getvalue()",
        "io.StringIO is for text: write io.BytesIO",
        "import io\nfile = io.BytesIO()\nfile.write(b'a')\nresult = file.getvalue()",
        b"a",
    ),
    (
        "result = 'a'.encode('base64')",
        "write codecs.encode(data, 'base64') for bytes, after 'import codecs'",
        "import codecs\ndata = b'a'\nresult = codecs.encode(data, 'base64')",
        b"YQ==\n",
    ),
    ("result = range(2) + [5]", "list(...) around it", "result = list(range(2)) + [5]", [0, 1, 5]),
    ("result = [5] + range(2)", "list(...) around it", "result = [5] + list(range(2))", [5, 0, 1]),
    ("result = len(map(str, [1]))", "list(...) around", "result = len(list(map(str, [1])))", 1),
    ("result = 'a'.decode('utf8')", "already: leave out .decode(...)", "result = 'a'", "a"),
    (
        "result = sorted([1, 3, 2], cmp=lambda a, b: b - a)",
        "write key=functools.cmp_to_key(function), after 'import functools'",
        "import functools\ndef function(a, b): return b - a\n"
        "result = sorted([1, 3, 2], key=functools.cmp_to_key(function))",
        [3, 2, 1],
    ),
    (
        "result = [1, 3, 2]\nresult.sort(lambda a, b: b - a)",
        "write key=functools.cmp_to_key(function), after 'import functools'",
        "import functools\ndef function(a, b): return b - a\n"
        "result = [1, 3, 2]\nresult.sort(key=functools.cmp_to_key(function))",
        [3, 2, 1],
    ),
    (
        "result = sorted([1, 3, 2], lambda a, b: b - a)",
        "write key=functools.cmp_to_key(function), after 'import functools'",
        "import functools\ndef function(a, b): return b - a\n"
        "result = sorted([1, 3, 2], key=functools.cmp_to_key(function))",
        [3, 2, 1],
    ),
    (
        "import cv2, numpy\nresult = cv2.resize(numpy.ones((4, 6)), (3.0, 2)).shape",
        "OpenCV takes whole numbers as coordinates: write int(...)",
        "import cv2, numpy\nresult = cv2.resize(numpy.ones((4, 6)), (int(3.0), 2)).shape",
        (2, 3),
    ),
    (
        "import h5py\nwith h5py.File('a.h5', 'r') as f: result = f['data'].value",
        "h5py's datasets have no value any more: write dataset[()]",
        "import h5py\nwith h5py.File('a.h5', 'r') as f: result = int(f['data'][()])",
        7,
    ),
    (
        "path = 'f'\nopen(path, 'w').write(b'a')",
        "open the file in binary mode, open(path, 'wb')",
        "path = 'f'\nresult = open(path, 'wb').write(b'a')",
        1,
    ),
    (
        "path = 'mean.binaryproto'\nresult = open(path).read()",
        "open the file in binary mode, open(path, 'rb')",
        "path = 'mean.binaryproto'\nresult = open(path, 'rb').read()",
        b"\xff\x00",
    ),
    (
        "import pickle\nresult = pickle.load(open('old.pkl', 'rb'))",
        "if Python 2 wrote the file, read it with pickle.load(file, encoding='latin1')",
        "import pickle\nfile = open('old.pkl', 'rb')\n"
        "result = pickle.load(file, encoding='latin1')",
        "\xe9",
    ),
]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2
    import h5py

    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w") as file:
        file["data"] = 7
    Path("mean.binaryproto").write_bytes(b"\xff\x00")
    Path("old.pkl").write_bytes(b"\x80\x02U\x01\xe9q\x00.")  # pickle.dumps('\xe9', 2) of Python 2
    assert cv2.imwrite("a.png", np.ones((2, 3, 3), np.uint8))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # old scripts close no files
@pytest.mark.parametrize(("old", "words", "new", "result"), LINES)
def test_lines(old: str, words: str, new: str, result: object) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        ran(old)
    assert words in (python2.hint_about(caught.value) or "")
    assert ran(new) == result


def test_a_number_of_an_array_with_one_element() -> None:
    """numpy 1 and its successors up to 2.3 take it, with a warning; its message of 2.4."""
    error = TypeError("only 0-dimensional arrays can be converted to Python scalars")
    words = "numpy makes no number of an array with axes any more: write array.item()"
    assert python2.hint_about(error) == words
    array = np.full((1,), 2.5, np.float32)
    assert array.item() == 2.5


def is_there(name: str) -> bool:
    """Whether this numpy has the name still."""
    module, _, last = name.rpartition(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if module == "numpy":
            return hasattr(np, last)
        return module == "inspect" and hasattr(inspect, last)  # Python 3.10 has it


@pytest.mark.filterwarnings("ignore::FutureWarning")  # numpy's, beside its error
@pytest.mark.parametrize("name", moved_names.MOVED)
def test_names(name: str) -> None:
    """Before the run, when it fails, and what the remedy says to write."""
    module, _, last = name.rpartition(".")
    remedy = moved_names.MOVED[name]
    said = None if is_there(name) else f"{module} has no {last} any more: write {remedy}"
    for old in (f"import {module} as m\nm.{last}", f"from {module} import {last}"):
        found = [hint for _, hint in python2.uses(ast.parse(old))]
        assert found == ([] if said is None else [said])
    if said is not None and module != "scipy.misc":  # scipy 2 has no such module
        for old in (f"import {module}\n{module}.{last}", f"from {module} import {last}"):
            with pytest.raises((AttributeError, ImportError)) as caught:
                exec(old, {})
            # numpy says itself what to write instead of some names.
            own = "`" in str(caught.value)
            assert (python2.hint_about(caught.value) or (own and said)) == said
    if module == "scipy.misc":
        pytest.importorskip("scipy")
    if module == "PIL.Image":
        pytest.importorskip("PIL")
    if said is not None:
        assert ran(IN_WORDS.get(name) or _written(remedy)) is not None


@pytest.mark.skipif(hasattr(np.ndarray, "tostring"), reason="numpy 2.2 and older have it")
def test_bytes_of_an_array() -> None:
    said = "arrays have no tostring() any more: write tobytes()"
    old = "import numpy\nresult = numpy.ones(2, numpy.uint8).tostring()"
    with pytest.raises(AttributeError) as caught:
        ran(old)
    assert python2.hint_about(caught.value) == said
    assert python2.uses(ast.parse(old)) == [(2, said)]
    assert ran(old.replace("tostring()", "tobytes()")) == b"\1\1"
    tree = "from xml.etree import ElementTree\nresult = ElementTree.tostring(root)"
    assert python2.uses(ast.parse(tree)) == []


def _written(remedy: str) -> str:
    """A program that uses the name of a remedy."""
    name = remedy.split(",")[0]
    named = re.search("after '(import .*)'", remedy)
    module = name.rpartition(".")[0]
    first = named[1] if named else f"import {module}" if module not in ("", "str") else ""
    return f"{first}\nresult = {name}"


def test_scipy_s_names_at_run_time() -> None:
    error = ImportError("cannot import name 'imread' from 'scipy.misc' (/x/__init__.py)")
    assert "scipy.misc has no imread any more: write cv2.imread(path)[:" in (
        python2.hint_about(error) or ""
    )
    assert python2.hint_about(ImportError("cannot import name 'x' from 'numpy' (/x)")) is None


def test_the_hint_names_the_line_of_the_script() -> None:
    Path("a.py").write_text(
        "import tempfile\n\nimport other\n\nother.write(tempfile.NamedTemporaryFile())\n"
    )
    Path("other.py").write_text("def write(file):\n    file.write('a')\n")
    done = subprocess.run(
        [sys.executable, "-m", "caffecompat.run", "a.py"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
    )
    last = done.stderr.splitlines()[-1]
    assert "other.py:2: text belongs into a file in text mode, open(path, 'w') or Named" in last
    assert last.endswith("(file.write('a'))")
