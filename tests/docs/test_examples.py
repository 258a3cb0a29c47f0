"""The complete examples in docs/ run as they are printed."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.programs import run_program

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def save_files(page: Path, folder: Path) -> list[str]:
    """Writes every code block that carries a file name."""
    found = BLOCK.findall(page.read_text())
    for name, text in found:
        (folder / name).write_text(text)
    return [name for name, _ in found]


def run_forked(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
    """What ``subprocess.run`` does with a command that starts Python."""
    assert command[0] == sys.executable
    assert check
    result = run_program(command[1:], Path.cwd())
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    result.check_returncode()
    return result


IMAGES = ("cat.jpg", "dog.jpg")


def test_the_page_about_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names = save_files(ROOT / "docs" / "python.md", tmp_path)
    for seed, name in enumerate(IMAGES):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / name), pixels)
    (tmp_path / "labels.txt").write_text("\n".join("abcde"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(subprocess, "run", run_forked)
    shown = {}
    for name in names:
        if name.endswith(".py") and name != "workers.py":
            runpy.run_path(name, run_name="__main__")
            out, err = capfd.readouterr()
            assert err == ""
            shown[name] = out.splitlines()
    monkeypatch.delitem(sys.modules, "features")
    assert shown["first.py"][0] == "Net 'small', phase TEST, 7 layers, 25,797 parameter values"
    assert shown["blobs.py"] == []
    assert shown["module.py"] == ["torch.Size([2, 5]) tensor(True)"]
    assert shown["features.py"] == ["(2, 16)"]
    assert len(shown["classify.py"]) == 4  # the import of features.py prints a line too
    assert shown["finetune.py"] == ["['conv1', 'fc6'] ['fc8_flowers']", "True"]
    assert shown["gradient.py"] == ["True"]
    assert shown["surgery.py"] == ["True (1, 5, 17, 9)"]
    assert shown["plain.py"][-1] == "torch.Size([1, 5])"


def test_several_processes(tmp_path: Path) -> None:
    """By itself: processes that are spawned import the program that was started."""
    assert "workers.py" in save_files(ROOT / "docs" / "python.md", tmp_path)
    command = [sys.executable, "workers.py"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert found.stdout == "24\n", found.stderr


def test_the_page_about_inference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save_files(ROOT / "docs" / "python.md", tmp_path)  # for deploy.prototxt
    assert save_files(ROOT / "docs" / "inference.md", tmp_path) == ["optimize.py"]
    monkeypatch.chdir(tmp_path)
    runpy.run_path("optimize.py", run_name="__main__")
    out, err = capfd.readouterr()
    assert out.strip().removesuffix("-parts") in ("torch", "onnxruntime", "openvino")
    assert f"engine {out.strip()}, fp32" in err.splitlines()


def test_a_layer_of_your_own(tmp_path: Path) -> None:
    assert save_files(ROOT / "docs" / "layers.md", tmp_path) == [
        "swoosh.py",
        "swoosh.prototxt",
        "run.py",
    ]
    result = run_program(["run.py"], tmp_path)
    assert result.stderr == ""
    assert result.stdout == "torch.Size([3]) True\n"
