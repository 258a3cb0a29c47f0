"""pyproject.toml lists the requirements, and an installed wheel of this tree works."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

import caffecompat
from caffecompat.data.codec.images import encode_image
from caffecompat.errors import MissingExtra

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[1]
# What pip calls, which would take a second more.
BUILD = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
NO_OPENCV = "raise ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')\n"
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 2 } }
"""


def pyproject() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))


def project() -> dict[str, Any]:
    found: dict[str, Any] = pyproject()["project"]
    return found


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[>=<;\[]", requirement)[0].strip() for requirement in requirements}


def extras_of_all() -> set[str]:
    (requirement,) = project()["optional-dependencies"]["all"]
    return set(requirement.removeprefix("caffecompat[").removesuffix("]").split(","))


def test_every_requirement_has_a_tested_version() -> None:
    extras = project()["optional-dependencies"]
    wanted = names(project()["dependencies"]).union(*map(names, extras.values()))
    pins = (REPOSITORY / "constraints.txt").read_text("utf-8")
    assert wanted - {"caffecompat"} <= set(re.findall(r"^([\w-]+)==", pins, re.MULTILINE))


def test_the_tests_have_what_builds_a_wheel() -> None:
    """A new environment of Python 3.10 has setuptools 65, which takes no license as a string."""
    needed = set(pyproject()["build-system"]["requires"])
    assert needed <= set(project()["optional-dependencies"]["test"])


def test_in_a_checkout_that_is_not_installed_pip_installs_the_checkout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> NoReturn:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    said = str(MissingExtra("ONNX", "onnx"))
    found = re.fullmatch(r"ONNX needs an extra: pip install '(.+)\[(.+)\]'", said)
    assert found is not None
    settings = tomllib.loads((Path(found[1]) / "pyproject.toml").read_text("utf-8"))
    assert found[2] in settings["project"]["optional-dependencies"]


def test_extras_that_messages_name_exist() -> None:
    named, makers = set(), ("MissingExtra", "needing_extra")
    for path in (REPOSITORY / "caffecompat").rglob("*.py"):
        text = path.read_text("utf-8")
        for call in ast.walk(ast.parse(text)) if any(maker in text for maker in makers) else ():
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in makers:
                if isinstance(call.args[1], ast.Constant):
                    named.add(call.args[1].value)
                else:  # of needing_extra itself
                    assert path.name == "errors.py"
    assert named
    assert named <= set(project()["optional-dependencies"])
    assert named <= extras_of_all()


def test_all_is_every_extra_for_users() -> None:
    # An environment should hold one of OpenCV's two distributions only.
    users = set(project()["optional-dependencies"]) - {"all", "test", "opencv"}
    assert extras_of_all() == users


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with a wheel of this tree in it, over the libraries of this one.

    Returns:
        the folder of its modules.
    """
    work = tmp_path_factory.mktemp("wheel")
    tree = work / "tree"
    # A build leaves folders in its tree, so it gets a copy, without those of an earlier one.
    ignored = shutil.ignore_patterns(".*", "tests", "__pycache__", "build", "quickstart-run")
    shutil.copytree(REPOSITORY, tree, ignore=ignored)
    command = [sys.executable, "-c", BUILD, str(work)]
    subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = work.glob("caffecompat-*.whl")
    assert wheel.name.startswith(f"caffecompat-{caffecompat.__version__}-")
    venv.create(work / "venv", with_pip=False)
    (modules,) = (work / "venv").glob("lib/python*/site-packages")
    shutil.unpack_archive(wheel, modules, "zip")
    libraries = [path for path in sys.path if path.endswith("-packages")]
    (modules / "libraries.pth").write_text("\n".join(libraries) + "\n")
    return modules


def run(environment: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the wheel's caffecompat, away from this checkout."""
    python = environment.parents[2] / "bin" / "python"
    return subprocess.run(
        [str(python), "-m", "caffecompat", *arguments],
        cwd=environment.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_wheel_works_where_it_is_installed(environment: Path, tmp_path: Path) -> None:
    net = tmp_path / "net.prototxt"
    net.write_text(NET)
    result = run(environment, "summary", str(net))
    assert (result.returncode, result.stderr) == (0, "")
    assert "InnerProduct" in result.stdout
    drawn = run(environment, "draw", str(net))
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert "class Layout" in (tmp_path / "net.html").read_text("utf-8")
    assert run(environment, "--version").stdout == f"caffecompat {caffecompat.__version__}\n"


def test_without_opencv_the_message_names_the_extra(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.png 0\n")
    (tmp_path / "a.png").write_bytes(encode_image(np.zeros((3, 5, 3), np.uint8), "png"))
    (environment / "cv2.py").write_text(NO_OPENCV)
    try:
        target = tmp_path / "lmdb"
        result = run(
            environment,
            "convert-imageset",
            f"{tmp_path}/",
            str(tmp_path / "list.txt"),
            str(target),
        )
    finally:
        (environment / "cv2.py").unlink()
    assert result.returncode == 1
    assert "pip install 'caffecompat[opencv-headless]'" in result.stderr
    assert "Traceback" not in result.stderr
    assert not target.exists()
