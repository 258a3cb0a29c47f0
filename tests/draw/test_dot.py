"""Graphviz: its text, escapes, pictures, and what is said where it is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caffecompat.draw.dot import DotOptions, dot_text
from caffecompat.draw.rendering import render
from caffecompat.draw.writing import check_new, check_picture_suffix, check_suffix, write_picture
from caffecompat.errors import CaffeError, FileProblem, FormatError, MissingExtra
from tests.draw.nets import (
    HOSTILE,
    INPUT,
    TRAIN_VAL,
    convolution,
    drawn,
    join,
    product,
    quoted,
    relu,
)

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="needs graphviz's program dot")


def text_of(folder: Path, text: str, options: DotOptions | None = None) -> str:
    return dot_text(drawn(folder, text), options or DotOptions())


def test_shapes_and_counts_are_in_the_text(tmp_path: Path) -> None:
    text = text_of(tmp_path, INPUT + convolution("conv", "data") + relu("conv"))
    assert 'label="small, phase TEST, 112 parameters"' in text
    conv = 'label="conv\\nConvolution 3×3 pad 1, 4\\n112 parameters\\nconv_relu\\nReLU"'
    assert conv in text
    assert 'b0 -> b1 [label="data 2×3×9×7"]' in text
    assert "rankdir=TB" in text


def test_options(tmp_path: Path) -> None:
    net = INPUT + convolution("conv", "data").replace("conv", "c", 1).replace(
        "convolution_param", "param { lr_mult: 3 } param { lr_mult: 0 } convolution_param"
    )
    text = text_of(tmp_path, net, DotOptions("LR", learning_rates=True))
    assert "rankdir=LR" in text
    assert "\\nlr_mult 3" in text
    assert "lr_mult" not in text_of(tmp_path, net)


def test_what_cannot_be_built_is_marked(tmp_path: Path) -> None:
    text = text_of(tmp_path, INPUT + join("Mystery", "odd", "data") + product("fc", "odd"))
    assert "odd\\nMystery\\ncannot be built\\nshape unknown" in text
    assert 'b1 -> b2 [label="odd"]' in text
    assert 'style="filled,dashed"' in text


def test_both_data_layers_of_all_phases_are_drawn(tmp_path: Path) -> None:
    text = dot_text(drawn(tmp_path, TRAIN_VAL, "ALL"), DotOptions())
    assert text.count(" -> b2 ") == 2


@needs_dot
def test_hostile_names_stay_labels(tmp_path: Path) -> None:
    names = [*HOSTILE, '"];evil[label="x', "\\N \\G \\E", "<b>bold</b>", "a\nb"]
    net = INPUT + "".join(convolution(quoted(name), "data") for name in names)
    text = text_of(tmp_path, net)
    found = subprocess.run(
        ["dot", "-Tplain"], input=text.encode(), capture_output=True, check=True
    ).stdout.decode()
    assert len(re.findall("^node ", found, re.MULTILINE)) == len(names) + 1
    assert "evil [" not in found
    svg = subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=True)
    drawn_text = svg.stdout.decode()
    assert "<script" not in drawn_text
    assert "\\N \\G \\E" in drawn_text
    assert "&amp;lt;b&amp;gt;" in drawn_text


@needs_dot
@pytest.mark.parametrize(
    ("suffix", "begin"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("DOT", b"dig")]
)
def test_formats(suffix: str, begin: bytes, tmp_path: Path) -> None:
    pytest.importorskip("graphviz")
    target = tmp_path / f"net.{suffix}"
    write_picture(str(target), drawn(tmp_path, INPUT), DotOptions())
    assert target.read_bytes().startswith(begin)


def test_a_missing_program_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("graphviz")
    monkeypatch.setenv("PATH", str(tmp_path))
    target = tmp_path / "net.svg"
    target.write_text("kept")
    with pytest.raises(CaffeError, match="dot is not installed; install it \\(apt-get install"):
        write_picture(str(target), drawn(tmp_path, INPUT), DotOptions())
    assert target.read_text() == "kept"
    write_picture(str(tmp_path / "net.dot"), drawn(tmp_path, INPUT), DotOptions())


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(MissingExtra, match=r"pip install 'caffecompat\[draw\]'"):
        render("digraph {}", "net.svg")


@needs_dot
def test_a_failure_of_the_program_is_one_sentence() -> None:
    pytest.importorskip("graphviz")
    with pytest.raises(CaffeError, match=r"net.svg: graphviz's program dot failed: .*syntax error"):
        render("digraph {", "net.svg")


def test_targets(tmp_path: Path) -> None:
    for name in ("a.html", "a.HTM", "a.svg", "a.gv", "a.pdf"):
        check_suffix(name)
    with pytest.raises(FormatError, match="must end in"):
        check_suffix("net.docx")
    with pytest.raises(FormatError, match="caffecompat draw writes"):
        check_picture_suffix("net.html")
    with pytest.raises(FormatError, match="must end in"):
        render("digraph {}", "net.xyz")
    there = tmp_path / "net.html"
    check_new(str(there), replace=False)
    there.write_text("kept")
    with pytest.raises(FileProblem, match="already exists; replace it with --force"):
        check_new(str(there), replace=False)
    check_new(str(there), replace=True)
    with pytest.raises(FileProblem, match="folder"):
        check_new(str(tmp_path), replace=True)
