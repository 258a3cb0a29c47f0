"""Scripts for Python 2: what the hints say to write does what the old line did."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from caffecompat.pycaffe.running import python2
from tests.pycaffe.running.executed_code import ran

# A line that Python 3 cannot parse, what to write, the line so written, and `result` after it.
SYNTAX = [
    ("print 'a'; result = 1", "print(...)", "print('a'); result = 1", 1),
    (
        "try: int('a')\nexcept ValueError, e: result = 2",
        "write 'except ValueError as e:'",
        "try: int('a')\nexcept ValueError as e: result = 2",
        2,
    ),
    (
        "result = 3\nif result == 4:\n    raise ValueError, 'no'",
        "write 'raise Kind(message)'",
        "result = 3\nif result == 4:\n    raise ValueError('no')",
        3,
    ),
    ("exec 'result = 4'", "exec(...)", "exec('result = 4')", 4),
    ("result = 5 <> 6", "write != instead of <>", "result = 5 != 6", True),
    ("result = `6`", "write repr(...) instead of", "result = repr(6)", "6"),
    ("result = 7L", "write the number without L", "result = 7", 7),
    ("result = 0755", "write 0o755 instead of 0755", "result = 0o755", 493),
    ("result = ur'8'", "write r'...' instead of ur'...'", "result = r'8'", "8"),
    (
        "def f((a, b)): return a + b\nresult = f((4, 5))",
        "unpack them in the body",
        "def f(pair):\n    a, b = pair\n    return a + b\nresult = f((4, 5))",
        9,
    ),
    (
        "if 1:\n        a = 10\n\tresult = a",
        "indent with spaces (expand -t 8 script.py)",
        "if 1:\n        a = 10\n\tresult = a".expandtabs(8),
        10,
    ),
]
# The same for lines that fail when they run.
RUN_TIME = [
    ("result = list(xrange(2))", "write range", "result = list(range(2))", [0, 1]),
    ("result = unicode(3)", "write str", "result = str(3)", "3"),
    ("result = isinstance('', basestring)", "write str", "result = isinstance('', str)", True),
    ("result = unichr(97)", "write chr", "result = chr(97)", "a"),
    ("result = long('3')", "write int", "result = int('3')", 3),
    (
        "result = reduce(max, [1, 3, 2])",
        "write functools.reduce, after 'import functools'",
        "import functools\nresult = functools.reduce(max, [1, 3, 2])",
        3,
    ),
    (
        "import json\nresult = reload(json) is json",
        "write importlib.reload, after 'import importlib'",
        "import importlib\nimport json\nresult = importlib.reload(json) is json",
        True,
    ),
    (
        "path = 'other.py'\nexecfile(path)",
        "write exec(open(path).read())",
        "path = 'other.py'\nexec(open(path).read())",
        17,
    ),
    ("result = file('other.py').read()", "write open", "result = open('other.py').read()", None),
    ("a, b = 2, 1\nresult = cmp(a, b)", "(a > b) -", "a, b = 2, 1\nresult = (a > b) - (a < b)", 1),
    ("result = {'a': 1}.has_key('a')", "'key in diction", "result = 'a' in {'a': 1}", True),
    ("result = list({1: 2}.iteritems())", "items()", "result = list({1: 2}.items())", [(1, 2)]),
    ("result = list({1: 2}.itervalues())", "values()", "result = list({1: 2}.values())", [2]),
    ("result = list({1: 2}.iterkeys())", "write keys()", "result = list({1: 2}.keys())", [1]),
    (
        "iterator = iter([5])\nresult = iterator.next()",
        "write next(iterator)",
        "iterator = iter([5])\nresult = next(iterator)",
        5,
    ),
    (
        "from itertools import izip\nresult = list(izip([1], [2]))",
        "itertools has no izip any more: write zip",
        "result = list(zip([1], [2]))",
        [(1, 2)],
    ),
    (
        "from itertools import imap\nresult = list(imap(str, [1]))",
        "itertools has no imap any more: write map",
        "result = list(map(str, [1]))",
        ["1"],
    ),
    (
        "from string import maketrans\nresult = 'a'.translate(maketrans('a', 'b'))",
        "write str.maketrans",
        "result = 'a'.translate(str.maketrans('a', 'b'))",
        "b",
    ),
    (
        "import sys\nprint >>sys.stderr, 3",
        "write print(..., file=f)",
        "import sys\nprint(3, file=sys.stderr)\nresult = 3",
        3,
    ),
    (
        "result = {1: 2}.keys()[0]",
        "write list(...) around it",
        "result = list({1: 2}.keys())[0]",
        1,
    ),
    ("result = map(str, [1])[0]", "list(...) around", "result = list(map(str, [1]))[0]", "1"),
    ("result = range(5 / 2)[-1]", "write // for whole numbers", "result = range(5 // 2)[-1]", 1),
    ("result = [1, 2, 3][5 / 2:]", "write // for whole", "result = [1, 2, 3][5 // 2:]", [3]),
    ("result = '10' > 9", "types: convert one of them", "result = int('10') > 9", True),
    (
        "text = 'a'\nwith open('f', 'wb') as f: f.write(text)",
        "or write text.encode()",
        "text = 'a'\nwith open('f', 'wb') as f: result = f.write(text.encode())",
        1,
    ),
    (
        "import tempfile\nwith tempfile.NamedTemporaryFile() as f: result = f.write('a')",
        "in text mode, open(path, 'w') or NamedTemporaryFile('w')",
        "import tempfile\nwith tempfile.NamedTemporaryFile('w') as f: result = f.write('a')",
        1,
    ),
    (
        "import pickle\nopen('p', 'wb').write(pickle.dumps(5))\nresult = pickle.load(open('p'))",
        "in binary mode, open(path, 'rb')",
        "import pickle\nopen('p', 'wb').write(pickle.dumps(5))\n"
        "result = pickle.load(open('p', 'rb'))",
        5,
    ),
    (
        "import numpy\nopen('f', 'w').write('a b\\nc')\n"
        "result = list(numpy.loadtxt('f', str, delimiter='\\n'))",
        "write open(path).read().splitlines()",
        "open('f', 'w').write('a b\\nc')\nresult = open('f').read().splitlines()",
        ["a b", "c"],
    ),
    (
        "result = 'SIX' in open('other.py', 'rb').read()",
        "or write text.encode()",
        "result = 'SIX'.encode() in open('other.py', 'rb').read()",
        False,
    ),
]


@pytest.mark.parametrize(("old", "words", "new", "result"), SYNTAX)
def test_syntax(old: str, words: str, new: str, result: object) -> None:
    with pytest.raises(SyntaxError) as caught:
        compile(old, "old.py", "exec")
    assert words in (python2.syntax_hint(caught.value, old.splitlines()) or "")
    assert ran(new) == result


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # old scripts close no files
@pytest.mark.parametrize(("old", "words", "new", "result"), RUN_TIME)
def test_run_time(
    old: str,
    words: str,
    new: str,
    result: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.py").write_text("result = 17\n")
    with pytest.raises(Exception) as caught:  # noqa: PT011
        ran(old)
    assert words in (python2.hint_about(caught.value) or "")
    assert ran(new) == ("result = 17\n" if result is None else result)


def test_every_name_and_method_is_in_these_lists() -> None:
    said = [words for _, words, _, _ in (*SYNTAX, *RUN_TIME)]
    for name in {*python2._NAMES, *python2._METHODS} - {"raw_input"}:
        assert any(name in old for old, _, _, _ in RUN_TIME), name
    assert len(said) >= len(python2._SYNTAX) + len(python2._NAMES) + len(python2._METHODS)


@pytest.mark.parametrize("name", python2._IMPORTS)
def test_modules(name: str) -> None:
    """Before the run and when the import fails; what is named first can be imported."""
    expected = f"Python 3 has no module {name}: import "
    for old in (f"import {name}", f"from {name} import something"):
        ((line, before),) = python2.uses(ast.parse(old))
        with pytest.raises(ImportError) as caught:
            exec(old, {})
        assert python2.hint_about(caught.value) == before
        assert (line, before.startswith(expected)) == (1, True)
    remedy = before.removeprefix(expected)
    module = remedy.split(",")[0].split(" ")[0]
    if module == "tkinter":
        pytest.importorskip(module)
    importlib.import_module(module)


def test_names_and_methods_before_the_run() -> None:
    for name, remedy in python2._NAMES.items():
        said = f"Python 3 has no {name}: write {remedy}"
        assert python2.uses(ast.parse(f"x = {name}(1)")) == [(1, said)]
    new = "x = range(1)\ny = 'key' in {}\nz = {}.items(), {}.values(), {}.keys()"
    assert python2.uses(ast.parse(new)) == []
    for name in python2._METHODS_OF_DICT:
        said = f"Python 3 has no {name}(): write {python2._METHODS[name]}"
        assert python2.uses(ast.parse(f"x = {{}}.{name}(1)")) == [(1, said)]
