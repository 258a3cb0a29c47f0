"""Hints for scripts that were written for Python 2."""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Sequence
from typing import TypeGuard

from caffecompat.pycaffe.running import moved_names, removed_importers

# Regular expression of a line that Python 3 cannot parse -> what to write.
_SYNTAX = (
    (r"(^|[:;])\s*print\s+[^(\s=]", "print is a function: print(...)"),
    (r"^\s*except\s+[^:]+?,\s*\w+\s*:", "write 'except {kind} as {name}:'"),
    (r"^\s*raise\s+[\w.]+\s*,", "write 'raise Kind(message)'"),
    (r"^\s*exec\s+[^(\s=]", "exec is a function: exec(...)"),
    (r"<>", "write != instead of <>"),
    (r"`[^`]+`", "write repr(...) instead of backticks"),
    (r"\b\d+[lL]\b", "long integers have no suffix: write the number without L"),
    (r"(?<![\w.])0[0-7]+\b", "octal numbers start with 0o: write 0o755 instead of 0755"),
    (r"\bur['\"]", "write r'...' instead of ur'...'"),
    (r"\bdef\s+\w+\([^)]*\(|\blambda\s*\(", "parameters in parentheses: unpack them in the body"),
)
# Names of Python 2 -> what to write.
_NAMES = {
    "xrange": "range",
    "raw_input": "input",
    "unicode": "str",
    "basestring": "str",
    "unichr": "chr",
    "long": "int",
    "reduce": "functools.reduce, after 'import functools'",
    "reload": "importlib.reload, after 'import importlib'",
    "execfile": "exec(open(path).read())",
    "file": "open",
    "cmp": "(a > b) - (a < b)",
}
_METHODS = {
    "has_key": "'key in dictionary'",
    "iteritems": "items()",
    "itervalues": "values()",
    "iterkeys": "keys()",
    "next": "next(iterator)",
}
_METHODS_OF_DICT = {"has_key", "iteritems", "itervalues", "iterkeys"}
_IMPORTS = {
    "cPickle": "pickle",
    "StringIO": "io (io.StringIO or io.BytesIO)",
    "cStringIO": "io (io.StringIO or io.BytesIO)",
    "ConfigParser": "configparser",
    "Queue": "queue",
    "Tkinter": "tkinter",
    "urllib2": "urllib.request",
    "urlparse": "urllib.parse",
    "httplib": "http.client",
    "commands": "subprocess",
    "exceptions": "builtins, or leave the import out",
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "thread": "_thread, or threading",
}
_OF_DIVISIONS = re.compile(
    r"'float' object cannot be interpreted|slice indices must be integers"
    r"|indices must be integers or slices, not float|or a single integer, got '[\d.]+'"
)
_DEFINITIONS = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)


def syntax_hint(error: SyntaxError, lines: Sequence[str]) -> str | None:
    """What to change in the line that does not parse; None if it is not Python 2's syntax.

    Args:
        lines: those of the script.
    """
    if isinstance(error, TabError):
        return "tabs and spaces are mixed: indent with spaces (expand -t 8 script.py)"
    number = error.lineno or 0
    line = lines[number - 1] if 0 < number <= len(lines) else error.text or ""
    code = _without_strings(line)
    for pattern, remedy in _SYNTAX:
        if re.search(pattern, code):
            found = re.search(r"except\s+(.+?),\s*(\w+)\s*:", line)
            kind, name = found.groups() if found else ("", "")
            return remedy.format(kind=kind, name=name) if found else remedy
    return None


def _without_strings(line: str) -> str:
    """The line with the content of its string literals and its comment replaced."""
    line = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", "''", line)
    return line.split("#", 1)[0]


def uses(tree: ast.AST) -> list[tuple[int, str]]:
    """The names, methods and modules of Python 2 that a script uses, with their lines."""
    defined = {node.id for node in ast.walk(tree) if _is_stored(node)}
    defined |= {node.name for node in ast.walk(tree) if isinstance(node, _DEFINITIONS)}
    defined |= {name for node in ast.walk(tree) for name in _imported(node)}
    found: dict[tuple[int, str], None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in _NAMES and node.id not in defined:
            found[node.lineno, f"Python 3 has no {node.id}: write {_NAMES[node.id]}"] = None
        elif isinstance(node, ast.Attribute) and node.attr in _METHODS_OF_DICT:
            remedy = _METHODS[node.attr]
            found[node.lineno, f"Python 3 has no {node.attr}(): write {remedy}"] = None
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in _IMPORTS:
                    remedy = _IMPORTS[alias.name]
                    said = f"Python 3 has no module {alias.name}: import {remedy}"
                    found[node.lineno, said] = None
        elif isinstance(node, ast.ImportFrom) and node.module in _IMPORTS:
            said = f"Python 3 has no module {node.module}: import {_IMPORTS[node.module]}"
            found[node.lineno, said] = None
    found |= dict.fromkeys(moved_names.moved_uses(tree))
    return sorted(found)


def _is_stored(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _imported(node: ast.AST) -> list[str]:
    """The names that an import statement binds."""
    if not isinstance(node, (ast.Import, ast.ImportFrom)):
        return []
    return [alias.asname or alias.name.split(".")[0] for alias in node.names]


def hint_about(error: BaseException) -> str | None:
    """What to change in code that raised an error, or that does not parse; None if unknown."""
    if isinstance(error, SyntaxError):
        return syntax_hint(error, linecache.getlines(error.filename) if error.filename else [])
    return _runtime_hint(error)


def _runtime_hint(error: BaseException) -> str | None:
    """What to write instead of a name, method or module of Python 2; None for other errors."""
    if isinstance(error, ImportError):
        return _import_hint(error)
    if isinstance(error, NameError):
        name = error.name if isinstance(error.name, str) else ""
        return f"Python 3 has no {name}: write {_NAMES[name]}" if name in _NAMES else None
    if isinstance(error, AttributeError):
        return _attribute_hint(error)
    if isinstance(error, UnicodeDecodeError):
        return _decoding_hint(error)
    if isinstance(error, TypeError):
        return _type_hint(str(error))
    if found := re.match("'(base64|hex)' is not a text encoding", str(error)):
        return f"write codecs.encode(data, '{found[1]}') for bytes, after 'import codecs'"
    if re.search(r"Can't parse '\w+'\. Sequence item with index \d has a wrong type", str(error)):
        return "OpenCV takes whole numbers as coordinates: write int(...)"
    if removed_importers.OPENCV_SAYS in str(error):
        return removed_importers.READ_NET
    return None


def _import_hint(error: ImportError) -> str | None:
    if moved := moved_names.import_hint(error):
        return moved
    name = error.name or ""
    if name.startswith("caffe."):
        return (
            f"{name} is no module of BVLC's pycaffe; if a fork of Caffe has it, put the fork's "
            "folder python on PYTHONPATH; if it is built, run the script with --force"
        )
    return f"Python 3 has no module {name}: import {_IMPORTS[name]}" if name in _IMPORTS else None


def _attribute_hint(error: AttributeError) -> str | None:
    if error.name in _METHODS:
        return f"Python 3 has no {error.name}(): write {_METHODS[error.name]}"
    if "'str' object has no attribute 'decode'" in str(error):
        return "a str of Python 3 is decoded already: leave out .decode(...)"
    return moved_names.attribute_hint(error)


def _decoding_hint(error: UnicodeDecodeError) -> str:
    if error.encoding == "ascii":
        return "if Python 2 wrote the file, read it with pickle.load(file, encoding='latin1')"
    return "open the file in binary mode, open(path, 'rb')"


def _type_hint(text: str) -> str | None:
    if ">>: 'builtin_function_or_method'" in text:
        return "print is a function: write print(..., file=f)"
    lists = r"(o?dict_keys|o?dict_values|o?dict_items|map|filter|zip|range)"
    if re.search(rf"['\"]{lists}['\"](\) to list| object| and 'list')|'{lists}' has no len", text):
        return "it is no list in Python 3: write list(...) around it"
    if _OF_DIVISIONS.search(text):
        return "/ gives a float in Python 3: write // for whole numbers"
    if re.search("^'[<>]=?' not supported between instances of ", text):
        return "Python 3 compares no values of different types: convert one of them"
    if "a bytes-like object is required, not 'str'" in text:
        return (
            "text belongs into a file in text mode, open(path, 'w') or NamedTemporaryFile('w'), "
            "or write text.encode(); pickle reads a file in binary mode, open(path, 'rb')"
        )
    if text == "string argument expected, got 'bytes'":
        return "io.StringIO is for text: write io.BytesIO"
    if "control character 'delimiter' cannot be a newline" in text:
        return "numpy reads no lines as values any more: write open(path).read().splitlines()"
    if "only 0-dimensional arrays can be converted to Python scalars" in text:
        return "numpy makes no number of an array with axes any more: write array.item()"
    if "write() argument must be str, not bytes" in text:
        return "open the file in binary mode, open(path, 'wb')"
    if text.startswith("Descriptors cannot be created directly"):
        return (
            "protobuf refuses code that old versions of protoc generated; if it is that of "
            "caffe.proto, replace the file's text by: from caffe.proto.caffe_pb2 import *"
        )
    compares = (
        r"'cmp' is an invalid keyword|sort\(\) takes no pos|sorted expected 1 argument, got 2"
    )
    if re.search(compares, text):
        return "write key=functools.cmp_to_key(function), after 'import functools'"
    return None
