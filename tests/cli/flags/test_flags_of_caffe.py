"""Flags that Caffe's tool takes with every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat import Net
from caffecompat.cli.flags.spelling import normalise
from caffecompat.cli.main import load_verb, main, verb_parser
from tests.commands import outcome


@pytest.mark.parametrize(
    ("verb", "words", "kept", "flags"),
    [
        ("test", "-model n -phase TRAIN --weights w", "-model n --weights w", "--phase"),
        ("device-query", "--level=1 -stage a -gpu 0", "-gpu 0", "--level --stage"),
        ("train", "-iterations 3 --solver=s", "--solver=s", "--iterations"),
        (
            "time",
            "--sigint_effect=stop -snapshot x -model n",
            "-model n",
            "--sigint-effect --snapshot",
        ),
        ("test", "-model n -weights w -phase", "-model n -weights w", "--phase"),
    ],
)
def test_those_without_effect_are_left_out(
    verb: str, words: str, kept: str, flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = verb_parser(verb, load_verb(verb))
    given = parser.parse_args(normalise(words.split(), parser))
    said = [f"caffecompat: {verb} ignores {flag}, as Caffe's {verb} does" for flag in flags.split()]
    assert capsys.readouterr().err.splitlines() == said
    assert given == parser.parse_args(normalise(kept.split(), parser))
    assert capsys.readouterr().err == ""
    assert not any(f" {flag} " in parser.format_help() for flag in flags.split())


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("test", "--model n --weights w -foo 3"),
        ("test", "--model n --weights w -- -phase x"),
        ("summary", "net --iterations 3"),
    ],
)
def test_other_words_are_refused(verb: str, words: str) -> None:
    parser = verb_parser(verb, load_verb(verb))
    with pytest.raises(SystemExit):
        parser.parse_args(normalise(words.split(), parser))


def test_a_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device_query", "-level", "1"]) == 0
    assert "device-query ignores --level, as Caffe's device-query does" in capsys.readouterr().err


def test_an_empty_phase_of_time_is_the_default() -> None:
    parser = verb_parser("time", load_verb("time"))
    assert parser.parse_args(["--model=n", "--phase="]).phase == "TRAIN"


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("train", "--solver s"),
        ("test", "--model n --weights w"),
        ("time", "--model n"),
        ("classification", "n w m l i"),
        ("features", "--weights w --data d --output o"),
    ],
)
def test_a_gpu_and_the_cpu(verb: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They contradict each other in either order; Caffe's tool has no --cpu."""
    for both in ("--cpu --gpu 0", "--gpu 0 --cpu", "--gpu=all --cpu"):
        code, _, said = outcome([verb, *words.split(), *both.split()], capsys)
        assert code == 2
        gpu = "all" if "all" in both else "0"
        assert f"--cpu and --gpu {gpu} name different devices; give one of the two" in said
    parser = verb_parser(verb, load_verb(verb))
    for agreed in ("--cpu", "--gpu none --cpu", "--cpu --gpu -1", "--gpu 0 --gpu none --cpu"):
        given = parser.parse_args(normalise(f"{words} {agreed}".split(), parser))
        assert given.gpu in ("none", "-1")
    # As in Caffe's tool the last value of a flag counts.
    given = parser.parse_args(normalise(f"{words} --gpu 0 --gpu 1".split(), parser))
    assert given.gpu == "1"


def test_a_cuda_graph_and_none(capsys: pytest.CaptureFixture[str]) -> None:
    for both in (["--cuda-graph", "--no-cuda-graph"], ["--no-cuda-graph", "--cuda-graph"]):
        code, _, said = outcome(["train", "--solver", "s", *both], capsys)
        assert (code, "not allowed with argument" in said) == (2, True)


NET = """
layer { name: "data" type: "DummyData" top: "data" dummy_data_param {
  shape { dim: 2 dim: 3 } data_filler { type: "constant" value: 1 } } }
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" inner_product_param {
  num_output: 2 bias_term: false weight_filler { type: "constant" value: %s } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param {
  num_output: 1 bias_term: false weight_filler { type: "constant" value: %s } } }
"""


def test_several_weight_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are separated by commas, as Caffe's train has them; of a layer the last file counts."""
    monkeypatch.chdir(tmp_path)
    for name, values in (("one", (5, 6)), ("other", (7, 8))):
        (tmp_path / "net.prototxt").write_text(NET % values)
        Net("net.prototxt", phase="TEST").save(f"{name}.caffemodel")
    text = (NET % (1, 1)).replace('name: "b"', 'name: "new"')
    (tmp_path / "net.prototxt").write_text(text)
    both = "one.caffemodel, other.caffemodel"
    command = ["test", "--model", "net.prototxt", "--iterations", "1", "--weights"]
    assert main([*command, both]) == 0
    assert "b = 42" in capsys.readouterr().err
    assert main(["time", "--model", "net.prototxt", "--iterations", "1", "--weights", both]) == 0
    capsys.readouterr()
    # A comma in a file's own name stays one.
    Path("one.caffemodel").rename("one,two.caffemodel")
    assert main([*command, "one,two.caffemodel"]) == 0
    assert "b = 30" in capsys.readouterr().err
    assert main([*command, "other.caffemodel,none.caffemodel"]) == 1
    assert "none.caffemodel: there is no such file" in capsys.readouterr().err
