"""Verb ``install-caffe-command``: scripts with the names of Caffe's tools."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

from caffecompat.errors import FileProblem

HELP = "write a script named caffe, so that old command lines work; replaces no other program"

EXAMPLE = """\
  caffecompat install-caffe-command
  caffecompat install-caffe-command --dir build/tools --tools"""

_MARK = "# Written by: caffecompat install-caffe-command"
# Caffe's other tools; each is also written with .bin at its end.
_TOOLS = (
    "classification",
    "compute_image_mean",
    "convert_annoset",
    "convert_cifar_data",
    "convert_imageset",
    "convert_mnist_data",
    "convert_mnist_siamese_data",
    "extract_features",
    "upgrade_net_proto_binary",
    "upgrade_net_proto_text",
    "upgrade_solver_proto_text",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and whether to write all tools."""
    parser.add_argument(
        "--dir",
        default=sysconfig.get_path("scripts"),
        metavar="DIR",
        help="folder for the script; made if it is missing (default: %(default)s)",
    )
    parser.add_argument(
        "--tools",
        action="store_true",
        help="write Caffe's other tools as well: convert_imageset, convert_imageset.bin, ...",
    )


def run(arguments: argparse.Namespace) -> int:
    """Checks that no other program is hidden or overwritten, then writes."""
    folder = Path(arguments.dir)
    # Name of a script -> the verb that it gives; none for caffe, which is called with one.
    scripts = {"caffe": ""}
    if arguments.tools:
        scripts |= {"caffe.bin": ""}
        scripts |= {f"{name}{suffix}": name for name in _TOOLS for suffix in ("", ".bin")}
    for name in scripts:
        _refuse_another(folder, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, verb in scripts.items():
            (folder / name).write_text(_script(verb))
            (folder / name).chmod(0o755)
    except OSError as error:
        raise FileProblem(f"{folder}: cannot be written: {error.strerror}") from error
    others = f" and {len(scripts) - 1} others beside it" if len(scripts) > 1 else ""
    print(f"wrote {folder / 'caffe'}{others}")
    if not _is_on_path(folder):
        print(f"{folder} is not in PATH; call it as {folder / 'caffe'}")
    return 0


def _script(verb: str) -> str:
    """A shell script that runs a verb with the Python that runs now."""
    root = str(Path(__file__).resolve().parents[3])
    installed = root in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # In a checkout Python finds the package only by PYTHONPATH.
    path = "" if installed else f"PYTHONPATH={shlex.quote(root)}${{PYTHONPATH:+:$PYTHONPATH}} "
    words = f"{shlex.quote(sys.executable)} -m caffecompat{f' {verb}' if verb else ''}"
    export = f"export {path}\n".replace(" \n", "\n") if path else ""
    return f'#!/bin/sh\n{_MARK}\n{export}exec {words} "$@"\n'


def _refuse_another(folder: Path, name: str) -> None:
    """Raises FileProblem if the script would overwrite or hide a program that is not ours."""
    target = folder / name
    if os.path.lexists(target) and not _is_ours(target):
        raise FileProblem(f"{target}: is another program; give another --dir")
    found = shutil.which(name)
    if found and _is_on_path(folder) and not _is_ours(Path(found)):
        raise FileProblem(
            f"{folder / name}: would come beside {found}, another program; give a --dir that is "
            "not in PATH"
        )


def _is_ours(path: Path) -> bool:
    try:
        return _MARK.encode() in path.read_bytes()[:200]
    except OSError:
        return False


def _is_on_path(folder: Path) -> bool:
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.path.realpath(folder) in {os.path.realpath(place) for place in places if place}
