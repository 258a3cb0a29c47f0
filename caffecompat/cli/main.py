"""``caffecompat VERB ...``: finds the verb, parses its arguments, prints errors."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import pkgutil
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from types import ModuleType
from typing import Any

from caffecompat.cli import verbs
from caffecompat.cli.flags.flag_files import with_flag_files
from caffecompat.cli.flags.flags_of_caffe import add_flags_of_caffe
from caffecompat.cli.flags.flags_of_other_verbs import with_verbs_that_have_them
from caffecompat.cli.flags.parsing import VerbParser
from caffecompat.cli.flags.spelling import normalise
from caffecompat.cli.starting import LoadedWithoutCollections, slow_loading_reported
from caffecompat.errors import CaffeError, suggestion
from caffecompat.kept_memory import keep_freed_memory
from caffecompat.reporting import terminal

DONE, FAILED, BAD_USAGE = 0, 1, 2

# In characters: room for several paths of the greatest length.
_LONGEST_SENTENCE = 20_000


def main(argv: Sequence[str] | None = None, own_process: bool = False) -> int:
    """Runs one verb.

    Args:
        argv: the words after the command's name.
        own_process: whether this process is for this verb alone, which may set up its allocator.

    Returns:
        0 done, 1 bad input or failed job, 2 bad usage.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        terminal.accept_any_text(stream)
    if arguments and arguments[0] in ("caffe", "caffe.bin"):
        # ./build/tools/caffe, with its folder replaced by "caffecompat ".
        arguments.pop(0)
    if len(arguments) > 1 and arguments[0] == "help":
        arguments = [arguments[1], "--help"]
    try:
        arguments = with_flag_files(arguments)
    except CaffeError as error:
        return _fail(str(error))
    # Caffe's tool takes flags before the verb too; the verb is the first word that names one.
    names = verb_names()
    at = next((i for i, word in enumerate(arguments) if _verb(word) in names), None)
    if at is None:
        return _without_verb(arguments, names)
    name = _verb(arguments.pop(at))
    module = load_verb(name)
    if own_process and getattr(module, "RUNS_NETS", False):
        keep_freed_memory()
    parser = verb_parser(name, module)
    try:
        return run_verb(module, parser.parse_args(normalise(arguments, parser)))
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else BAD_USAGE


def _open_closed_streams() -> None:
    """Gives a process that was started without standard output or error (``>&-``) an empty one.

    A daemon may be; otherwise the next file that is opened would get what is printed.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def console() -> int:
    """The installed command: :func:`main`, without a traceback for Ctrl-C at its end."""
    LoadedWithoutCollections().insert()
    try:
        return main(own_process=True)
    except KeyboardInterrupt:
        return _fail("interrupted")
    finally:
        # Python's own shutdown would answer a second Ctrl-C with a traceback.
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_verb(module: ModuleType, arguments: argparse.Namespace) -> int:
    """Runs a verb with parsed arguments; prints errors and returns the exit code."""
    output: Any = terminal.PrintableOutput(sys.stdout)
    try:
        with slow_loading_reported(sys.stderr), contextlib.redirect_stdout(output):
            code: int = module.run(arguments)
        sys.stdout.flush()
        return code
    except CaffeError as error:
        said = str(error).removesuffix(error.copied).rstrip("\n") + _hint_about_code(error)
        return _fail(with_verbs_that_have_them(said, arguments, _usages), error.copied)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}")
    except UnicodeEncodeError as error:
        return _fail(
            f"{error.object!r} has characters that {error.encoding}, the encoding of this locale, "
            "does not have; set the environment variable PYTHONUTF8=1"
        )
    except MemoryError:
        return _fail("out of memory; try a smaller batch_size")
    except RuntimeError as error:
        # By name and words, since torch may not be installed.
        if type(error).__name__ == "OutOfMemoryError":
            where = "GPU memory"
        elif "can't allocate memory" in str(error):
            where = "memory"
        else:
            raise
        return _fail(f"out of {where}; try a smaller batch_size, or train --auto-iter-size")
    except KeyboardInterrupt:
        return _fail("interrupted")


def _hint_about_code(error: CaffeError) -> str:
    """What to change in a Python layer that raised what caused an error; empty if not known."""
    if type(error).__name__ != "UserCodeError" or error.__cause__ is None:
        return ""
    from caffecompat.pycaffe.running.python2 import hint_about

    hint = hint_about(error.__cause__)
    return f"; {hint}" if hint else ""


def _fail(sentence: str, copied: str = "") -> int:
    """Prints an error, whose lines get a prefix, and a text to copy, whose lines get none."""
    who = terminal.as_error("caffecompat: error:", sys.stderr)
    for line in sentence.split("\n"):
        # A name of a file may be a million characters long.
        shown = terminal.shorten(terminal.printable(line), _LONGEST_SENTENCE)
        print(f"{who} {shown}", file=sys.stderr)
    for line in f"\n{copied}".rstrip("\n").split("\n") if copied else ():
        print(terminal.printable(line), file=sys.stderr)
    return FAILED


def verb_names() -> list[str]:
    """All verbs, in alphabetical order."""
    return sorted(_modules_by_verb(tuple(verbs.__path__)))


def load_verb(name: str) -> ModuleType:
    return importlib.import_module(_modules_by_verb(tuple(verbs.__path__))[name])


@cache
def _modules_by_verb(folders: tuple[str, ...]) -> dict[str, str]:
    """The modules of the verbs in these folders and the packages in them."""
    modules = pkgutil.walk_packages(folders, f"{verbs.__name__}.")
    return {_verb(m.name.rpartition(".")[2]): m.name for m in modules if not m.ispkg}


def verb_parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """The argument parser of one verb."""
    parser = VerbParser(
        prog=f"caffecompat {name}",
        description=module.HELP,
        epilog=f"example:\n{module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    add_flags_of_caffe(parser, name)
    return parser


def _usages() -> Iterator[tuple[str, str]]:
    """The name and the usage of each verb."""
    for name in verb_names():
        yield name, verb_parser(name, load_verb(name)).format_usage()


def _verb(word: str) -> str:
    """The name of a verb, also from ``upgrade_net_proto_text.bin`` or ``parse_log.py``."""
    word = word.removesuffix(".bin").removesuffix(".py").replace("_", "-")
    return word.removesuffix("-proto-text").removesuffix("-proto-binary")


def _without_verb(arguments: list[str], names: list[str]) -> int:
    if arguments and arguments[0].lstrip("-") in ("h", "help"):
        print(_overview(names))
        return DONE
    if arguments and arguments[0].lstrip("-") in ("v", "version"):
        from caffecompat import __version__

        print(f"caffecompat {__version__}")
        return DONE
    words = [word for word in arguments if not word.startswith("-")]
    if words and (words[0] in ("run", "python") or words[0].endswith(".py")):
        script = arguments[1:] if arguments[0] in ("run", "python") else arguments
        line = f"python -m caffecompat.run {shlex.join(script) or 'script.py'}"
        print(f"caffecompat: this is no verb; to run a script: {line}", file=sys.stderr)
        return BAD_USAGE
    forgotten = _verb_for_flags(arguments)
    if forgotten:
        line = shlex.join(["caffecompat", forgotten, *arguments])
        print(f"caffecompat: did you forget the verb? {line}", file=sys.stderr)
    elif words:
        print(
            f"caffecompat: unknown verb {words[0]!r}{suggestion(_verb(words[0]), names)}",
            file=sys.stderr,
        )
    else:
        print(_overview(names), file=sys.stderr)
    return BAD_USAGE


def _verb_for_flags(arguments: list[str]) -> str | None:
    """The verb that takes these flags, or a file alone; None if that is not clear."""
    if not arguments:
        return None
    if not arguments[0].startswith("-"):
        return "inspect" if os.path.exists(arguments[0]) else None
    flags = {word.lstrip("-").partition("=")[0] for word in arguments if word.startswith("-")}
    if "solver" in flags:
        return "train"
    return "test" if {"model", "weights"} <= flags else None


def _overview(names: list[str]) -> str:
    width = max(len(name) for name in names)
    lines = [f"  {name:<{width}}  {load_verb(name).HELP}" for name in names]
    return "\n".join(
        [
            "usage: caffecompat VERB [options]",
            "",
            "Run, train, check and convert Caffe models.",
            "",
            "verbs:",
            *lines,
            "",
            "caffecompat VERB --help describes one verb. Files and flags may come in any order.",
            "Caffe's spellings work too: -solver x, --solver=x, device_query.",
        ]
    )
