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
# Caffe builds these in examples/FOLDER beside tools/, where the scripts of its examples call them.
_EXAMPLES = {
    "classification": "cpp_classification",
    "convert_cifar_data": "cifar10",
    "convert_mnist_data": "mnist",
    "convert_mnist_siamese_data": "siamese",
}


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
        help="write Caffe's other tools as well: convert_imageset, convert_imageset.bin, ...; for "
        "a folder called tools those of Caffe's examples also in examples/ beside it",
    )


def run(arguments: argparse.Namespace) -> int:
    """Checks that no other program is hidden or overwritten, then writes."""
    folder = Path(arguments.dir)
    scripts = _scripts(folder, arguments.tools)
    for path in scripts:
        _refuse_another(path)
    for path, verb in scripts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_script(verb))
            path.chmod(0o755)
        except OSError as error:
            raise FileProblem(f"{path.parent}: cannot be written: {error.strerror}") from error
    beside = sum(path.parent == folder for path in scripts) - 1
    others = f" and {beside} others beside it" if beside else ""
    print(f"wrote {folder / 'caffe'}{others}")
    if elsewhere := len(scripts) - 1 - beside:
        print(f"wrote {elsewhere} in {_examples_folder(folder)}")
    if not _is_on_path(folder):
        print(f"{folder} is not in PATH; call it as {folder / 'caffe'}")
    return 0


def _scripts(folder: Path, tools: bool) -> dict[Path, str]:
    """The scripts to write -> the verb of each; none for caffe, which is called with one."""
    scripts = {folder / "caffe": ""}
    if not tools:
        return scripts
    scripts[folder / "caffe.bin"] = ""
    suffixes = ("", ".bin")
    scripts |= {folder / f"{name}{suffix}": name for name in _TOOLS for suffix in suffixes}
    if folder.resolve().name == "tools":
        examples = _examples_folder(folder)
        scripts |= {
            examples / place / f"{name}{suffix}": name
            for name, place in _EXAMPLES.items()
            for suffix in suffixes
        }
    return scripts


def _examples_folder(folder: Path) -> Path:
    """Where Caffe builds the programs of its examples, beside its tools."""
    return Path(os.path.normpath(folder / ".." / "examples"))


def _script(verb: str) -> str:
    """A shell script that runs a verb with the Python that runs now."""
    root = str(Path(__file__).resolve().parents[4])
    installed = root in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # In a checkout Python finds the package only by PYTHONPATH.
    path = "" if installed else f"PYTHONPATH={shlex.quote(root)}${{PYTHONPATH:+:$PYTHONPATH}} "
    words = f"{shlex.quote(sys.executable)} -m caffecompat{f' {verb}' if verb else ''}"
    export = f"export {path}\n".replace(" \n", "\n") if path else ""
    return f'#!/bin/sh\n{_MARK}\n{export}exec {words} "$@"\n'


def _refuse_another(target: Path) -> None:
    """Raises FileProblem if the script would overwrite or hide a program that is not ours."""
    folder, name = target.parent, target.name
    if os.path.lexists(target) and not _is_ours(target):
        raise FileProblem(f"{target}: is another program; give another --dir")
    found = shutil.which(name)
    if found and _is_on_path(folder) and not _is_ours(Path(found)):
        raise FileProblem(
            f"{target}: would come beside {found}, another program; give a --dir that is "
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
