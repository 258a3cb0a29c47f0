"""The command line's frame: verbs, Caffe's spellings, exit codes, sentences instead of traces."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

import caffecompat
from caffecompat.cli.flags.spelling import normalise
from caffecompat.cli.main import load_verb, main, verb_names, verb_parser
from tests.places import REPOSITORY
from tests.programs import run_program

NET = """
name: "tiny"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 3 dim: 5 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 6 kernel_size: 3 group: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        inner_product_param { num_output: 7 } }
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return str(path)


class TestVerbs:
    @pytest.mark.parametrize("name", verb_names())
    def test_the_help_of_each_verb_has_an_example(
        self, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        module = load_verb(name)
        assert len(module.HELP) <= 90
        assert not module.HELP.endswith(".")
        assert f"caffecompat {name}" in module.EXAMPLE
        assert max(map(len, module.EXAMPLE.splitlines())) <= 100
        assert main([name, "--help"]) == 0
        assert module.EXAMPLE.strip().splitlines()[0] in capsys.readouterr().out

    def test_no_two_files_have_one_name(self) -> None:
        files = [
            path
            for path in (REPOSITORY / "caffecompat/cli/verbs").rglob("*.py")
            if path.name != "__init__.py"
        ]
        assert sorted(path.stem.replace("_", "-") for path in files) == verb_names()

    def test_overview(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--help"]) == 0
        out = capsys.readouterr().out
        assert all(f"  {name} " in out for name in verb_names())

    def test_help_of_a_verb(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["help", "parse_log"]) == 0
        assert capsys.readouterr().out.startswith("usage: caffecompat parse-log ")
        assert main(["help", "nosuch"]) == 2

    @pytest.mark.parametrize("words", [["run"], ["python"], []])
    def test_a_script_is_no_verb(
        self,
        words: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("my script.py").write_text("import sys, caffe; print(caffe.TEST, sys.argv[1:])\n")
        assert main([*words, "my script.py", "--x"]) == 2
        start = "caffecompat: this is no verb; to run a script: python "
        said = capsys.readouterr().err
        assert said.startswith(start)
        command = shlex.split(said.removeprefix(start))
        assert run_program(command, tmp_path).stdout == "1 ['--x']\n"

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"caffecompat {caffecompat.__version__}\n"

    def test_bad_usage(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 2
        assert main(["sumary", "x"]) == 2
        assert "unknown verb 'sumary'; did you mean 'summary'?" in capsys.readouterr().err
        assert main(["summary"]) == 2
        assert main(["summary", "x", "--nosuch"]) == 2

    def test_a_verb_is_one_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        from caffecompat.cli import verbs

        (tmp_path / "say_hello.py").write_text(
            "HELP = 'greet'\nEXAMPLE = '  caffecompat say-hello'\n"
            "def add_arguments(parser): parser.add_argument('--name')\n"
            "def run(arguments): return 0 if arguments.name == 'Ann' else 1\n"
        )
        monkeypatch.setattr(verbs, "__path__", [*verbs.__path__, str(tmp_path)])
        assert "say-hello" in verb_names()
        assert main(["say_hello", "-name", "Ann"]) == 0
        assert main(["say-hello", "--name=Bo"]) == 1


def spelled(*words: str) -> list[str]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--resize-width", type=int)
    parser.add_argument("--gpu")
    parser.add_argument("--gray", action="store_true")
    parser.add_argument("rest", nargs="*")
    return normalise(words, parser)


class TestSpelling:
    @pytest.mark.parametrize(
        "words",
        [
            ("-resize_width", "-1"),
            ("--resize_width=-1",),
            ("-resize-width=-1",),
            ("--resize-width", "-1"),
        ],
    )
    def test_flags(self, words: tuple[str, ...]) -> None:
        assert spelled(*words) == ["--resize-width=-1"]

    @pytest.mark.parametrize("word", ["-gray", "--gray", "--gray=true", "-gray=1", "--gray=T"])
    def test_switch_on(self, word: str) -> None:
        assert spelled(word) == ["--gray"]

    @pytest.mark.parametrize("word", ["--nogray", "--gray=false", "-gray=0", "-nogray"])
    def test_switch_off(self, word: str) -> None:
        assert spelled("--gray", word) == []

    @pytest.mark.parametrize(
        "words",
        [
            ("--logtostderr", "db"),
            ("-logtostderr=1", "db"),
            ("--minloglevel=2", "db"),
            ("-minloglevel", "2", "db"),
            ("-v", "1", "db"),
            ("--log_dir=/tmp", "--nolog_prefix", "db"),
        ],
    )
    def test_flags_of_the_logging_library_are_dropped(self, words: tuple[str, ...]) -> None:
        assert spelled(*words) == ["db"]

    def test_sub_commands(self) -> None:
        parser = argparse.ArgumentParser()
        actions = parser.add_subparsers()
        split = actions.add_parser("split")
        split.add_argument("--new-fraction")
        split.add_argument("--loud", action="store_true")
        words = ["split", "-new_fraction", "0.5", "-loud", "db"]
        assert normalise(words, parser) == ["split", "--new-fraction=0.5", "--loud", "db"]
        assert normalise(["split", "--help"], parser) == ["split", "--help"]

    def test_help_of_a_dataset_action(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["dataset", "split", "--help"]) == 0
        assert "caffecompat dataset split" in capsys.readouterr().out

    def test_the_rest_is_left_alone(self) -> None:
        assert spelled("a/", "-x", "--gray=maybe") == ["a/", "-x", "--gray=maybe"]
        assert spelled("--", "-gpu") == ["--", "-gpu"]

    def test_verbs_with_a_dash_or_underscore(self, net: str) -> None:
        parser = verb_parser("summary", load_verb("summary"))
        assert parser.prog == "caffecompat summary"
        assert main(["-phase", "TRAIN", "summary", net]) == 0


class TestSummary:
    def test_counts(self, net: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["summary", net]) == 0
        out = capsys.readouterr().out
        conv = next(line for line in out.splitlines() if line.startswith("conv"))
        assert conv.split() == ["conv", "Convolution", "2x6x3x2", "6x1x3x3", "6", "60", "648"]
        assert "total: 319 parameters" in out
        assert "1,152 multiply-adds for a batch of 2" in out

    def test_missing_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["summary", "nosuch.prototxt"]) == 1
        assert capsys.readouterr().err == (
            f"caffecompat: error: nosuch.prototxt: there is no such file (from {Path.cwd()})\n"
        )

    def test_several_mistakes_are_several_lines(
        self, net: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path(net).write_text(NET.replace("kernel_size", "kernel_sise").replace("group", "grup"))
        assert main(["summary", net]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2
        assert all(line.startswith("caffecompat: error: ") for line in lines)


class TestGraph:
    def test_listing_tells_origins(self, net: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["graph", net]) == 0
        out = capsys.readouterr().out
        assert "layer_relu(layer_conv)" in out
        assert f", lines of {net}\n" in out
        assert "conv'     7  layer 'relu' (ReLU)" in out
        assert "# outputs: fc" in out

    def test_code_and_picture(
        self, net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["graph", net, "--code"]) == 0
        assert "self.layer_relu(layer_conv)" in capsys.readouterr().out
        dot = tmp_path / "net.dot"
        assert main(["graph", net, "--dot", str(dot)]) == 0
        text = dot.read_text()
        assert text.count("->") == 3
        assert "conv' 2x6x3x2" in text

    def test_bad_net(self, net: str, capsys: pytest.CaptureFixture[str]) -> None:
        Path(net).write_text(NET.replace("group: 3", "group: 4"))
        assert main(["graph", net]) == 1
        assert "layer 'conv' (Convolution)" in capsys.readouterr().err


class TestFailures:
    def test_interrupts_and_full_disks_are_sentences(
        self, net: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for problem, sentence in (
            (KeyboardInterrupt(), "interrupted"),
            (OSError(28, "No space left on device", "out.bin"), "out.bin: No space left on device"),
            (MemoryError(), "out of memory"),
        ):

            def fail(_: object, problem: BaseException = problem) -> int:
                raise problem

            monkeypatch.setattr(load_verb("summary"), "run", fail)
            assert main(["summary", net]) == 1
            assert sentence in capsys.readouterr().err
