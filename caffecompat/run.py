"""``python -m caffecompat.run script.py ...``: runs a script that imports caffe, unchanged.

``import caffe`` gives :mod:`caffecompat.pycaffe`. The script is ``__main__``; its folder is the
first on the import path, as with ``python script.py``.
"""

from __future__ import annotations

import argparse
import builtins
import linecache
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from types import CodeType, ModuleType

from caffecompat.errors import CaffeError
from caffecompat.kept_memory import keep_freed_memory
from caffecompat.pycaffe.running import spawned
from caffecompat.pycaffe.running.installing import install_as_caffe
from caffecompat.pycaffe.running.python2 import hint_about, syntax_hint
from caffecompat.reporting.code_places import last_place

EXAMPLE = "python -m caffecompat.run classify.py --gpu image.jpg predictions.npy"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a script; returns the exit status: 1 if the script fails, 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m caffecompat.run",
        description="Runs a script that imports caffe, on this package.",
        epilog=f"example: {EXAMPLE}",
    )
    parser.add_argument("--force", action="store_true", help="hide another caffe that is installed")
    parser.add_argument("--cpu", action="store_true", help="set_mode_gpu() has no effect")
    parser.add_argument("--quiet", action="store_true", help="log warnings only")
    parser.add_argument("script", help="the script; - for standard input")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="its arguments")
    given = parser.parse_args(arguments)
    if given.script.endswith(".ipynb"):
        print(_about_a_notebook(given.script), file=sys.stderr)
        return 2
    try:
        source = _read(given.script)
    except OSError as error:
        print(f"{given.script}: {error.strerror}", file=sys.stderr)
        return 2
    keep_freed_memory()
    sys.argv = [given.script, *given.args]
    sys.path.insert(0, os.path.dirname(os.path.abspath(given.script)))
    try:
        install_as_caffe(given.force)
    except CaffeError as error:
        print(error, file=sys.stderr)
        return 1
    # Processes that the script spawns find the name there.
    sys.path.insert(1, os.path.dirname(os.path.abspath(spawned.__file__)))
    _prepare(given.cpu, given.quiet)
    return _run(given.script, source)


def _about_a_notebook(path: str) -> str:
    return (
        f"{path}: this is a notebook; begin its first cell with 'import caffecompat; "
        "caffecompat.install_as_caffe()' and run it in Jupyter, or make a script of it: "
        f"jupyter nbconvert --to script {shlex.quote(path)}"
    )


def _read(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    with open(path, "rb") as file:
        return file.read()


def _prepare(cpu: bool, quiet: bool) -> None:
    # Imported when needed: a script should not wait for torch before its own imports.
    if cpu:
        from caffecompat.pycaffe.mode import stay_on_cpu

        stay_on_cpu()
    if not quiet:
        from caffecompat.pycaffe.script_log import init_log

        init_log()


def _run(path: str, source: bytes) -> int:
    code = _compiled(path, source)
    if code is None:
        return 1
    module = ModuleType("__main__")
    module.__file__ = path
    vars(module)["__builtins__"] = builtins
    sys.modules["__main__"] = module
    try:
        exec(code, vars(module))
    except Exception as error:
        _report(error, path)
        return 1
    return 0


def _compiled(path: str, source: bytes) -> CodeType | None:
    try:
        return compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        traceback.print_exception(type(error), error, None)
        if isinstance(error, SyntaxError):
            lines = source.decode("utf-8", "replace").splitlines()
            _print_hint(path, error.lineno, syntax_hint(error, lines))
        return None


def _report(error: Exception, path: str) -> None:
    """Prints the traceback of a script, without the frames of this module, and a hint."""
    trace = error.__traceback__
    error.__traceback__ = shown = trace.tb_next if trace is not None else None
    traceback.print_exception(type(error), error, shown)
    where, line = last_place(shown) or (path, None)
    if isinstance(error, SyntaxError) and error.filename:
        # In a module that the script imports.
        where, line = error.filename, error.lineno
    _print_hint(where, line, hint_about(error))


def _print_hint(path: str, line: int | None, hint: str | None) -> None:
    if hint is None:
        return
    text = linecache.getline(path, line).strip() if line else ""
    quoted = f" ({text})" if text else ""
    print(f"{path}:{line}: {hint}{quoted}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
