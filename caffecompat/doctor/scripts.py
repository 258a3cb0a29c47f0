"""Examines Python scripts that use pycaffe, notebooks, and shell scripts that run caffe."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import string
import tokenize
import warnings
from itertools import islice

from caffecompat.doctor.findings import FileReport, Findings
from caffecompat.doctor.notebooks import code_of_notebook
from caffecompat.doctor.project import MAX_TEXT_BYTES, NOTEBOOK, SHELL, ProjectFile
from caffecompat.doctor.pycaffe_names import missing_names
from caffecompat.errors import CaffeError
from caffecompat.input_files import check_size, read_input
from caffecompat.pycaffe.running.python2 import syntax_hint, uses

_MOST_SYNTAX_ERRORS = 100
# A syntax tree takes some 400 bytes for a byte of Python, and a text with syntax errors is parsed
# again after each: so much is parsed in all.
MAX_CODE_BYTES, _MOST_PARSED = 1 << 20, 4 << 20
# Decoded JSON takes up to 25 bytes for each of a notebook.
MAX_NOTEBOOK_BYTES = 32 << 20
_MOST_RUN_LINES = 100
_RUN_LINE = re.compile(r"(?m)^.*\b(caffe(?:\.bin|\.exe)?)\s+(?:train|test|time|device_query)\b.*$")
# What the converter of Python 2 changes, for the most part.
_OF_PYTHON_2 = ("Python 2: ", "Python 3 has no ")
# The characters of a folder before the program, which may have variables in its name.
_OF_A_PATH = f"{string.ascii_letters}{string.digits}/._-~${{}}"
_LONGEST_FOLDER = 300
_LIMITS = {SHELL: MAX_TEXT_BYTES, NOTEBOOK: MAX_NOTEBOOK_BYTES}


def examine_script(file: ProjectFile, max_bytes: int | None = None) -> FileReport:
    """Examines a script, a notebook or a shell script."""
    findings = Findings(str(file.path))
    limit = _LIMITS.get(file.kind, MAX_CODE_BYTES)
    try:
        text = read_input(file.path, max_bytes or limit).decode("utf-8", "replace")
    except CaffeError as error:
        findings.error(str(error))
        return FileReport(file.shown, file.kind, "", findings.all)
    if file.kind == SHELL:
        return _examine_shell(file, text, findings)
    try:
        commands = _examine_code(file, text, findings, max_bytes or MAX_CODE_BYTES)
    except CaffeError as error:
        findings.error(str(error))
        commands = []
    except (RecursionError, MemoryError):
        findings.error("it is nested too deeply, or too large, to be examined")
        commands = []
    return FileReport(file.shown, file.kind, "", findings.all, commands)


def _examine_code(file: ProjectFile, text: str, findings: Findings, limit: int) -> list[str]:
    """Examines Python; returns what to run next."""
    if file.kind == NOTEBOOK:
        try:
            text = code_of_notebook(text)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            findings.error(f"this is no notebook: {error}")
            return []
        check_size(len(text), limit, f"{file.path}: the code of its cells")
    tree = _parsed(text, str(file.path), findings)
    for line, sentence in uses(tree):
        findings.error(sentence, f"{file.path}:{line}")
    for line, name in missing_names(tree):
        findings.error(
            f"{name} does not exist in caffecompat's pycaffe (docs/pycaffe.md lists what does)",
            f"{file.path}:{line}",
        )
    if file.kind == NOTEBOOK:
        return []
    if any(finding.sentence.startswith(_OF_PYTHON_2) for finding in findings.all):
        # In a program of a package the converter would make its imports relative.
        without = " -x import" if _is_program(tree) else ""
        return [f"{_converter()} -w -n{without} {shlex.quote(str(file.path))}"]
    if findings.has_errors or not _is_program(tree):
        return []
    return [f"python -m caffecompat.run {shlex.quote(str(file.path))}"]


def _converter() -> str:
    """The command that converts Python 2: Python had it up to 3.12, later ones get it from PyPI."""
    if importlib.util.find_spec("lib2to3"):
        return "python -m lib2to3"
    return "pip install fissix && python -m fissix"


def _examine_shell(file: ProjectFile, text: str, findings: Findings) -> FileReport:
    for found in islice(_RUN_LINE.finditer(text), _MOST_RUN_LINES):
        line = text.count("\n", 0, found.start()) + 1
        findings.note(_how_it_runs(found), f"{file.path}:{line}")
    return FileReport(file.shown, file.kind, "", findings.all)


def _how_it_runs(line: re.Match[str]) -> str:
    """What to do with a line that calls Caffe's program."""
    before = line[0][: line.start(1) - line.start()]
    folder = before[len(before.rstrip(_OF_A_PATH)) :][-_LONGEST_FOLDER:]
    text = f"runs with caffecompat in place of {folder}{line[1]}"
    # The verb writes no .exe, and it cannot set a variable such as $caffe.
    if line[1].endswith(".exe") or (folder and not folder.endswith("/")):
        return text
    where = f" --dir {folder}" if folder else ""
    tools = " --tools" if line[1].endswith(".bin") else ""
    return f"{text}, or after 'caffecompat install-caffe-command{where}{tools}'"


def _parsed(text: str, path: str, findings: Findings) -> ast.Module:
    """The syntax tree; lines of Python 2 are reported and left out."""
    lines = text.splitlines()
    for _ in range(min(_MOST_SYNTAX_ERRORS, 1 + _MOST_PARSED // max(len(text), 1))):
        try:
            with warnings.catch_warnings():
                # About escapes in strings of scripts, which a run would print.
                warnings.simplefilter("ignore")
                return ast.parse("\n".join(lines) + "\n")
        except (SyntaxError, ValueError) as error:
            number = getattr(error, "lineno", None) or 0
            hint = syntax_hint(error, lines) if isinstance(error, SyntaxError) else None
            why = error.msg if isinstance(error, SyntaxError) else error
            said = f"Python 2: {hint}" if hint else f"this is no Python 3: {why}"
            findings.error(said, f"{path}:{number}" if number else path)
            if isinstance(error, TabError) and any("\t" in line for line in lines):
                lines = [line.expandtabs() for line in lines]
                continue
            if hint is None or not 0 < number <= len(lines):
                break
            indent = re.match(r"\s*", lines[number - 1])
            replaced = "pass" if not lines[number - 1].rstrip().endswith(":") else "if True:"
            if re.match(r"\s*except\b", lines[number - 1]):
                replaced = "except Exception:"
            last = _last_line(lines, number - 1)
            lines[number - 1 : last + 1] = [f"{indent[0] if indent else ''}{replaced}"] + [""] * (
                last - number + 1
            )
    return ast.Module([], [])


def _last_line(lines: list[str], first: int) -> int:
    """The index of the line in which the statement that begins in a line ends."""
    try:
        for token in tokenize.generate_tokens((f"{line}\n" for line in lines[first:]).__next__):
            if token.type == tokenize.NEWLINE:
                return first + token.end[0] - 1
    except (tokenize.TokenError, SyntaxError):
        pass
    return first


def _is_program(tree: ast.Module) -> bool:
    """Whether a file does something when it is run: more than imports and definitions."""
    passive = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)
    return any(
        not isinstance(node, passive)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in tree.body
    )
