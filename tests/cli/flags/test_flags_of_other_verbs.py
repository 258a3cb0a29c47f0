"""Advice about a flag that the verb in use does not have names the verbs that have it."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.flags.flags_of_other_verbs import with_verbs_that_have_them
from caffecompat.cli.main import load_verb, main, verb_parser
from caffecompat.data.codec.images import encode_image

NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 6 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn" type: "BN" bottom: "conv" top: "bn" }
layer { name: "pool" type: "Pooling" bottom: "bn" top: "pool" pooling_param { kernel_size: 2 %s } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
  inner_product_param { num_output: 2 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
IMAGES = "--mean 0 --scales 8"
AMBIGUOUS = [
    f"classify image.png --weights w.caffemodel --model net.prototxt {IMAGES}",
    f"evaluate --data list.txt --weights w.caffemodel --model net.prototxt {IMAGES}",
    f"features --data list.txt -o f.h5 --weights w.caffemodel --model net.prototxt {IMAGES}",
    "deploy net.prototxt out.prototxt",
    "graph net.prototxt",
    "inspect net.prototxt",
    "inspect w.caffemodel --model net.prototxt",
    "summary net.prototxt",
    "time --model net.prototxt --iterations 1",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A net whose BN could be of two forks, its weights, an image and a list of it."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET % "")
    Net("net.prototxt", dialect="segnet").save("w.caffemodel")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    Path("image.png").write_bytes(encode_image(pixels, "png"))
    Path("list.txt").write_text("image.png 0\n")
    return tmp_path


@pytest.mark.parametrize("command", AMBIGUOUS)
def test_the_dialect_can_be_given_where_the_message_asks_for_it(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 1
    advice = re.search(
        r"several forks .* state one of them, as in .* \((--dialect segnet)\)$",
        capsys.readouterr().err,
    )
    assert advice is not None
    assert main([*command.split(), *advice[1].split()]) == 0


@pytest.mark.parametrize("command", [*AMBIGUOUS[:3], "time --model net.prototxt --iterations 1"])
def test_fields_of_forks_are_passed_over_where_the_message_says_so(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*command.split(), "--dialect", "segnet"]
    for field in ("temporal_stride: 2", "nobody_has_this: 2"):
        Path("net.prototxt").write_text(NET % field)
        assert main(words) == 1
        assert "--lenient" in capsys.readouterr().err
        assert main([*words, "--lenient"]) == 0


def test_a_verb_without_the_flag_names_those_that_have_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("net.prototxt").write_text(NET % "temporal_stride: 2")
    words = "convert w.caffemodel out.py --model net.prototxt --dialect segnet"
    assert main(words.split()) == 1
    error = capsys.readouterr().err.strip()
    found = re.search(r"[(]--lenient is a flag of (.*); not of this verb[)]$", error)
    assert found is not None, error
    verbs = re.split(", | and ", found[1])
    assert {"classify", "deploy", "summary", "test"} <= set(verbs)
    for name in verbs:
        assert "--lenient" in verb_parser(name, load_verb(name)).format_help()


def test_a_verb_that_has_the_flag_says_nothing_more() -> None:
    sentence = "no; add --max-bytes 5 or --lenient"
    none = with_verbs_that_have_them(sentence, Namespace(max_bytes=1, lenient=False), list)
    assert none == sentence


def test_the_verbs_that_have_a_flag_are_named() -> None:
    usages = [("one", "usage: one [--max-bytes N]"), ("two", "[--lenient]"), ("six", "--max-bytes")]
    found = with_verbs_that_have_them("no; add --max-bytes 5", Namespace(), lambda: usages)
    assert found == (
        "no; add --max-bytes 5 (--max-bytes is a flag of one and six; not of this verb)"
    )
